from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import check_grad

from worldprobe.probes import _softmax
from worldprobe.probes._losses import PROBABILITY_FLOOR
from worldprobe.probes._quasi_newton import Descent
from worldprobe.probes._softmax import CodedBlock, Jobs, Pool, SoftmaxObjectives

FOLDS = 3


def problem(n: int = 90, d: int = 4, n_classes: int = 3, n_heads: int = 2, seed: int = 0) -> SoftmaxObjectives:
    """Jobs: each head without fold 0, then each head on all rows; a mask, and a penalty that is no multiple of the identity."""
    generator = torch.Generator().manual_seed(seed)
    U = torch.cat([torch.randn(n, d, generator=generator, dtype=torch.float64), torch.ones(n, 1, dtype=torch.float64)], dim=1)
    codes = torch.randint(n_classes, (n, n_heads), generator=generator)
    mask, folds = torch.rand(n, n_heads, generator=generator) < 0.8, torch.arange(n) % FOLDS
    blocks = [CodedBlock(U[folds == fold], codes[folds == fold], mask[folds == fold], fold) for fold in range(FOLDS)]
    trained = torch.tensor([[False, True, True], [True, True, True]]).repeat_interleave(n_heads, dim=0)
    head = torch.arange(n_heads).repeat(2)
    counts = [
        torch.bincount(codes[rows, own], minlength=n_classes)
        for own, folds_in in zip(head.tolist(), trained, strict=True)
        for rows in [folds_in[folds] & mask[:, own]]
    ]
    root = torch.randn(1, d, d, generator=generator, dtype=torch.float64)
    jobs = Jobs(head, trained, torch.stack(counts), root @ root.transpose(1, 2), torch.zeros(len(head), dtype=torch.int64))
    return SoftmaxObjectives(blocks, Pool(U, folds, mask), jobs)


def test_gradients_are_the_derivatives_of_the_losses() -> None:
    objectives, point = problem(), np.random.default_rng(0).normal(size=(3, 5))
    for job in range(4):
        chosen = torch.tensor([job])

        def loss(flat: np.ndarray, chosen: torch.Tensor = chosen) -> float:
            return float(objectives.evaluate(torch.from_numpy(flat.reshape(1, 3, 5)), chosen)[0])

        def gradient(flat: np.ndarray, chosen: torch.Tensor = chosen) -> np.ndarray:
            return objectives.evaluate(torch.from_numpy(flat.reshape(1, 3, 5)), chosen)[1].numpy().ravel()

        assert check_grad(loss, gradient, point.ravel()) < 1e-6


def test_jobs_in_one_pass_are_jobs_alone() -> None:
    objectives = problem()
    weights = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = objectives.evaluate(weights, torch.arange(4))
    for job in range(4):
        alone = objectives.evaluate(weights[job : job + 1], torch.tensor([job]))
        torch.testing.assert_close(together[0][job], alone[0][0])
        torch.testing.assert_close(together[1][job], alone[1][0])


def test_the_loss_is_minus_the_mean_log_probability_of_the_training_labels() -> None:
    objectives = problem()
    weights = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    held_out = objectives.held_out_losses(weights)
    for job, head in enumerate([0, 1, 0, 1]):
        trained, left_out = [], np.zeros(FOLDS)
        for block in objectives.rows:
            assert block.mask is not None
            p = torch.softmax(block.U @ weights[job].T, dim=1).numpy()
            own = -np.log(p[np.arange(len(p)), block.codes[:, head]])[block.mask[:, head].numpy()]
            if objectives.jobs.trained[job, block.fold]:
                trained += list(own)
            else:
                left_out[block.fold] = np.minimum(own, -np.log(PROBABILITY_FLOOR)).sum()
        assert float(objectives.evaluate(weights[job : job + 1], torch.tensor([job]))[0]) == pytest.approx(np.mean(trained))
        np.testing.assert_allclose(held_out[job], left_out)


@pytest.mark.parametrize("rows_per_feature", [2000, 4])
def test_preconditioning_inverts_each_classs_block_of_the_curvature(rows_per_feature: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From all rows it is exact; from a sample drawn by weight it is so on average."""
    monkeypatch.setattr(_softmax, "CURVATURE_ROWS_PER_FEATURE", rows_per_feature)
    objectives, ridge = problem(n=6000, n_heads=1), 1e-2
    weights = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    exact, estimates = [], []
    for number in range(3):
        direction = torch.zeros_like(weights)
        direction[:, number] = 1e-4
        change = objectives.evaluate(weights + direction, torch.arange(2))[1] - objectives.evaluate(weights - direction, torch.arange(2))[1]
        exact.append((change[:, number] / 2 + ridge * objectives.penalty_gradient(direction, torch.arange(2))[:, number]) / 1e-4)
    for _ in range(200 if rows_per_feature == 4 else 1):
        objectives.caution = 0.0
        objectives.learn_curvature(weights, torch.arange(2), ridge)
        blocks = torch.linalg.inv(objectives.inverse_curvature)
        estimates.append(blocks.sum(dim=3))  # applied to a vector of ones
    estimated, expected = torch.stack(estimates), torch.stack(exact, dim=1)
    spread = 0.0 if len(estimated) == 1 else 5 * estimated.std(dim=0) / len(estimated) ** 0.5
    assert torch.all((estimated.mean(dim=0) - expected).abs() < spread + 1e-5)


def test_nearly_collinear_features_are_no_obstacle() -> None:
    objectives = problem(n=900, d=12, n_classes=5)
    objectives.jobs.penalty = torch.diag(torch.logspace(0, 7, 12, dtype=torch.float64))[None]
    descent = Descent(objectives, 1.0, 1e-12)
    for ridge in (1.0, 1e-2, 1e-4):
        weights = descent.to(ridge)
        gradient = objectives.evaluate(weights, torch.arange(4))[1] + ridge * objectives.penalty_gradient(weights, torch.arange(4))
        assert gradient.abs().max() < 1e-5
        assert descent.n_passes < 150


def test_an_absent_class_gets_no_probability_and_the_floor_in_the_loss() -> None:
    objectives = problem()
    objectives.jobs.counts[0, 2] = 0  # as if fold 0 alone had the class
    objectives = SoftmaxObjectives(objectives.rows, objectives.pool, objectives.jobs)
    weights = objectives.start()
    held_out = objectives.held_out_losses(weights)[0, 0]
    block = next(iter(objectives.rows))
    assert block.mask is not None
    codes = block.codes[:, 0][block.mask[:, 0]]
    shares = objectives.jobs.counts[0, :2] / objectives.jobs.counts[0].sum()
    expected = -sum(float(torch.log(shares[c])) if c < 2 else np.log(PROBABILITY_FLOOR) for c in codes.tolist())
    assert float(held_out) == pytest.approx(expected)
