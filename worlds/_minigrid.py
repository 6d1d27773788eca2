"""MiniGrid's memory task (Chevalier-Boisvert et al. 2023): an object seen at the start tells which way to turn at the end."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from worldprobe.worlds._gymnasium import Environment, GymnasiumWorld
from worldprobe.worlds._world import Factor, Headline

KINDS = ("unseen", "empty", "wall", "key", "ball")
"""All that an agent without hands can see in this task: one plane each."""
OBJECTS = ("key", "ball")
DIRECTIONS = ("right", "down", "left", "up")


def minigrid_memory(size: int = 7) -> GymnasiumWorld:
    """Return MiniGrid-MemoryS`size`-v0: see a key or a ball, walk down a hallway, turn to the same object.

    The observation is the image alone, as in the published baselines, as five one-hot planes of 7 x 7 cells (unseen, empty,
    wall, key, ball): colours and states never vary here. The actions are those that do something: left, right, forward.
    Place and compass direction are not shown. Every factor is needed by the optimal policy: cue and upper object together say
    which end is right, place and direction say which of the three actions leads there.

    Parameters
    ----------
    size : int
        7, 9, 11, 13: the registered sizes; the environment cuts an episode after 5 size^2 steps.

    Raises
    ------
    ImportError
        If minigrid is not installed.

    Examples
    --------
    >>> from worldprobe.worlds import minigrid_memory
    >>> world = minigrid_memory()
    >>> world.observation_shape, world.action_names, world.time_limit
    ((5, 7, 7), ('left', 'right', 'forward'), 245)
    >>> [factor.name for factor in world.factors]
    ['cue', 'upper_object', 'column', 'row', 'direction']
    """
    try:
        import minigrid
        from minigrid.core.constants import OBJECT_TO_IDX
    except ImportError as error:
        raise ImportError("world 'minigrid-memory' needs minigrid: pip install 'worldprobe[worlds]'") from error
    planes = np.zeros((len(OBJECT_TO_IDX), len(KINDS)), np.float32)
    planes[[OBJECT_TO_IDX[kind] for kind in KINDS], range(len(KINDS))] = 1

    def see(observation: dict[str, Any]) -> NDArray[np.float32]:
        cells: NDArray[np.float32] = planes[observation["image"][:, :, 0]]
        return cells.transpose(2, 0, 1)

    def make() -> Environment:
        gymnasium.register_envs(minigrid)
        return gymnasium.make(f"MiniGrid-MemoryS{size}-v0", disable_env_checker=True)

    return GymnasiumWorld(
        make,
        name="minigrid-memory",
        discount=0.99,
        factors=(
            Factor("cue", "categorical", 2, "policy", labels=OBJECTS),
            Factor("upper_object", "categorical", 2, "policy", labels=OBJECTS),
            Factor("column", "categorical", size, "policy"),
            Factor("row", "categorical", size, "policy"),
            Factor("direction", "categorical", 4, "policy", labels=DIRECTIONS),
        ),
        factor_function=_read,
        headline=Headline("cue", horizon=5),
        time_limit=5 * size**2,
        actions={"left": 0, "right": 1, "forward": 2},
        observation_function=see,
        copy_by="deepcopy",
    )


def _read(environment: Environment) -> dict[str, int]:
    """Read the factors; the cue lies beside the first cell of the start room, the choice at the two ends of the last column."""
    inner: Any = environment.unwrapped
    column, row = inner.agent_pos
    centre = inner.height // 2
    end = inner.success_pos[0]
    return {
        "cue": OBJECTS.index(inner.grid.get(1, centre - 1).type),
        "upper_object": OBJECTS.index(inner.grid.get(end, centre - 2).type),
        "column": int(column),
        "row": int(row),
        "direction": int(inner.agent_dir),
    }
