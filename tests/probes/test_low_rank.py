from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import estimator_checks_generator

from worldprobe.probes import RankLimitedProbe, cross_fit, group_folds, r2

Plant = Callable[..., SimpleNamespace]
CHECKS = [pair for pair in estimator_checks_generator(RankLimitedProbe()) if pair[1].func.__name__ != "check_array_api_input"]


@pytest.mark.filterwarnings("ignore::worldprobe.probes.UngroupedRowsWarning")  # the iris are sorted by species
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[check.func.__name__ for _, check in CHECKS])
def test_scikit_learns_contract(estimator: RankLimitedProbe, check: Callable[[RankLimitedProbe], None]) -> None:
    check(estimator)


def objective(probe: RankLimitedProbe, data: SimpleNamespace, alpha: float) -> float:
    weights = probe.coef_.T * data.X.std(axis=0)[:, None]
    return float(np.mean(np.sum((data.Y - probe.predict(data.X)) ** 2, axis=1)) + alpha * np.sum(weights**2))


def test_full_rank_is_ridge(plant: Plant) -> None:
    data = plant()
    Z = (data.X - data.X.mean(axis=0)) / data.X.std(axis=0)
    for rank in (3, 10):
        probe = RankLimitedProbe(rank, alphas=(0.1,)).fit(data.X, data.Y)
        np.testing.assert_allclose(probe.predict(data.X), Ridge(alpha=0.1 * len(Z)).fit(Z, data.Y).predict(Z), atol=1e-8)


@pytest.mark.parametrize("rank", [1, 2])
def test_no_other_map_of_this_rank_has_a_lower_objective(plant: Plant, rank: int) -> None:
    data, alpha = plant(), 0.05
    probe = RankLimitedProbe(rank, alphas=(alpha,)).fit(data.X, data.Y)
    assert np.linalg.matrix_rank(probe.coef_, tol=1e-9) == rank
    least = objective(probe, data, alpha)
    Z = torch.from_numpy((data.X - data.X.mean(axis=0)) / data.X.std(axis=0))
    Y = torch.from_numpy(data.Y - data.Y.mean(axis=0))
    generator = torch.Generator().manual_seed(0)
    reached = []
    shapes = ((6, rank), (rank, 3))
    for _ in range(4):  # gradient descent over all products of this rank, from random starts
        reading, writing = (torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes)
        optimiser = torch.optim.LBFGS([reading, writing], max_iter=500, line_search_fn="strong_wolfe")

        def loss(reading: Any = reading, writing: Any = writing, optimiser: Any = optimiser) -> Any:
            optimiser.zero_grad()
            value = ((Y - Z @ reading @ writing) ** 2).sum(1).mean() + alpha * ((reading @ writing) ** 2).sum()
            value.backward()
            return value

        optimiser.step(loss)  # type: ignore[no-untyped-call]  # torch types its optimisers so
        reached.append(float(loss().detach()))
    assert least == pytest.approx(min(reached), rel=1e-6)


def test_it_reads_the_planted_directions_and_no_more(plant: Plant) -> None:
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(2000, 20)), np.repeat(np.arange(100), 20)
    Y = X[:, :2] @ rng.normal(size=(2, 8)) + 0.3 * rng.normal(size=(2000, 8))
    folds = group_folds(groups, 4)
    scores = [r2(Y, cross_fit(X, Y, groups, folds, RankLimitedProbe(rank)).predictions).mean() for rank in (1, 2, 8)]
    assert scores[0] < scores[1] - 0.1
    assert scores[1] > scores[2]
    directions = RankLimitedProbe(2).fit(X, Y, groups=groups).directions_
    assert np.linalg.norm(directions[:2]) > 20 * np.linalg.norm(directions[2:])


def test_rows_without_labels_are_not_learned_from(plant: Plant) -> None:
    data = plant()
    mask = np.random.default_rng(0).random(len(data.X)) < 0.5
    one, other = (
        RankLimitedProbe(2).fit(data.X, np.where(mask[:, None], data.Y, junk), groups=data.groups, mask=mask).coef_ for junk in (0.0, 9.0)
    )
    np.testing.assert_array_equal(one, other)


def test_a_rank_of_none_is_refused(plant: Plant) -> None:
    data = plant()
    with pytest.raises(ValueError, match="rank must be 1 or more; got 0"):
        RankLimitedProbe(0).fit(data.X, data.Y)
    with pytest.raises(ValueError, match="nothing to decode"):
        RankLimitedProbe().fit(data.X, np.ones(len(data.X)))
