"""Labels: one block of columns per factor, losses that are Brier scores and scaled squared errors."""

from __future__ import annotations

import numpy as np
import pytest

from worldprobe.analysis import Labels
from worldprobe.worlds import Factor

LABELS = Labels((Factor("goal", "categorical", 3), Factor("walk", "continuous", 2, scale=4.0)))


def test_columns_partition_the_width() -> None:
    covered = np.concatenate([np.arange(LABELS.width)[columns] for columns in LABELS.columns.values()])
    assert covered.tolist() == list(range(5))


def test_brier_loss_and_scaled_squared_error() -> None:
    labels = LABELS.encode({"goal": np.array([2]), "walk": np.array([[4.0, 8.0]])})
    losses = LABELS.losses(labels, np.array([[0.2, 0.3, 0.5, 0.0, 2.0]]))
    assert losses["goal"] == pytest.approx([0.2**2 + 0.3**2 + 0.5**2])
    assert losses["walk"] == pytest.approx([1.0])


def test_expected_labels_of_a_certain_belief_are_the_labels() -> None:
    goal, walk = np.array([0, 2]), np.array([[1.0, -1.0], [0.5, 3.0]])
    encoded = LABELS.encode({"goal": goal, "walk": walk})
    expected = LABELS.encode_expected({"goal": np.eye(3)[goal], "walk": walk})
    assert np.allclose(encoded, expected)


def test_leading_axes_are_kept() -> None:
    values = {"goal": np.zeros((4, 6), np.int64), "walk": np.zeros((4, 6, 2))}
    assert LABELS.encode(values).shape == (4, 6, 5)
