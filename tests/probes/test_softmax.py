from __future__ import annotations

import numpy as np
from scipy.optimize import check_grad

from worldprobe.probes._softmax import _Objective, descend, log_losses, probabilities


def test_gradient_is_the_derivative_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    objective = _Objective(rng.normal(size=(50, 4)), rng.integers(3, size=50), 3)
    point = rng.normal(size=(3, 5))

    def loss(flat: np.ndarray) -> float:
        return objective.loss_and_gradient(flat.reshape(3, 5), 0.1)[0]

    def gradient(flat: np.ndarray) -> np.ndarray:
        return objective.loss_and_gradient(flat.reshape(3, 5), 0.1)[1].ravel()

    assert check_grad(loss, gradient, point.ravel()) < 1e-6


def test_white_coordinates_have_unit_curvature() -> None:
    rng = np.random.default_rng(0)
    Z, labels, alpha = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 3)), rng.integers(4, size=60), 1e-3
    objective = _Objective(Z, labels, 4)
    weights = rng.normal(size=(4, 4))
    for number, colour in enumerate(objective.whitening(weights, alpha)):
        step, columns = 1e-5, []
        for direction in colour.T:
            sides = []
            for sign in (1, -1):
                moved = weights.copy()
                moved[number] += sign * step * direction
                sides.append(objective.loss_and_gradient(moved, alpha)[1][number])
            columns.append(colour.T @ (sides[0] - sides[1]) / (2 * step))
        np.testing.assert_allclose(np.stack(columns), np.eye(4), atol=2e-3)


def test_nearly_collinear_features_are_no_obstacle() -> None:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(20, 20)))
    Z = rng.normal(size=(3000, 20)) * np.logspace(0, -3.5, 20) @ basis
    Z = (Z - Z.mean(axis=0)) / Z.std(axis=0)
    labels = (Z @ basis.T[:, :3] + 0.1 * rng.normal(size=(3000, 3))).argmax(axis=1)
    objective = _Objective(Z, labels, 3)
    alphas = np.logspace(0, -6, 7)
    for alpha, weights in zip(alphas, descend(Z, labels, 3, alphas, 1e-4), strict=True):
        gradient = objective.loss_and_gradient(weights, alpha)[1]
        white = np.einsum("cij,ci->cj", objective.whitening(weights, alpha), gradient)
        assert np.abs(white).max() <= 1e-4


def test_an_absent_class_gets_no_probability_and_the_floor_in_the_loss() -> None:
    rng = np.random.default_rng(0)
    Z, labels = rng.normal(size=(100, 2)), rng.choice([0, 2], size=100)
    weights = descend(Z, labels, 3, np.array([0.1]), 1e-4)[0]
    assert np.all(probabilities(weights, Z)[:, 1] == 0)
    np.testing.assert_allclose(log_losses(weights, Z, np.ones(100, np.int64)), np.log(1e6))


def test_losses_are_minus_the_log_of_the_probabilities() -> None:
    rng = np.random.default_rng(0)
    Z, labels, weights = rng.normal(size=(40, 3)), rng.integers(3, size=40), rng.normal(size=(3, 4))
    expected = -np.log(probabilities(weights, Z)[np.arange(40), labels])
    np.testing.assert_allclose(log_losses(weights, Z, labels), expected)
