from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from worldprobe.probes._softmax import Descent, log_losses, probabilities
from worldprobe.probes._softmax_objective import SoftmaxObjective, eigenbasis


def objective(n: int = 60, n_features: int = 3) -> SoftmaxObjective:
    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(4, size=n), rng.integers(2, size=n)])
    counts = torch.stack([torch.bincount(head, minlength=4) for head in torch.from_numpy(codes).T])
    ridge = torch.cat([torch.rand(n_features, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    return SoftmaxObjective(torch.from_numpy(rng.normal(size=(n, n_features))), torch.from_numpy(codes), counts == 0, ridge)


def plain_loss(weights: NDArray[np.float64], Z: NDArray[np.float64], labels: NDArray[np.int64], alpha: float) -> float:
    eta = Z @ weights[:, :-1].T + weights[:, -1]
    return float((logsumexp(eta, axis=1) - eta[np.arange(len(Z)), labels]).mean() + alpha / 2 * (weights[:, :-1] ** 2).sum())


def test_loss_is_the_formula_and_gradient_its_derivative() -> None:
    heads = torch.tensor([1, 0])
    function = objective()
    weights = torch.randn(2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loss, gradient = function.loss_and_gradient(weights, heads)
    for place, (head, n_classes) in enumerate([(1, 2), (0, 4)]):
        own, step = weights[place, :n_classes].numpy(), 1e-6
        ridge = float((function.ridge * weights[place] ** 2).sum() / 2)
        U, codes = function.U.numpy(), function.codes[:, head].numpy()
        assert float(loss[place]) == pytest.approx(plain_loss(own, U, codes, 0.0) + ridge)
        for index in np.ndindex(n_classes, 4):
            moved = weights.clone()
            moved[(place, *index)] += step
            slope = (function.loss_and_gradient(moved, heads)[0] - loss)[place] / step
            assert float(gradient[(place, *index)]) == pytest.approx(float(slope), abs=1e-5)
    assert torch.all(gradient[0, 2:] == 0)


def test_blocks_are_the_curvature_of_each_class() -> None:
    function, heads, step = objective(n=20), torch.tensor([0]), 1e-5
    function = SoftmaxObjective(function.U[:11], function.codes[:11], function.absent, function.ridge)
    weights = torch.randn(1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    blocks = function.blocks(weights, heads)
    for number, column in np.ndindex(4, 4):
        moved = weights.clone()
        moved[0, number, column] += step
        change = (function.loss_and_gradient(moved, heads)[1] - function.loss_and_gradient(weights, heads)[1])[0, number] / step
        torch.testing.assert_close(blocks[0, number, column], change, atol=1e-4, rtol=1e-4)


def test_the_eigenbasis_is_uncorrelated_and_knows_the_raw_length() -> None:
    rng = np.random.default_rng(0)
    Z = torch.from_numpy(rng.normal(size=(500, 5)) @ rng.normal(size=(5, 5)))
    to_white, unit = eigenbasis(Z, 0.0)
    torch.testing.assert_close((Z @ to_white).T @ (Z @ to_white) / 500, torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(to_white.T @ to_white, torch.diag(unit))


def collinear(n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Features as collinear as recurrent activations, and two heads that they decide almost."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    Z = rng.normal(size=(n, 12)) * np.logspace(0, -3.5, 12) @ basis
    Z = (Z - Z.mean(axis=0)) / Z.std(axis=0)
    labels = (Z @ basis.T[:, :3] + 0.3 * rng.normal(size=(n, 3))).argmax(axis=1)
    return Z, np.column_stack([labels, np.minimum(labels, 1)])


def test_nearly_collinear_features_are_no_obstacle() -> None:
    Z, labels = collinear(300)
    alphas = np.logspace(-1, -5, 3)
    for head, path in enumerate(Descent(Z, labels, (3, 2), alphas, 1e-9).solve(np.array([2, 2]))):
        for alpha, weights in zip(alphas, path, strict=True):

            def function(w: NDArray[np.float64], alpha: float = alpha, codes: NDArray[np.int64] = labels[:, head]) -> float:
                return plain_loss(w.reshape(-1, 13), Z, codes, alpha)

            best = minimize(function, weights.ravel(), method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-9, "maxfun": 3000})
            assert function(weights.ravel()) < best.fun + 1e-6


def test_float32_products_end_where_float64_products_do() -> None:
    Z, labels = collinear(5000)
    double, single = (Descent(Z.astype(dtype), labels, (3, 2), np.array([1e-5]), 1e-5).solve(np.zeros(2, int)) for dtype in ("f8", "f4"))
    for head, codes in enumerate(labels.T):
        one, other = (plain_loss(path[head][0], Z, codes, 1e-5) for path in (double, single))
        assert other == pytest.approx(one, abs=1e-4)


def test_heads_that_descend_together_end_where_each_does_alone() -> None:
    Z, labels = collinear(1500)
    together = Descent(Z, labels, (3, 2), np.array([1e-1, 1e-3]), 1e-10).solve(np.array([1, 0]))
    assert [len(path) for path in together] == [2, 1]
    for head, codes in enumerate(labels.T):
        alone = Descent(Z, codes[:, None], (3 - head,), np.array([1e-1, 1e-3]), 1e-10).solve(np.array([1 - head]))[0]
        np.testing.assert_allclose(together[head][-1], alone[-1], atol=1e-3)


def test_an_absent_class_gets_no_probability_and_the_floor_in_the_loss() -> None:
    rng = np.random.default_rng(0)
    Z, labels = rng.normal(size=(100, 2)), rng.choice([0, 2], size=100)
    weights = Descent(Z, labels[:, None], (3,), np.array([0.1]), 1e-4).solve(np.array([0]))[0][0]
    assert np.all(probabilities(weights, Z)[:, 1] == 0)
    np.testing.assert_allclose(log_losses(weights, Z, np.ones(100, np.int64)), np.log(1e6))


def test_losses_are_minus_the_log_of_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    Z, labels, weights = rng.normal(size=(40, 3)), rng.integers(3, size=40), rng.normal(size=(3, 4))
    expected = -np.log(probabilities(weights, Z)[np.arange(40), labels])
    np.testing.assert_allclose(log_losses(weights, Z, labels), expected)
