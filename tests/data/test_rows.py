"""Bits from grey values, splits, and digests."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdlgm.data import Dataset, Rows
from sdlgm.errors import DataError
from sdlgm.random import generator

GREY = Rows(torch.tensor([[0, 64, 128, 255]] * 5000, dtype=torch.uint8), maximum=255.0)


def test_dynamic_bits_have_the_probability_of_the_grey_value() -> None:
    rows = GREY.binarise("dynamic", seed=0)
    bits = rows.batch(slice(None), generator(0, "test"))
    assert bits.dtype == torch.float32
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    mean = bits.mean(0)
    assert mean[0] == 0
    assert mean[3] == 1
    torch.testing.assert_close(mean, torch.tensor([0, 64, 128, 255]) / 255, atol=0.03, rtol=0)
    assert not torch.equal(bits, rows.batch(slice(None), generator(1, "test")))
    torch.testing.assert_close(rows.grey()[0], torch.tensor([0, 64, 128, 255]) / 255)


def test_fixed_bits_are_drawn_once() -> None:
    one, again, other = (GREY.binarise("fixed", seed) for seed in (0, 0, 1))
    visits = [one.batch(slice(None), generator(s, "test")) for s in (0, 1)]
    assert torch.equal(visits[0], visits[1])
    assert torch.equal(one.values, again.values)
    assert not torch.equal(one.values, other.values)


def test_threshold_and_none() -> None:
    assert GREY.binarise("threshold", 0).values[0].tolist() == [0, 0, 1, 1]
    assert GREY.binarise("none", 0) is GREY
    assert GREY.batch(torch.tensor([0]), generator(0, "test")).tolist() == [[0, 64, 128, 255]]


@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
def test_what_is_not_grey_is_not_binarised(bad: float) -> None:
    with pytest.raises(DataError, match="needs grey values from 0 to 1, got"):
        Rows(torch.tensor([[0.5, bad]])).binarise("dynamic", 0)


@given(st.integers(2, 200), st.floats(0.01, 0.9), st.integers(0, 5))
def test_a_split_loses_and_doubles_nothing(rows: int, fraction: float, seed: int) -> None:
    data = Rows(torch.arange(rows).view(-1, 1).float(), labels=torch.arange(rows))
    if max(1, round(fraction * rows)) >= rows:
        with pytest.raises(DataError, match="too few"):
            data.split(fraction, seed)
        return
    rest, held = data.split(fraction, seed)
    assert sorted(torch.cat([rest.values, held.values])[:, 0].tolist()) == list(range(rows))
    assert len(held) == max(1, round(fraction * rows))
    assert held.labels is not None
    assert torch.equal(held.labels.float(), held.values[:, 0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[0.0, float("nan")], [1.0, float("inf")]], "2 values that are .* row 0, column 1"),
        (
            [[0.0, 1.0], [float("-inf"), 2.0]],
            r"1 value that is not finite, the first \(-inf\) in row 1",
        ),
        ([[]], "rows and columns"),
        ([1.0], "rows and columns"),
    ],
)
def test_gaps_are_named(values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Rows(torch.tensor(values)).check("x.csv")


def test_batches_cover_all_rows_in_order() -> None:
    data = Rows(torch.arange(10).view(-1, 1).float())
    assert torch.cat(list(data.batches(3, generator(0, "x"))))[:, 0].tolist() == list(range(10))


def test_splits_of_a_data_set() -> None:
    data = Dataset("x", Rows(torch.zeros(3, 2)), Rows(torch.ones(2, 2)))
    assert len(data.rows("all")) == 5
    assert data.rows("all").values[-1].tolist() == [1, 1]
    assert data.rows("test") is data.test
    with pytest.raises(DataError, match="'train', 'test' or 'all', got 'valid'"):
        data.rows("valid")


def test_the_digest_sees_values_and_shape() -> None:
    digests = {
        Rows(v).sha256()
        for v in (torch.zeros(2, 2), torch.zeros(4, 1), torch.ones(2, 2), torch.zeros(2, 2).byte())
    }
    assert len(digests) == 4
