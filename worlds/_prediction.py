"""Hidden Markov processes to be predicted: the action is a guess of the next token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from worldprobe.worlds._finite import FiniteWorld
from worldprobe.worlds._tables import FiniteTables
from worldprobe.worlds._world import Factor, Headline, Relevance


class PredictionWorld(FiniteWorld):
    """A hidden Markov process that emits a token on every move; guessing the next one pays 1 if right.

    Guesses do not touch the process. Its law is M[x, s, s'] = P(token x, next state s' | state s). The observation is the
    token just emitted, so the world's state is (hidden state, last token), as far as the two can occur together; it starts from
    the stationary law. The best guess is the likeliest token under the belief.

    Parameters
    ----------
    law : Tensor
        float64 (n_tokens, n_hidden, n_hidden); sums to 1 over tokens and next states.
    name : str
        Name of the world.
    hidden_labels : tuple of str
        Names of the hidden states.
    relevance : str
        What the hidden state is needed for.
    time_limit : int
        Tokens to guess in an episode.

    Raises
    ------
    ValueError
        If the law does not sum to 1, or its states do not all reach one another.

    Examples
    --------
    A coin that is tossed three times out of four, else shown again:

    >>> import torch
    >>> from worldprobe.worlds import PredictionWorld
    >>> stay = torch.tensor([[0.625, 0.375], [0.375, 0.625]], dtype=torch.float64)
    >>> PredictionWorld(torch.stack([stay * torch.tensor([1, 0]), stay * torch.tensor([0, 1])]), "coin").tables.n_states
    2
    """

    def __init__(
        self, law: Tensor, name: str, hidden_labels: tuple[str, ...] = (), *, relevance: Relevance = "unknown", time_limit: int = 32
    ) -> None:
        if law.ndim != 3 or law.shape[1] != law.shape[2] or not torch.allclose(law.sum((0, 2)), law.new_ones(law.shape[1])):
            raise ValueError(
                f"expected P(token, next state | state), summing to 1 for every state; got {tuple(law.shape)}, {law.sum((0, 2))}"
            )
        n_tokens, n_hidden = law.shape[:2]
        token, hidden = (law.sum(1) > 0).nonzero(as_tuple=True)
        S = len(token)
        self.law = law
        into = law[token, :, hidden].T  # (n_hidden, S): P(token and state of column | hidden state of row)
        right = torch.arange(n_tokens).view(-1, 1) == token
        super().__init__(
            FiniteTables(
                initial=(stationary_law(law.sum(0)).unsqueeze(1) * into).sum(0),
                transition=into[hidden].expand(n_tokens, -1, -1).clone(),
                observation=one_hot(token, n_tokens).double(),
                reward=right.double().unsqueeze(1).expand(-1, S, -1).clone(),
                terminal=torch.zeros(S, dtype=torch.bool),
            ),
            name=name,
            factors={
                Factor("hidden", "categorical", n_hidden, relevance, labels=hidden_labels): hidden,
                Factor("token", "categorical", n_tokens, "irrelevant"): token,
                Factor("state", "categorical", S, relevance): torch.arange(S),
            },
            action_names=tuple(map(str, range(n_tokens))),
            discount=0.95,
            time_limit=time_limit,
            exploration=(1 / n_tokens,) * n_tokens,
            headline=Headline("state", horizon=1),
        )


def stationary_law(transition: Tensor) -> Tensor:
    """Return p, float64 (S,), with p P = p, the same to the last bit on every call.

    One state after another is left out of the chain, by sums and products of nonnegative numbers alone, in plain order: what
    linear-algebra kernels return depends on where in memory the matrix lies, and a world's tables must not.

    Raises
    ------
    ValueError
        If the states do not all reach one another.

    References
    ----------
    Grassmann, Taksar & Heyman 1985, "Regenerative analysis and steady state distributions for Markov chains".

    Examples
    --------
    >>> import torch
    >>> from worldprobe.worlds._prediction import stationary_law
    >>> stationary_law(torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64))
    tensor([0.6667, 0.3333], dtype=torch.float64)
    """
    P: list[list[float]] = transition.tolist()
    for last in range(len(P) - 1, 0, -1):
        leaving = sum(P[last][:last])
        if leaving == 0:
            raise ValueError(
                "the states of the process do not all reach one another, so that its stationary law is not unique or not of them all"
            )
        for row in P[:last]:
            row[last] /= leaving
            for column in range(last):
                row[column] += row[last] * P[last][column]
    weights = [1.0]
    for state in range(1, len(P)):
        weights.append(sum(weights[earlier] * P[earlier][state] for earlier in range(state)))
    total = sum(weights)
    return torch.tensor([weight / total for weight in weights], dtype=torch.float64)


def mess3(x: float = 0.05, a: float = 0.85) -> PredictionWorld:
    """Return Mess3: three hidden states that seldom change (probability 2 x), each preferring a token of its own (probability a).

    Beliefs fill a fractal in the simplex. They are an exact linear function of the next token's probabilities, so that finding
    them in a predictor proves nothing; see `rrxor`.

    Raises
    ------
    ValueError
        Unless 0 < x < 1/2 and 1/3 < a <= 1.

    References
    ----------
    Marzen & Crutchfield 2017; Shai et al. 2024, "Transformers represent belief state geometry in their residual stream".

    Examples
    --------
    >>> from worldprobe.worlds import mess3
    >>> mess3().tables.n_states
    9
    """
    if not 0 < x < 1 / 2 or not 1 / 3 < a <= 1:
        raise ValueError(f"expected 0 < x < 1/2 and 1/3 < a <= 1; got {x} and {a}")
    emits = torch.full((3, 3), (1 - a) / 2, dtype=torch.float64).fill_diagonal_(a)  # (token, next state)
    moves = torch.full((3, 3), x, dtype=torch.float64).fill_diagonal_(1 - 2 * x)
    return PredictionWorld(moves * emits.unsqueeze(1), "mess3", ("A", "B", "C"), relevance="policy")


def rrxor() -> PredictionWorld:
    """Return the process random, random, exclusive or: two fair bits, then their exclusive or, again and again.

    Its five hidden states are the phase and what is known of the next exclusive or. Every third token can be predicted, by whoever has
    found out the phase, and the belief is no linear function of the next token's probabilities.

    References
    ----------
    Riechers & Crutchfield 2018; Shai et al. 2024, "Transformers represent belief state geometry in their residual stream".

    Examples
    --------
    >>> from worldprobe.worlds import rrxor
    >>> rrxor().factor("hidden").labels
    ('start', 'after 0', 'after 1', 'will be 1', 'will be 0')
    """
    start, zero, one, true, false = range(5)
    law = torch.zeros(2, 5, 5, dtype=torch.float64)
    for bit, first in ((0, zero), (1, one)):
        law[bit, start, first] = 0.5
        for second in (0, 1):
            law[second, first, true if bit != second else false] = 0.5
    law[1, true, start] = law[0, false, start] = 1.0
    return PredictionWorld(law, "rrxor", ("start", "after 0", "after 1", "will be 1", "will be 0"), relevance="policy")
