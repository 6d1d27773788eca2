"""Worlds: what an agent lives in, and everything that is exactly true about it.

In go batches of states and actions; out come observations, rewards and ends, and beside them the truth: named factors,
the exact Bayes filter over what the agent receives, the tables, the optimum. What a world cannot give raises `Unavailable`.

>>> import torch
>>> from worldprobe.worlds import make_world
>>> world = make_world("tmaze")
>>> driver = world.driver(n_envs=8, generator=torch.Generator().manual_seed(0))
>>> driver.step(torch.zeros(8, dtype=torch.int64)).observation.shape
torch.Size([8, 4])
"""

from worldprobe.worlds._as_gymnasium import WorldEnv
from worldprobe.worlds._belief_policy import BeliefPolicy, LookaheadPolicy, StatePolicy
from worldprobe.worlds._bouncing_ball import BouncingBall, BouncingBallConfig
from worldprobe.worlds._cartpole import CartPole, CartPolePhysics
from worldprobe.worlds._controllers import Controller, SmallestController, evaluate_controllers, find_smallest_controller
from worldprobe.worlds._driver import Driver, DriverStep, VectorDriver
from worldprobe.worlds._filter import FiniteFilter
from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._four_rooms import FourRooms
from worldprobe.worlds._gymnasium import GymnasiumWorld
from worldprobe.worlds._gymnasium_driver import ForkStep, GymnasiumDriver, GymnasiumFork
from worldprobe.worlds._irrelevant import IrrelevantWorld, with_irrelevant
from worldprobe.worlds._mdp import (
    HorizonSolution,
    MdpSolution,
    solve_mdp,
    solve_mdp_horizon,
    solve_rewards,
    successor_representation,
)
from worldprobe.worlds._memory_chain import MemoryChain
from worldprobe.worlds._minigrid import minigrid_memory
from worldprobe.worlds._mountain_hike import MountainHike, MountainHikeConfig
from worldprobe.worlds._particles import ParticleCollapseWarning, ParticleFilter, ParticleWorld
from worldprobe.worlds._partitions import bisimulation, optimal_sets, q_irrelevance
from worldprobe.worlds._pendulum import Pendulum, PendulumPhysics
from worldprobe.worlds._pomdp import PomdpSolution, finite_core, solve_pomdp
from worldprobe.worlds._popgym import popgym_repeat
from worldprobe.worlds._prediction import PredictionWorld, mess3, rrxor
from worldprobe.worlds._random import RandomConfig, RandomWorld
from worldprobe.worlds._red_light import RedLight
from worldprobe.worlds._registry import WORLDS, WorldEntry, make_world
from worldprobe.worlds._relevance import factor_relevance
from worldprobe.worlds._repeat_previous import RepeatPrevious
from worldprobe.worlds._room_goals import RoomGoals, RoomGoalsConfig
from worldprobe.worlds._room_objects import RoomObjects, RoomObjectsConfig
from worldprobe.worlds._smooth import SmoothWorld
from worldprobe.worlds._sokoban import Sokoban
from worldprobe.worlds._sokoban_levels import SokobanConfig
from worldprobe.worlds._sokoban_solver import SokobanSolution, solve_sokoban
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._tasks import TaskWorld, with_tasks
from worldprobe.worlds._tmaze import TMaze
from worldprobe.worlds._trace_conditioning import TraceConditioning, TraceConditioningConfig
from worldprobe.worlds._world import (
    CHANNELS,
    Belief,
    BeliefFilter,
    Capability,
    Factor,
    Headline,
    Relevance,
    State,
    Unavailable,
    World,
    categorical,
    check_channels,
)

__all__ = [
    # the contract
    "World", "State", "Belief", "BeliefFilter", "Factor", "Headline", "Relevance", "Capability", "Unavailable",
    "CHANNELS", "check_channels", "categorical",
    # stepping
    "Driver", "DriverStep", "VectorDriver",
    # finite worlds
    "FiniteTables", "FiniteWorld", "FiniteFilter", "TMaze", "RedLight", "FourRooms", "with_irrelevant", "IrrelevantWorld",
    "MemoryChain", "RepeatPrevious", "PredictionWorld", "mess3", "rrxor", "TraceConditioning", "TraceConditioningConfig",
    # worlds of many rewards
    "RandomWorld", "RandomConfig", "RoomGoals", "RoomGoalsConfig", "RoomObjects", "RoomObjectsConfig", "with_tasks", "TaskWorld",
    # what is optimal in them, and what for
    "solve_mdp", "MdpSolution", "solve_mdp_horizon", "HorizonSolution", "solve_rewards", "successor_representation",
    "find_smallest_controller", "SmallestController", "Controller", "evaluate_controllers",
    "bisimulation", "q_irrelevance", "optimal_sets",
    "solve_pomdp", "PomdpSolution", "finite_core", "BeliefPolicy", "StatePolicy", "LookaheadPolicy", "factor_relevance",
    # smooth worlds
    "ParticleWorld", "ParticleFilter", "ParticleCollapseWarning", "SmoothWorld",
    "CartPole", "CartPolePhysics", "Pendulum", "PendulumPhysics",
    "MountainHike", "MountainHikeConfig", "BouncingBall", "BouncingBallConfig",
    # boards to plan on
    "Sokoban", "SokobanConfig", "solve_sokoban", "SokobanSolution",
    # other people's environments
    "GymnasiumWorld", "GymnasiumDriver", "GymnasiumFork", "ForkStep", "minigrid_memory", "popgym_repeat",
    # worlds for other people's learners
    "WorldEnv",
    # the registry
    "WORLDS", "WorldEntry", "make_world",
]  # fmt: skip
