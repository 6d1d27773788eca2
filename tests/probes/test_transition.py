"""Transition probes: identities with the state probe, planted bilinear and low-rank truths, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from worldprobe.probes import TRANSITION_CLAIMS, TRANSITION_FORMS, RidgeProbe, TransitionForm, TransitionProbe


@given(st.integers(0, 1000), st.integers(2, 6), st.integers(1, 3))
def test_a_counterfactual_future_probe_is_the_state_probe_times_the_law(seed: int, n_states: int, n_actions: int) -> None:
    rng = np.random.default_rng(seed)
    state = rng.integers(n_states, size=300)
    hidden = rng.normal(size=(300, 8)) + np.eye(n_states, 8)[state]
    law = rng.dirichlet(np.ones(n_states), size=(n_actions, n_states))
    decoder = RidgeProbe(alphas=(1e-3,)).fit(hidden, np.eye(n_states)[state])
    everywhere = {"X": np.tile(hidden, (n_actions, 1)), "action": np.repeat(np.arange(n_actions), 300)}
    outcomes = np.concatenate([law[action][state] for action in range(n_actions)])
    direct = TransitionProbe("per-action", alphas=(1e-3,)).fit(**everywhere, Y=outcomes)
    for action in range(n_actions):
        composed = decoder.predict(hidden) @ law[action]
        np.testing.assert_allclose(direct.predict(hidden, np.full(300, action)), composed, atol=1e-10)


def planted(rank: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outcomes that depend on the action through `rank` directions of ten."""
    rng = np.random.default_rng(seed)
    x, action = rng.normal(size=(2000, 10)), rng.integers(3, size=2000)
    shared, heads = np.linalg.qr(rng.normal(size=(10, rank)))[0], rng.normal(size=(3, rank, 4))
    y = np.einsum("nr,nrm->nm", x @ shared, heads[action])
    return x, action, y + 0.01 * y.std() * rng.normal(size=y.shape)


def test_bilinear_truth_is_found_by_heads_and_not_by_a_shift() -> None:
    x, action, y = planted(rank=3)
    half = slice(0, 1000), slice(1000, 2000)
    scores = {
        form: TransitionProbe(form, 3 if form == "low-rank" else None)
        .fit(x[half[0]], action[half[0]], y[half[0]])
        .score(x[half[1]], action[half[1]], y[half[1]])
        for form in TRANSITION_FORMS
    }
    assert scores["per-action"] > 0.99
    assert scores["low-rank"] > 0.99
    assert scores["additive"] < 0.7


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_rank_is_recovered(rank: int) -> None:
    x, action, y = planted(rank)
    assert TransitionProbe("low-rank", rank).fit(x, action, y).score(x, action, y) > 0.99
    if rank > 1:
        assert TransitionProbe("low-rank", rank - 1).fit(x, action, y).score(x, action, y) < 0.97


def test_a_shift_is_found_by_every_form() -> None:
    rng = np.random.default_rng(0)
    x, action = rng.normal(size=(900, 5)), rng.integers(3, size=900)
    y = x @ rng.normal(size=(5, 2)) + rng.normal(size=(3, 2))[action]
    ranks: dict[TransitionForm, int | None] = {"additive": None, "per-action": None, "low-rank": 2}
    for form, rank in ranks.items():
        assert TransitionProbe(form, rank).fit(x, action, y).score(x, action, y) > 0.999


def test_every_form_says_what_it_shows() -> None:
    assert TRANSITION_CLAIMS.keys() == set(TRANSITION_FORMS)
    assert "no evidence of dynamics" in TRANSITION_CLAIMS["per-action"]


def test_refusals() -> None:
    x, action = np.ones((40, 2)), np.repeat([0, 1], [35, 5])
    with pytest.raises(ValueError, match="a rank for 'low-rank' alone"):
        TransitionProbe("additive", rank=2)
    with pytest.raises(ValueError, match=r"taken ten times or more to have a head; they were \[35, 5\] times"):
        TransitionProbe().fit(x, action, np.zeros(40))
    with pytest.raises(ValueError, match="an integer action and a target for each of the 40 rows"):
        TransitionProbe().fit(x, action / 2, np.zeros(40))
    with pytest.raises(NotFittedError):
        TransitionProbe().predict(x, action)
    fitted = TransitionProbe().fit(np.random.default_rng(0).normal(size=(40, 2)), np.repeat([0, 1], 20), np.arange(40.0))
    with pytest.raises(ValueError, match=r"there are heads for the actions \[0, 1\]; got \[2\]"):
        fitted.predict(x, np.full(40, 2))
