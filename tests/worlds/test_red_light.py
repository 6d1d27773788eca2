"""If the light is red, push: the optimum needs no memory, only the values do."""

from __future__ import annotations

import pytest
import torch

from worldprobe.worlds import RedLight, StatePolicy, solve_mdp, solve_pomdp


def test_the_light_does_not_care_what_is_done() -> None:
    transition = RedLight().tables.transition
    assert torch.equal(transition[0], transition[1])


def test_the_light_goes_round() -> None:
    transition = RedLight(n_phases=4, n_red=1, advance=0.7).tables.transition[0]
    expected = torch.tensor([[0.3, 0.7, 0, 0], [0, 0.3, 0.7, 0], [0, 0, 0.3, 0.7], [0.7, 0, 0, 0.3]], dtype=torch.float64)
    torch.testing.assert_close(transition, expected)


def test_optimal_action_is_a_function_of_the_colour_and_values_are_not() -> None:
    world = RedLight()
    solution, colour = solve_mdp(world.tables, world.discount), world.class_maps["colour"]
    assert torch.equal(solution.policy, colour)
    assert solution.values[colour == 0].std() > 0.1


def test_the_light_can_be_obeyed_perfectly() -> None:
    """Red a third of the time, each worth 1: discounted, (1 - gamma^30) / (1 - gamma) / 3."""
    world = RedLight()
    solution = solve_pomdp(world, frozenset({"observation", "action"}))
    assert solution.exact
    assert isinstance(solution.policy, StatePolicy)
    assert solution.undiscounted == pytest.approx(30 / 3)
    assert solution.lower == pytest.approx((1 - 0.95**30) / (1 - 0.95) / 3)


def test_blind_pushing_does_not_pay() -> None:
    solution = solve_pomdp(RedLight(), frozenset({"action"}))
    assert solution.exact
    assert solution.lower == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n_phases", "n_red", "advance"), [(2, 2, 0.5), (3, 0, 0.5), (3, 1, 0.0), (3, 1, 1.5)])
def test_senseless_lights_are_refused(n_phases: int, n_red: int, advance: float) -> None:
    with pytest.raises(ValueError, match="0 < n_red < n_phases"):
        RedLight(n_phases, n_red, advance)
