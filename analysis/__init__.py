"""Questions and answers: how much of its world's dynamics an agent holds, between a floor and a ceiling.

A recording and an agent go in; measurements, the ladder of claims, figures and a report come out. Decoders are fitted across
episodes, floors and twins stand on the same streams, and every share carries its interval.

Examine any agent on a recorded stream:

>>> from worldprobe.analysis import Examination, Stream  # doctest: +SKIP

Or ask everything of a world at once, as the command line does:

>>> from worldprobe.analysis import preset
>>> preset("tmaze").seed
0
"""

from worldprobe.analysis._config import ConfigError, RunConfig, StreamConfig, preset, read_config
from worldprobe.analysis._decoders import Decoder
from worldprobe.analysis._emergence import emergence
from worldprobe.analysis._examine import Examination, ExamineConfig, Twins
from worldprobe.analysis._figures import draw_beliefs, plot_emergence, plot_model_share, plot_own_update, plot_training
from worldprobe.analysis._floors import FloorConfig
from worldprobe.analysis._labels import Labels
from worldprobe.analysis._ladder import Rung, climb
from worldprobe.analysis._measurement import Cell, LossSums, Measurement, Share, as_table, measure
from worldprobe.analysis._own_update import Future, own_update
from worldprobe.analysis._report import Findings, answer, write_report
from worldprobe.analysis._run import probe_stage, record_stage, report_stage, run, train_stage
from worldprobe.analysis._sources import Hidden, History, Joined, Lifted, Source
from worldprobe.analysis._stream import Stream
from worldprobe.analysis._sufficiency import sufficiency

__all__ = [
    # one agent, examined
    "Examination",
    "ExamineConfig",
    "FloorConfig",
    "Twins",
    "Stream",
    "Labels",
    # what a decoder sees, and the decoder
    "Source",
    "History",
    "Hidden",
    "Joined",
    "Lifted",
    "Decoder",
    # measurements
    "Cell",
    "LossSums",
    "Measurement",
    "Share",
    "Future",
    "measure",
    "emergence",
    "own_update",
    "sufficiency",
    "as_table",
    # claims
    "Rung",
    "climb",
    # figures and report
    "plot_own_update",
    "plot_model_share",
    "plot_emergence",
    "plot_training",
    "draw_beliefs",
    "Findings",
    "answer",
    "write_report",
    # runs
    "RunConfig",
    "StreamConfig",
    "ConfigError",
    "preset",
    "read_config",
    "run",
    "train_stage",
    "record_stage",
    "probe_stage",
    "report_stage",
]
