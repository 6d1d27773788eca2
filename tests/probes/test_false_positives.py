"""The quick count of the study: 200 nulls, a quarter of each kind."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from worldprobe.probes import RidgeProbe


@pytest.fixture(scope="module")
def study(load_study: Callable[[str], ModuleType]) -> ModuleType:
    return load_study("false_positives")


@pytest.fixture(scope="module")
def counted(study: ModuleType) -> pd.DataFrame:
    return pd.DataFrame([study.count_null(study.Study(), number) for number in range(200)])


def test_the_printed_decisions_err_at_their_level(study: ModuleType, counted: pd.DataFrame) -> None:
    assert counted.kind.value_counts().to_dict() == dict.fromkeys(study.KINDS, 50)
    assert study.accepted(200) == 15
    assert study.accepted(2000) == 116
    assert counted.announced.sum() <= 15


def test_the_naive_pipeline_errs_almost_always(counted: pd.DataFrame) -> None:
    assert counted.naive.groupby(counted.kind).mean().min() > 0.9


def test_a_planted_emergence_is_announced(study: ModuleType) -> None:
    counts = [study.count_power(study.Study(), 960, number) for number in range(3)]
    assert all(count["planted"] for count in counts)
    assert not all(count["features"] for count in counts)


def test_the_filter_of_the_study_is_exact(study: ModuleType) -> None:
    episodes = study.sample_episodes(np.random.default_rng(0), 4000)
    # of all functions of the belief, the belief itself predicts the state best
    error = np.square(episodes.states - episodes.beliefs).sum()
    probe = RidgeProbe().fit(episodes.beliefs, episodes.states, groups=episodes.groups)
    refit = np.square(episodes.states - probe.predict(episodes.beliefs)).sum()
    assert error == pytest.approx(refit, rel=1e-3)
    counts = episodes.states[episodes.steps == 5].mean(axis=0)
    np.testing.assert_allclose(counts, episodes.beliefs[episodes.steps == 5].mean(axis=0), atol=0.03)


def test_the_planted_emergence_is_what_it_is_said_to_be(study: ModuleType) -> None:
    generator = np.random.default_rng(0)
    episodes = study.sample_episodes(generator, 6000)
    h = study.planted(episodes, generator)
    losses = [
        np.square(episodes.states - X @ np.linalg.lstsq(X, episodes.states, rcond=None)[0]).sum()
        for X in (np.c_[episodes.input, np.ones(len(h))], np.c_[episodes.input, np.ones(len(h)), h])
    ]
    bayes = np.square(episodes.states - episodes.beliefs).sum()
    assert (losses[0] - losses[1]) / (losses[0] - bayes) == pytest.approx(study.PLANTED, abs=0.01)
