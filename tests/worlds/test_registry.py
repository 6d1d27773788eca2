"""Worlds by name."""

from __future__ import annotations

import pytest

from worldprobe.worlds import WORLDS, make_world


def test_every_name_makes_a_fresh_world() -> None:
    for name in WORLDS:
        assert make_world(name) is not make_world(name)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"unknown world 'chess'; the worlds are tmaze, tmaze-irrelevant, red-light, four-rooms"):
        make_world("chess")
