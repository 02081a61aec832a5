"""Images of digits in columns: their content, and that a seed reproduces them."""

from __future__ import annotations

import numpy as np
import pytest

from sdlgm.config import DataConfig
from sdlgm.data import digit_columns, load_data
from sdlgm.errors import DataError


def test_columns_hold_digits_of_the_split_and_counts_match() -> None:
    images, counts = digit_columns(30, 4, "test", empty=0.3, seed=5, source="mnist-5k")
    assert (images.dtype, images.shape) == (np.uint8, (30, 28, 112))
    assert (counts.dtype, counts.shape) == (np.int64, (30, 10))
    rows = load_data(DataConfig("mnist-5k", binarisation="none")).test
    label = {v.numpy().tobytes(): int(k) for v, k in zip(rows.values, rows.labels, strict=True)}
    expected = np.zeros_like(counts)
    for i, image in enumerate(images):
        for column in np.split(image, 4, axis=1):
            if column.any():
                expected[i, label[column.tobytes()]] += 1
    np.testing.assert_array_equal(counts, expected)


def test_the_splits_share_no_digit() -> None:
    def parts(split: str) -> set[bytes]:
        images, _ = digit_columns(200, 5, split, empty=0, source="mnist-5k")
        return {p.tobytes() for image in images for p in np.split(image, 5, axis=1)}

    assert not parts("train") & parts("test")


def test_draws_depend_on_the_seed() -> None:
    draws = [digit_columns(20, seed=seed, source="mnist-5k") for seed in (3, 3, 4)]
    for a, b in zip(*draws[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(draws[0][0], draws[2][0])


@pytest.mark.parametrize(("empty", "total"), [(0.0, 7), (1.0, 0)])
def test_columns_can_be_never_or_always_empty(empty: float, total: int) -> None:
    images, counts = digit_columns(15, 7, empty=empty, source="mnist-5k")
    assert (counts.sum(1) == total).all()
    assert bool(images.any()) == (total > 0)


def test_the_default_share_of_empty_columns_and_its_variance() -> None:
    _, counts = digit_columns(4000, source="mnist-5k")
    assert counts.sum() / (5 * 4000) == pytest.approx(0.95, abs=0.01)
    assert counts.var(0).mean() == pytest.approx(5 * 0.095 * 0.905, abs=0.02)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n must be a positive integer, got 0"),
        ({"n": 2.5}, "n must be a positive integer, got 2.5"),
        ({"columns": -1}, "columns must be a positive integer, got -1"),
        ({"empty": 1.5}, "must be a probability from 0 to 1, got 1.5"),
        ({"empty": float("nan")}, "probability from 0 to 1, got nan"),
        ({"split": "all"}, "'train' or 'test', got 'all'"),
        ({"source": "digits"}, "'digits' has none. Use source='mnist'"),
        ({"source": "mnits"}, "No data set is named 'mnits'"),
    ],
)
def test_bad_values_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        digit_columns(**{"n": 3, "source": "mnist-5k", **wrong})  # type: ignore[arg-type]
