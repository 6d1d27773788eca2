"""Name the symbol that was shown k steps ago: a queue to keep in mind."""

from __future__ import annotations

from itertools import product

import torch
from torch.nn.functional import one_hot

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Factor, Headline

MAX_STATES = 2000
"""Tables of more states than this are refused: they grow with the square."""


class RepeatPrevious(FiniteWorld):
    """A random symbol is shown at every step; the action names the one shown k steps before, which pays 1 if right.

    Symbols are independent and uniform, and actions do not touch them. The state is the last k + 1 symbols (fewer at first,
    when nothing pays); who remembers k + 1 observations knows it. So J* = sum of gamma^t over k <= t < time_limit; guessing
    earns the n_symbols-th part, and so does any agent without memory.

    Parameters
    ----------
    n_symbols : int
        Number of symbols, and of actions.
    k : int
        How many steps to look back.
    time_limit : int
        Steps after which an episode is cut.

    Raises
    ------
    ValueError
        If a number is too small, or the states are more than 2,000.

    Examples
    --------
    >>> from worldprobe.worlds import RepeatPrevious
    >>> world = RepeatPrevious(n_symbols=4, k=2)
    >>> world.tables.n_states, world.factor("state").labels[-1]
    (84, '3 3 3')

    References
    ----------
    Morad, Kortvelesy, Bettini et al. 2023, "POPGym" (there with a deck of cards that runs out).
    """

    def __init__(self, n_symbols: int = 4, k: int = 2, time_limit: int = 32) -> None:
        n_states = sum(n_symbols**length for length in range(1, k + 2))
        if n_symbols < 2 or k < 1 or time_limit <= k or n_states > MAX_STATES:
            raise ValueError(
                f"expected n_symbols >= 2, k >= 1, time_limit > k and at most {MAX_STATES} states; "
                f"got n_symbols={n_symbols}, k={k}, time_limit={time_limit} and so {n_states} states"
            )
        histories = [history for length in range(1, k + 2) for history in product(range(n_symbols), repeat=length)]
        number = {history: i for i, history in enumerate(histories)}
        following = torch.tensor([[number[(*history, x)[-(k + 1) :]] for x in range(n_symbols)] for history in histories])
        target = torch.tensor([history[0] + 1 if len(history) == k + 1 else 0 for history in histories])
        right = target == torch.arange(1, n_symbols + 1).view(-1, 1)
        symbols = tuple(map(str, range(n_symbols)))
        labels = tuple(" ".join(map(str, history)) for history in histories)
        super().__init__(
            FiniteTables(
                initial=torch.tensor([len(history) == 1 for history in histories]).double() / n_symbols,
                transition=one_hot(following, n_states).double().mean(1).expand(n_symbols, -1, -1).clone(),
                observation=one_hot(torch.tensor([history[-1] for history in histories]), n_symbols).double(),
                reward=right.double().unsqueeze(-1).expand(-1, -1, n_states).clone(),
                terminal=torch.zeros(n_states, dtype=torch.bool),
            ),
            name="repeat-previous",
            factors={
                Factor("target", "categorical", n_symbols + 1, "policy", labels=("none yet", *symbols)): target,
                Factor("state", "categorical", n_states, "value", labels=labels): torch.arange(n_states),
            },
            action_names=symbols,
            discount=0.95,
            time_limit=time_limit,
            exploration=(1 / n_symbols,) * n_symbols,
            headline=Headline("state", horizon=1),
        )
