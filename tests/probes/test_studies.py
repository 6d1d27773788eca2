"""Reproductions on a small scale: their numbers, tables and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from worldprobe.worlds import rrxor

Load = Callable[[str], ModuleType]
Read = Callable[[str], pd.DataFrame]


def test_r3_no_estimate_exceeds_the_exact_information(load_study: Load, tmp_path: Path, written: Read) -> None:
    study = load_study("r3_mutual_information")
    table = study.main(study.Study(tmp_path, lengths=(3,), n_pairs=2000, n_epochs=40))
    assert list(table.exact) == pytest.approx([np.log(8), np.log(8), 0.0])
    assert table.holds.all()
    assert len(written("r3")) == 3


def test_r6_the_belief_is_linear_in_the_next_token_in_one_process_only(load_study: Load, tmp_path: Path, written: Read) -> None:
    study = load_study("r6_rrxor_mess3")
    compared = study.main(study.Study(tmp_path, n_sequences=400, n_seeds=1, widths=(64,), gains=(1.0,)))
    assert compared.holds.all()
    exact = written("r6").set_index(["process", "features"]).r2
    assert exact["mess3", "next-token probabilities"] == pytest.approx(1.0, abs=1e-6)
    assert exact["rrxor", "next-token probabilities"] < 0.3


def test_r6_beliefs_are_those_of_brute_force(load_study: Load) -> None:
    study = load_study("r6_rrxor_mess3")
    law = rrxor().law.numpy()
    drawn = study.sample(rrxor(), study.Study(n_sequences=20, length=5))
    stationary = np.full(5, 1 / 6)
    stationary[0] = 1 / 3
    for sequence in range(20):
        weight = stationary
        for token, belief in zip(
            drawn.tokens.argmax(axis=1).reshape(20, 5)[sequence], drawn.beliefs.reshape(20, 5, 5)[sequence], strict=True
        ):
            weight = weight @ law[token]
            np.testing.assert_allclose(belief, weight / weight.sum(), atol=1e-9)


def test_r10_the_theorem(load_study: Load, tmp_path: Path, written: Read) -> None:
    study = load_study("r10_leace")
    table = study.main(study.Study(tmp_path, n_episodes=60, length=15, n_classes=(3,), width=16)).set_index("eraser")
    leace = table.loc["LEACE"]
    assert leace["fitted R²"] <= 1e-6
    assert leace["accuracy - majority"] == pytest.approx(0.0, abs=1e-9)
    assert leace["rank"] == 2
    assert leace.moved == pytest.approx(table.moved["random, equal rank and displacement"])
    assert leace.moved < table.moved["mean difference"]
    assert table["linear bits"]["random, equal rank and displacement"] > 0.5 * table["linear bits"]["none"]
    assert len(written("r10")) == 5
