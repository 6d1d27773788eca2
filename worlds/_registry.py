"""Every named world, for the command line, the sweeps and the contract tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worldprobe.worlds._bouncing_ball import BouncingBall
from worldprobe.worlds._cartpole import CartPole
from worldprobe.worlds._four_rooms import FourRooms
from worldprobe.worlds._irrelevant import with_irrelevant
from worldprobe.worlds._memory_chain import MemoryChain
from worldprobe.worlds._minigrid import minigrid_memory
from worldprobe.worlds._mountain_hike import MountainHike, MountainHikeConfig
from worldprobe.worlds._pendulum import Pendulum
from worldprobe.worlds._popgym import popgym_repeat
from worldprobe.worlds._prediction import mess3, rrxor
from worldprobe.worlds._random import RandomConfig, RandomWorld
from worldprobe.worlds._red_light import RedLight
from worldprobe.worlds._repeat_previous import RepeatPrevious
from worldprobe.worlds._room_goals import RoomGoals
from worldprobe.worlds._room_objects import RoomObjects
from worldprobe.worlds._sokoban import Sokoban
from worldprobe.worlds._sokoban_levels import SokobanConfig
from worldprobe.worlds._tasks import with_tasks
from worldprobe.worlds._tmaze import TMaze
from worldprobe.worlds._trace_conditioning import TraceConditioning, TraceConditioningConfig
from worldprobe.worlds._world import World


@dataclass(frozen=True)
class WorldEntry:
    """A named world: call it to build one."""

    build: Callable[[], World]
    summary: str
    """One line for listings."""

    def __call__(self) -> World:
        """Build the world."""
        return self.build()


WORLDS: dict[str, WorldEntry] = {
    "tmaze": WorldEntry(TMaze, "T-Maze of length 10, a fifth of the actions random: remember the goal, know where you are"),
    "tmaze-irrelevant": WorldEntry(lambda: with_irrelevant(TMaze(), 2), "the T-Maze with two random walks in view that never matter"),
    "red-light": WorldEntry(RedLight, "a light on a hidden cycle: if it is red, push; acting well needs no model"),
    "four-rooms": WorldEntry(FourRooms, "a grid of four rooms, a hidden goal, and sight of the nearest walls only"),
    "cartpole": WorldEntry(CartPole, "a cart and a pole whose velocities are hidden; smooth and differentiable"),
    "pendulum": WorldEntry(Pendulum, "a pendulum to swing up whose velocity is hidden; smooth and differentiable"),
    "minigrid-memory": WorldEntry(minigrid_memory, "MiniGrid: see an object, walk down a hallway, turn to its like (needs minigrid)"),
    "popgym-repeat": WorldEntry(popgym_repeat, "POPGym: name the suit of the fourth last card (needs popgym)"),
    "random-mdp": WorldEntry(lambda: RandomWorld(RandomConfig(n_rewards=20)), "a random law on 20 states in sight, 20 reward functions"),
    "random-pomdp": WorldEntry(
        lambda: RandomWorld(RandomConfig(n_observations=8, observation_noise=0.1, n_rewards=20)),
        "a random law on 20 states of which several look alike, through noise; 20 reward functions",
    ),
    "four-rooms-goals": WorldEntry(lambda: with_tasks(RoomGoals()), "four rooms, any of 40 goals in every episode, sight of the walls"),
    "four-rooms-objects": WorldEntry(
        RoomObjects, "four rooms with things of three classes to pick up, all in sight; a reward for every class"
    ),
    "memory-chain": WorldEntry(MemoryChain, "a cue, twenty silent steps, a question"),
    "repeat-previous": WorldEntry(RepeatPrevious, "name the symbol of two steps ago, of four kinds, at every step"),
    "mess3": WorldEntry(mess3, "guess the next token of a hidden process whose states each prefer one"),
    "rrxor": WorldEntry(rrxor, "guess the next bit of: two fair ones, then their exclusive or, again and again"),
    "trace-conditioning": WorldEntry(TraceConditioning, "a cue, then a reward after a random delay: nothing to do but to expect it"),
    "trace-conditioning-omissions": WorldEntry(
        lambda: TraceConditioning(TraceConditioningConfig(omission=0.1)), "the same, but no reward comes after a tenth of the cues"
    ),
    "mountain-hike": WorldEntry(MountainHike, "a walk along a bent ridge, blind but for a noisy altimeter"),
    "mountain-hike-rotated": WorldEntry(
        lambda: MountainHike(MountainHikeConfig(rotated=True)), "the same, and what is up is turned by a hidden multiple of 90 degrees"
    ),
    "bouncing-ball": WorldEntry(BouncingBall, "a paddle to keep level with a ball that flies behind a screen; smooth between bounces"),
    "sokoban": WorldEntry(Sokoban, "one box to push onto its target, on 2,000 generated boards of 6 x 6"),
    "sokoban-two-boxes": WorldEntry(lambda: Sokoban(SokobanConfig(size=7, n_boxes=2)), "two boxes, on 2,000 generated boards of 7 x 7"),
}


def make_world(name: str) -> World:
    """Return a new world of the registry `WORLDS`.

    Raises
    ------
    KeyError
        If there is no world of that name; the message lists the names.

    Examples
    --------
    >>> from worldprobe.worlds import make_world
    >>> make_world("tmaze").action_names
    ('right', 'up', 'left', 'down')
    """
    if name not in WORLDS:
        raise KeyError(f"unknown world {name!r}; the worlds are {', '.join(WORLDS)}")
    return WORLDS[name]()
