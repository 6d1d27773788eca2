"""One penalty for each target, chosen by held-out losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from worldprobe.probes._nested import choose
from worldprobe.probes._ridge_path import RidgePath
from worldprobe.probes._validation import Floats, Integers


@dataclass(frozen=True, eq=False)
class RidgeShare:
    """What was chosen for the targets that share a mask."""

    targets: Integers
    varies: bool
    shift: Floats
    coefficients: Floats
    """(n_targets, n_features)"""
    offset: Floats
    alphas: Floats
    candidates: Integers
    """Number of the chosen block multipliers (n_targets,)."""
    scores: Floats
    """Held-out R^2 (n_alphas, n_targets), at the best multipliers; NaN where nothing was held out."""

    @classmethod
    def of(cls, targets: Integers, path: RidgePath, losses: Floats | None, null: Floats | None) -> Self:
        """Choose by held-out `losses` (n_choices, n_targets), which `null` says the scale of; None: there is one choice."""
        training, shape = path.training, (len(path.alphas), len(targets))
        if losses is None or null is None:
            chosen, scores = np.zeros(len(targets), np.int64), np.full(shape, np.nan)
        else:
            best = losses.reshape(-1, *shape).min(axis=0)
            chosen, scores = choose(losses), 1.0 - np.divide(best, null, out=np.ones(shape), where=null > 0)
        candidates, alphas = np.divmod(chosen, len(path.alphas))
        solution = path.solve(chosen)
        varies = not bool(training.constant_targets.all())
        return cls(targets, varies, training.shift, solution.coefficients.T, solution.offset, path.alphas[alphas], candidates, scores)
