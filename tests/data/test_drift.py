"""Values far outside of the range of the training rows."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import no_warning
from sdlgm.data import Columns, drift
from sdlgm.data.drift import Drift
from sdlgm.errors import SDLGMWarning


def test_more_than_one_range_outside_is_far_and_the_range_of_a_constant_is_1() -> None:
    known = Columns(("a", "b"), low=(0.0, 4.0), high=(10.0, 4.0))
    near = np.array([[20.0, 5.0], [-10.0, 3.0]])
    far = np.array([[20.1, 5.0], [-10.1, 15.0], [0.0, 2.9]])
    counted = Drift(known)
    counted.add(near)
    with no_warning():
        assert not counted.warn("x")
    counted.add(far)
    message = r"x: 4 of 10 values .* a \(2\), b \(2\): a has -10.1 to 20.1, in training 0 to 10\. "
    with pytest.warns(SDLGMWarning, match=message):
        counted.warn("x")


def test_a_change_from_celsius_to_kelvin_is_far_and_normal_outliers_are_not() -> None:
    source = np.random.default_rng(0)
    celsius = source.normal(10, 8, (1000, 1))
    known = Columns(low=(float(celsius.min()),), high=(float(celsius.max()),))
    same = Drift(known)
    same.add(source.normal(10, 8, (100_000, 1)))
    with no_warning():
        same.warn("x")
    other = Drift(known)
    other.add(celsius + 273.15)
    with pytest.warns(SDLGMWarning, match=r"1,000 of 1,000 values .* trained on: 25\d"):
        other.warn("x")


def test_columns_without_names_are_counted_from_0() -> None:
    counted = Drift(Columns(low=(0.0, 0.0), high=(1.0, 1.0)))
    counted.add(np.array([[0.0, 9.0]], np.float32))
    with pytest.warns(SDLGMWarning, match=r"in column 1, counted from 0: 1 has 9 to 9"):
        counted.warn("x")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.uint16, np.bool_])
def test_parts_and_processes_count_as_one(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Columns(low=(0.0,) * 3, high=(1.0, 9.0, 1e308))
    rows = np.random.default_rng(0).integers(0, 100, (50, 3)).astype(dtype)
    whole = Drift(known)
    whole.add(rows)
    monkeypatch.setattr(drift, "VALUES_AT_ONCE", 10)
    parts, one, two = Drift(known), Drift(known), Drift(known)
    parts.add(rows)
    one.add(rows[:20])
    two.add(rows[20:])
    one.merge(two.counts())
    assert whole.counts() == parts.counts() == one.counts()


@pytest.mark.parametrize(
    "known", [Columns(), Columns(low=(0.0,), high=(1.0,)), Columns(low=(), high=())]
)
def test_nothing_is_counted_without_fitting_ranges(known: Columns) -> None:
    counted = Drift(known)
    counted.add(np.full((3, 2), 1e9))
    assert counted.counts()[0] == 0
    counted.add(np.empty((0, 1)))
    assert not counted.warn("x")
