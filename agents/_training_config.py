"""What every training is told, whatever it learns by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from worldprobe.agents._from_json import added

Precision = Literal["float32", "bfloat16"]
"""What updates multiply in."""
PRECISIONS = get_args(Precision)


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of every training; each algorithm adds its own and may begin from other defaults."""

    algorithm: ClassVar[str]
    """Name of the algorithm, of `ALGORITHMS`."""

    total_steps: int = 500_000
    """Environment steps of the whole training, over all environments (rounded up to whole rollouts)."""
    n_envs: int = 64
    """Environments stepped at once."""
    n_steps: int = 32
    """Steps of every environment between updates."""
    learning_rate: float = 1e-3
    """Step size of the optimiser at the start."""
    final_learning_rate: float = 1e-4
    """Step size at the end; linear in between."""
    discount: float | None = None
    """gamma; None: the world's own."""
    epsilon_start: float = 1.0
    """Probability of exploration at the start."""
    epsilon_end: float = 0.05
    """Probability of exploration after `exploration_fraction` of the steps; linear before."""
    exploration_fraction: float = 0.2
    """Part of the training in which epsilon falls."""
    max_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    reward_source: Literal["own", "yoked"] = "own"
    """"yoked": every environment is paid another one's rewards, never its own."""
    n_checkpoints: int = 12
    """Checkpoints over training, log-spaced, step 0 and the end included."""
    n_evaluations: int = 40
    """Greedy evaluations over training, evenly spaced, beside the one at step 0; a row of metrics each."""
    n_evaluation_episodes: int = 512
    """Episodes of each evaluation."""
    stop_at_return: float | None = added(None)
    """Mean greedy return of an evaluation at which training ends early, its last checkpoint included; None: never."""
    resume_interval: float = 10.0
    """Seconds between resume files (no result depends on it)."""
    device: str = added("cpu")
    """Where the network computes: "cpu", "cuda" or "cuda:1"; the world stays in main memory. Seeds repeat on the same device only."""
    precision: Literal["float32", "bfloat16"] = added("float32")
    """"bfloat16": updates multiply in bfloat16 (automatic mixed precision); weights, losses and acting stay in float32."""
    compiled: bool = added(False)
    """Whether the core is compiled for updates by `torch.compile`, within a minute before the first one (pays for lru and mingru)."""
    n_threads: int = 1
    """torch threads; results are reproducible only at a fixed number."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        wrong = self._wrong()
        if wrong:
            raise ValueError(f"expected {', '.join(wrong)}; got {self}")

    def _wrong(self) -> list[str]:
        """Return what is expected of settings and does not hold."""
        wrong = self._below_one("total_steps", "n_envs", "n_steps", "n_evaluations", "n_evaluation_episodes", "n_threads")
        wrong += self._no_fraction("epsilon_start", "epsilon_end", "exploration_fraction")
        wrong += [f"{name} > 0" for name in ("learning_rate", "final_learning_rate", "max_gradient_norm") if not getattr(self, name) > 0]
        wrong += ["discount in [0, 1]"] * (self.discount is not None and not 0 <= self.discount <= 1)
        wrong += ["n_checkpoints >= 2"] * (self.n_checkpoints < 2)
        wrong += ["reward_source 'own' or 'yoked'"] * (self.reward_source not in ("own", "yoked"))
        wrong += ["device like 'cpu', 'cuda' or 'cuda:1'"] * (re.fullmatch(r"cpu|cuda(:\d+)?", self.device) is None)
        wrong += [f"precision {' or '.join(PRECISIONS)}"] * (self.precision not in PRECISIONS)
        return wrong

    def _below_one(self, *names: str) -> list[str]:
        return [f"{name} >= 1" for name in names if getattr(self, name) < 1]

    def _no_fraction(self, *names: str) -> list[str]:
        return [f"{name} in [0, 1]" for name in names if not 0 <= getattr(self, name) <= 1]

    @property
    def n_updates(self) -> int:
        """Number of rollouts."""
        return -(-self.total_steps // (self.n_envs * self.n_steps))

    def epsilon(self, fraction: float) -> float:
        """Return the probability of exploration after a fraction of the training."""
        progress = 1.0 if fraction >= self.exploration_fraction else fraction / self.exploration_fraction
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * progress
