"""POPGym's repeat-previous task (Morad et al. 2023): name the suit of a card seen a few steps ago."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldprobe.worlds._gymnasium import Environment, GymnasiumWorld
from worldprobe.worlds._world import Factor, Headline

SUITS = ("spades", "diamonds", "clubs", "hearts")
N_CARDS = 52


def popgym_repeat() -> GymnasiumWorld:
    """Return RepeatPreviousEasy: a deck is shown card by card, and the action names the suit of the fourth last card.

    `target` is that suit ("none yet" before the fourth card). Actions never move the cards, so the optimal policy and its
    value depend on the target (and the time) alone; `left`, the share of each suit that is still in the deck, is irrelevant.

    Raises
    ------
    ImportError
        If popgym is not installed.

    Examples
    --------
    >>> from worldprobe.worlds import popgym_repeat
    >>> world = popgym_repeat()
    >>> world.observation_shape, world.action_names, world.time_limit
    ((4,), ('spades', 'diamonds', 'clubs', 'hearts'), 51)
    """
    try:
        from popgym.envs.repeat_previous import RepeatPreviousEasy
    except ImportError as error:
        raise ImportError("world 'popgym-repeat' needs popgym: pip install 'worldprobe[worlds]'") from error
    return GymnasiumWorld(
        RepeatPreviousEasy,
        name="popgym-repeat",
        discount=0.99,
        factors=(
            Factor("target", "categorical", 5, "policy", labels=("none yet", *SUITS)),
            Factor("left", "continuous", 4, "irrelevant", labels=SUITS),
        ),
        factor_function=_read,
        headline=Headline("target", horizon=1),
        time_limit=N_CARDS - 1,
        actions={suit: number for number, suit in enumerate(SUITS)},
        copy_by="deepcopy",
    )


def _read(environment: Environment) -> dict[str, Any]:
    inner: Any = environment.unwrapped
    hand = inner.deck["player"]
    target = int(inner.deck.suits_idx[hand[-inner.k]]) + 1 if len(hand) >= inner.k else 0
    dealt = np.bincount(inner.deck.suits_idx[hand], minlength=len(SUITS))
    return {"target": target, "left": 1 - dealt / (N_CARDS / len(SUITS))}
