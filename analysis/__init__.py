"""Questions and answers: how much of its world's dynamics an agent holds, between a floor and a ceiling.

A recording and an agent go in; measurements, the ladder of claims, figures and a report come out. Decoders are fitted across
episodes, floors and twins stand on the same streams, and every share carries its interval.

Examine any agent on a recorded stream, here one whose hidden state is the exact belief:

>>> import tempfile
>>> from worldprobe.activations import CommonBehaviour, record
>>> from worldprobe.agents import BeliefAgent
>>> from worldprobe.analysis import Examination, ExamineConfig, FloorConfig, Labels, Stream, as_table
>>> from worldprobe.worlds import make_world
>>> world = make_world("tmaze")
>>> agent = BeliefAgent(world, frozenset({"observation", "action"}))
>>> config = ExamineConfig(floors=FloorConfig(forms=("linear",)))
>>> with tempfile.TemporaryDirectory() as folder:
...     recording = record(agent, world, f"{folder}/common.wpr", CommonBehaviour(world), n_episodes=200, seed=0)
...     examination = Examination(agent, Stream(world, recording, Labels(world.factors)), "common", config=config)
...     table = as_table(examination.updates())
>>> headline = table[(table.factor == "position") & (table.horizon == 5) & (table.quantity == "own-update") & (table.floor == "F0 best")]
>>> bool((headline.estimate > 0.9).all())
True
"""

from worldprobe.analysis._answer import answer
from worldprobe.analysis._bellman_inversion import QTable, invert_bellman
from worldprobe.analysis._bits import BitsConfig, usable_bits
from worldprobe.analysis._cells import LENSES, Lens
from worldprobe.analysis._closed_loop import closed_loop
from worldprobe.analysis._coherence import Coherence, measure_coherence, optimal_actions
from worldprobe.analysis._config import ConfigError, RunConfig, StreamConfig, command_line, preset, read_config
from worldprobe.analysis._counterfactual import Decisions, exchange_classes, find_decisions
from worldprobe.analysis._decoders import Decoder
from worldprobe.analysis._emergence import emergence, reweighted_emergence
from worldprobe.analysis._erasing import (
    DoseResponse,
    ErasingConfig,
    Erasure,
    Necessity,
    erase_factor,
    erasing,
    measure_necessity,
)
from worldprobe.analysis._examine import Examination, ExamineConfig, Twins
from worldprobe.analysis._examine_recordings import examine_recordings
from worldprobe.analysis._extracting import extraction, read_law, read_q_table
from worldprobe.analysis._extraction import ExtractedModel, PlanningReturn
from worldprobe.analysis._figures import draw_beliefs, plot_emergence, plot_model_share, plot_own_update, plot_return, plot_training
from worldprobe.analysis._findings import Findings
from worldprobe.analysis._floors import FloorConfig
from worldprobe.analysis._further_updates import further_updates
from worldprobe.analysis._goal_queries import Chooser, GoalQuery, myopic_chooser, optimal_chooser, query_goals
from worldprobe.analysis._gradients import Gradients, measure_gradients
from worldprobe.analysis._intervention_figures import plot_doses, plot_steering
from worldprobe.analysis._interventions import InterveneConfig, coherence, necessity, steering
from worldprobe.analysis._labels import Labels
from worldprobe.analysis._ladder import Rung, climb
from worldprobe.analysis._measurement import Cell, LossSums, Measurement, Share, measure
from worldprobe.analysis._memory_bits import MemoryConfig, memory_bits
from worldprobe.analysis._networks import over_networks
from worldprobe.analysis._neurons import neurons
from worldprobe.analysis._own_update import Future, own_update
from worldprobe.analysis._recorded_agent import RecordedAgent, RecordedWorld
from worldprobe.analysis._report import write_report
from worldprobe.analysis._run import probe_stage, record_stage, report_stage, run, train_stage
from worldprobe.analysis._simulation import Simulation, simulation_similarity
from worldprobe.analysis._sources import Hidden, History, Joined, Lifted, Source
from worldprobe.analysis._steering import Steering, SteeringConfig, steer
from worldprobe.analysis._stream import Stream
from worldprobe.analysis._successor_inversion import invert_successor_features, read_predictions
from worldprobe.analysis._sufficiency import sufficiency
from worldprobe.analysis._tables import as_table, read_table
from worldprobe.analysis._transitions import transitions
from worldprobe.analysis._unit_information import Ablations, UnitInformation, ablate_units, unit_information

__all__ = [
    # one agent, examined
    "Examination",
    "ExamineConfig",
    "FloorConfig",
    "Twins",
    "Stream",
    "Labels",
    # recordings of anybody's agent, examined
    "examine_recordings",
    "RecordedAgent",
    "RecordedWorld",
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
    "reweighted_emergence",
    "usable_bits",
    "own_update",
    "sufficiency",
    "over_networks",
    "as_table",
    "read_table",
    # models that are extracted
    "ExtractedModel",
    "PlanningReturn",
    "QTable",
    "invert_bellman",
    "read_law",
    "read_q_table",
    "invert_successor_features",
    "read_predictions",
    "query_goals",
    "GoalQuery",
    "Chooser",
    "optimal_chooser",
    "myopic_chooser",
    # the own update, further
    "closed_loop",
    "simulation_similarity",
    "Simulation",
    # gradients of the model
    "measure_gradients",
    "Gradients",
    # coherence
    "measure_coherence",
    "Coherence",
    "optimal_actions",
    # single units
    "unit_information",
    "UnitInformation",
    "ablate_units",
    "Ablations",
    # interventions
    "steer",
    "Steering",
    "SteeringConfig",
    "find_decisions",
    "Decisions",
    "exchange_classes",
    "measure_necessity",
    "Necessity",
    "DoseResponse",
    "erase_factor",
    "Erasure",
    "ErasingConfig",
    "erasing",
    # all of it, as rows of the results table
    "coherence",
    "steering",
    "necessity",
    "extraction",
    "neurons",
    "memory_bits",
    "transitions",
    "further_updates",
    # claims
    "Rung",
    "climb",
    # figures and report
    "plot_own_update",
    "plot_model_share",
    "plot_emergence",
    "plot_training",
    "plot_return",
    "plot_steering",
    "plot_doses",
    "draw_beliefs",
    "Findings",
    "answer",
    "write_report",
    # runs
    "RunConfig",
    "StreamConfig",
    "BitsConfig",
    "InterveneConfig",
    "MemoryConfig",
    "ConfigError",
    "LENSES",
    "Lens",
    "command_line",
    "preset",
    "read_config",
    "run",
    "train_stage",
    "record_stage",
    "probe_stage",
    "report_stage",
]
