"""Agents: recurrent model-free Q-learners, the systems they are compared with, their training and checkpoints.

In go a world, a network configuration and a seed; out come checkpoints over training, metrics, and objects that satisfy
the `Agent` protocol: `step` them in a world, or take the `activations` of every site over a stretch of inputs.

>>> import tempfile
>>> from worldprobe.agents import NetworkConfig, PqnConfig, load_checkpoint, train_pqn
>>> from worldprobe.worlds import make_world
>>> config = PqnConfig(total_steps=2048, n_envs=16, n_evaluations=1, n_evaluation_episodes=16)
>>> with tempfile.TemporaryDirectory() as directory:
...     result = train_pqn(make_world("tmaze"), NetworkConfig(hidden_size=8), config, directory, seed=0)
...     agent, info = load_checkpoint(result.final)
>>> agent.name, info.step, agent.sites["core.h"]
('trained', 2048, 8)
"""

from worldprobe.agents._agent import Agent, agent_inputs, count_inputs
from worldprobe.agents._algorithms import ALGORITHMS, Algorithm, AnyConfig
from worldprobe.agents._check import AgentContractError, check_agent
from worldprobe.agents._checkpoints import CheckpointError, CheckpointInfo, load_checkpoint, read_checkpoint_info, save_checkpoint
from worldprobe.agents._core_registry import CORES
from worldprobe.agents._cores import Core, CoreShape
from worldprobe.agents._dense import DuelingHead
from worldprobe.agents._drqn import DrqnConfig, DrqnLearner
from worldprobe.agents._edited import Edit, EditableAgent, EditedAgent
from worldprobe.agents._evaluate import EvaluationResult, evaluate_return
from worldprobe.agents._from_json import added, from_json
from worldprobe.agents._gates import GateWeights, check_fused, gru_gates, gru_update, lstm_cells, lstm_gates, lstm_update
from worldprobe.agents._gpi import GpiAgent
from worldprobe.agents._known_answers import PLANTED
from worldprobe.agents._lambda_returns import lambda_returns
from worldprobe.agents._learner import Learner, TrainingDivergedError
from worldprobe.agents._n_step import n_step_targets, rescale, unscale
from worldprobe.agents._network import RecurrentQNetwork, count_parameters, make_network
from worldprobe.agents._network_config import NetworkConfig
from worldprobe.agents._planted import PlantedAgent
from worldprobe.agents._planted_beliefs import BeliefAgent, CodedBeliefAgent
from worldprobe.agents._planted_nulls import ClockAgent, DriftingNoiseAgent, MemorylessAgent, reservoir_agent
from worldprobe.agents._ppo import PpoConfig, PpoLearner
from worldprobe.agents._pqn import PqnConfig, PqnLearner
from worldprobe.agents._presets import lambrechts_preset, training_preset
from worldprobe.agents._r2d2 import R2d2Config, R2d2Learner
from worldprobe.agents._resume import ResumeError
from worldprobe.agents._rollout import Actor, Rollout
from worldprobe.agents._scan import linear_scan
from worldprobe.agents._seeds import seeded_generator
from worldprobe.agents._session import TrainingProgress
from worldprobe.agents._storage import seal, unseal
from worldprobe.agents._tabular import TABULAR, TransferResult, learn_in_turn
from worldprobe.agents._tabular_learners import (
    KeptQLearner,
    PolicyReuseLearner,
    SuccessorFeatureLearner,
    TabularConfig,
    TabularLearner,
    TabularQLearner,
)
from worldprobe.agents._tdm import TdmConfig, TdmLearner
from worldprobe.agents._training import TrainingResult, find_training, train, train_drqn, train_ppo, train_pqn, train_r2d2
from worldprobe.agents._training_config import TrainingConfig
from worldprobe.agents._trunk import Trunk
from worldprobe.agents._twins import echo_state_twins, fresh_initialisations, untrained_twin, weight_noise_twins

__all__ = [
    # the contract
    "Agent", "check_agent", "AgentContractError", "agent_inputs", "count_inputs", "seeded_generator",
    # recurrent Q-networks
    "NetworkConfig", "Trunk", "RecurrentQNetwork", "GpiAgent", "DuelingHead", "make_network", "count_parameters",
    "CORES", "Core", "CoreShape", "linear_scan",
    # the equations that fused kernels hide
    "GateWeights", "lstm_gates", "lstm_update", "lstm_cells", "gru_gates", "gru_update", "check_fused",
    # learning
    "ALGORITHMS", "Algorithm", "AnyConfig", "Learner", "TrainingConfig", "Actor", "Rollout",
    "PqnConfig", "PqnLearner", "R2d2Config", "R2d2Learner", "DrqnConfig", "DrqnLearner",
    "PpoConfig", "PpoLearner", "TdmConfig", "TdmLearner",
    "lambda_returns", "n_step_targets", "rescale", "unscale",
    # tables, task after task
    "TABULAR", "TabularConfig", "TabularLearner", "TabularQLearner", "KeptQLearner", "PolicyReuseLearner", "SuccessorFeatureLearner",
    "learn_in_turn", "TransferResult",
    # training as a tool
    "train", "train_pqn", "train_r2d2", "train_drqn", "train_ppo",
    "training_preset", "lambrechts_preset", "TrainingProgress", "TrainingResult", "find_training", "TrainingDivergedError", "ResumeError",
    # checkpoints and evaluation
    "save_checkpoint", "load_checkpoint", "read_checkpoint_info", "CheckpointInfo", "CheckpointError",
    "evaluate_return", "EvaluationResult",
    # interventions
    "EditedAgent", "EditableAgent", "Edit",
    # JSON that proves itself
    "seal", "unseal", "from_json", "added",
    # what networks are compared with
    "untrained_twin", "fresh_initialisations", "weight_noise_twins", "echo_state_twins",
    # known answers
    "PLANTED", "PlantedAgent", "BeliefAgent", "CodedBeliefAgent", "MemorylessAgent", "ClockAgent", "DriftingNoiseAgent",
    "reservoir_agent",
]  # fmt: skip
