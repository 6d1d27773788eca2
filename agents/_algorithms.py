"""Every way to learn, by name: its settings, and what learns by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from worldprobe.agents._drqn import DrqnConfig, DrqnLearner
from worldprobe.agents._learner import Learner
from worldprobe.agents._network import RecurrentQNetwork
from worldprobe.agents._ppo import PpoConfig, PpoLearner
from worldprobe.agents._pqn import PqnConfig, PqnLearner
from worldprobe.agents._r2d2 import R2d2Config, R2d2Learner
from worldprobe.agents._tdm import TdmConfig, TdmLearner

AnyConfig = PqnConfig | R2d2Config | DrqnConfig | PpoConfig | TdmConfig
"""Settings of any of the algorithms."""


@dataclass(frozen=True)
class Algorithm:
    """One way to learn."""

    config: type[AnyConfig]
    """Class of its settings."""
    learner: Callable[[RecurrentQNetwork, Any, float, torch.Generator], Learner]
    """Builds what learns from the network, the settings, gamma and a generator of its own."""


ALGORITHMS: dict[str, Algorithm] = {
    PqnConfig.algorithm: Algorithm(PqnConfig, PqnLearner),
    R2d2Config.algorithm: Algorithm(R2d2Config, R2d2Learner),
    DrqnConfig.algorithm: Algorithm(DrqnConfig, DrqnLearner),
    PpoConfig.algorithm: Algorithm(PpoConfig, PpoLearner),
    TdmConfig.algorithm: Algorithm(TdmConfig, TdmLearner),
}
"""Every algorithm by name."""
