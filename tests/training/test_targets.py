"""The search for the weight that meets a target."""

from __future__ import annotations

import math

import pytest

from sdlgm.training.targets import Reached, Target, find_crossing


def plateaus(place):
    """A falling function that is flat on both sides."""
    return 1.0 if place < 4 else -1.0 if place > 5 else 9.0 - 2.0 * place


@pytest.mark.parametrize("start", [-6.0, 0.0, 4.4, 8.0])
def test_a_crossing_beyond_a_plateau_is_found(start) -> None:
    found = find_crossing(plateaus, start, low=-9, high=9, steps=20)
    assert found == pytest.approx(4.5, abs=0.01)


def test_without_a_crossing_the_search_ends_at_the_bound() -> None:
    visited = []
    find_crossing(lambda place: visited.append(place) or 1.0, 0.0, low=-9, high=3, steps=50)
    assert max(visited) == 3.0
    assert len(visited) < 10


def test_of_a_jump_the_nearer_side_is_returned() -> None:
    found = find_crossing(lambda place: 0.1 if place < 2 else -5.0, 0.0, low=-9, high=9, steps=20)
    assert 0 < found < 2


def test_the_excess_is_positive_where_the_weight_is_too_low() -> None:
    reached = Reached(weight=1.0, distortion=0.2, bits=8.0)
    assert Target("rate", 4.0).excess(reached) == pytest.approx(math.log(2))
    assert Target("distortion", 0.4).excess(reached) == pytest.approx(math.log(2))
