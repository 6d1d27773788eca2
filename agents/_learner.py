"""What a training asks of whatever learns in it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from worldprobe.agents._rollout import Rollout


class TrainingDivergedError(ArithmeticError):
    """Training met a number that is not finite."""


class Learner(Protocol):
    """Improves a network, in place, on rollouts of that network."""

    metrics: tuple[str, ...]
    """What it measures at every optimiser step, each a column of metrics.csv."""

    def update(self, rollout: Rollout, learning_rate: float) -> None:
        """Learn from a rollout; raise `TrainingDivergedError` where a number is not finite, and leave the weights as they were."""

    def pop_metrics(self) -> dict[str, float]:
        """Return the means of `metrics` since the last call (NaN if there was no step)."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the next update depends on, the network included."""

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Go on bit for bit from what `state_dict` returned."""


def check_finite(rollout: Rollout) -> None:
    """Refuse what the world should not have given.

    Raises
    ------
    TrainingDivergedError
        If an input or a reward is not finite; the message says in which environment and at which step of the rollout.
    """
    for what, values in (("an input", rollout.inputs), ("an input", rollout.successors), ("a reward", rollout.reward)):
        if not values.isfinite().all():
            env, step = (~values.isfinite()).nonzero()[0, :2].tolist()
            raise TrainingDivergedError(
                f"{what} is not finite in environment {env}, step {step} of the rollout: the world gave it; mend the world"
            )


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return entries with a prefix before their names."""
    return {f"{prefix}{name}": value for name, value in tensors.items()}
