"""worldprobe: does a model of the world emerge inside a model-free agent?

Data flows one way: `worlds` (exact ground truth) -> `agents` (recurrent Q-learners) -> `activations` (recordings)
-> `probes` (instruments on plain arrays) -> `analysis` (questions, controls, figures, the report).
"""

from worldprobe._version import __version__

__all__ = ["__version__"]
