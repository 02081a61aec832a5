"""Rows: checked when they are made; bits from grey values, splits, and digests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import tiny_model
from sdlgm.config import DataConfig, ModelConfig, TrainingConfig
from sdlgm.data import Dataset, Rows, Summary, as_numbers
from sdlgm.data import rows as rows_module
from sdlgm.errors import DataError
from sdlgm.inference.evaluation import evaluate
from sdlgm.nn import check_data
from sdlgm.random import generator
from sdlgm.training import fit

GREY = Rows(torch.tensor([[0, 64, 128, 255]] * 5000, dtype=torch.uint8), maximum=255.0)
KINDS = ("none", "dynamic", "fixed", "threshold")


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


def test_binarisation_by_threshold_and_none() -> None:
    assert GREY.binarise("threshold", 0).values[0].tolist() == [0, 0, 1, 1]
    assert GREY.binarise("none", 0) is GREY
    assert GREY.batch(torch.tensor([0]), generator(0, "test")).tolist() == [[0, 64, 128, 255]]


@pytest.mark.parametrize("bad", [-0.1, 1.5])
def test_values_outside_of_the_grey_range_are_not_binarised(bad: float) -> None:
    rows = Rows(torch.tensor([[0.5, bad]]), name="x.csv")
    with pytest.raises(DataError, match=r"x.csv \(values from .* needs grey values from 0 to 1"):
        rows.binarise("dynamic", 0)
    with pytest.raises(DataError, match=r"x.csv \(values from .* bits, or probabilities of bits,"):
        replace(rows, dynamic=True)


@given(st.integers(2, 200), st.floats(0.01, 0.9), st.integers(0, 5))
def test_a_split_keeps_each_row_once(rows: int, fraction: float, seed: int) -> None:
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
            r"1 value that is not finite, the first \(-inf, or a number beyond 3.4e38\) in row 1",
        ),
        ([[]], "rows and columns"),
        ([1.0], "rows and columns"),
    ],
)
def test_rows_that_are_not_finite_tables_are_refused(values: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Rows(torch.tensor(values), name="x.csv")


def test_the_first_value_that_is_not_finite_is_named_by_its_column() -> None:
    with pytest.raises(DataError, match=r"x.csv has 1 value .* row 1, column 'load'"):
        Rows(torch.tensor([[0.0, 1], [2, torch.nan]]), name="x.csv", columns=("time", "load"))


def test_batches_cover_all_rows_in_order() -> None:
    data = Rows(torch.arange(10).view(-1, 1).float())
    assert torch.cat(list(data.batches(3, generator(0, "x"))))[:, 0].tolist() == list(range(10))


def test_a_data_set_returns_its_splits() -> None:
    data = Dataset("x", Rows(torch.zeros(3, 2)), Rows(torch.ones(2, 2)))
    assert len(data.rows("all")) == 5
    assert data.rows("all").values[-1].tolist() == [1, 1]
    assert data.rows("test") is data.test
    with pytest.raises(DataError, match="'train', 'test' or 'all', got 'valid'"):
        data.rows("valid")


def test_the_digest_depends_on_values_type_and_shape() -> None:
    digests = {
        Rows(v).sha256()
        for v in (torch.zeros(2, 2), torch.zeros(4, 1), torch.ones(2, 2), torch.zeros(2, 2).byte())
    }
    assert len(digests) == 4


@pytest.mark.parametrize("size", [1, 5, 2**16, 2**16 + 3])
def test_a_scan_finds_what_whole_arrays_show(size: int) -> None:
    values = np.random.default_rng(size).normal(size=(size, 3)).astype(np.float32)
    for array in (values, values.round(), (values > 0).astype(np.uint8)):
        whole = bool((array == array.round()).all())
        assert rows_module.scan(array) == Summary(float(array.min()), float(array.max()), whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 40_000, 99_999])
def test_a_scan_overlooks_no_value_that_is_not_finite(bad: float, row: int) -> None:
    values = np.ones((100_000, 2), np.float32)
    values[row, 1] = bad
    found = rows_module.scan(values)
    assert not np.isfinite([found.low, found.high]).all()


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of values of each scan."""
    sizes: list[int] = []

    def counting(values: np.ndarray) -> Summary:
        sizes.append(values.size)
        return scan(values)

    scan = rows_module.scan
    monkeypatch.setattr(rows_module, "scan", counting)
    return sizes


def test_rows_made_from_checked_rows_are_not_scanned(scanned: list[int]) -> None:
    rows = Rows(GREY.values, maximum=255.0)
    train, test = rows.split(0.2, seed=0)
    parts = [part.binarise(kind, 0) for part in (train, test) for kind in KINDS]  # type: ignore[arg-type]
    parts += [
        rows.subset(torch.tensor([0])),
        rows.named("x"),
        Dataset("x", train, test).rows("all"),
    ]
    assert scanned == [GREY.values.numel()]
    for part in parts:
        low, high = float(part.values.min()), float(part.values.max())
        assert part.summary.low <= low <= high <= part.summary.high
        assert part.summary.whole
        assert part.maximum == (1 if high <= 1 else 255)


def test_rows_are_scanned_again_before_an_inherited_range_refuses_them(scanned: list[int]) -> None:
    rows = Rows(torch.tensor([[-1.0, 0.5], [0, 1], [1, 1]]))
    bits = rows.subset(torch.tensor([1, 2]))
    check_data("bernoulli", bits)
    assert scanned == [6, 4]
    with pytest.raises(DataError, match=r"values from -1 to 1\): a Bernoulli"):
        check_data("bernoulli", rows.subset(torch.tensor([0, 1])))
    with pytest.raises(DataError, match=r"values from -1 to 1\): a Bernoulli"):
        check_data("bernoulli", rows)
    assert scanned == [6, 4, 4]


@pytest.mark.parametrize("validation", [0.0, 0.2])
@pytest.mark.parametrize(
    ("likelihood", "binarisation"),
    [("bernoulli", None), ("bernoulli", "fixed"), ("gaussian", None), ("poisson", None)],
)
def test_one_fit_scans_each_value_once(
    likelihood: str, binarisation: str | None, validation: float, scanned: list[int], tmp_path: Path
) -> None:
    data = DataConfig("digits", binarisation=binarisation)  # type: ignore[arg-type]
    model = ModelConfig(likelihood=likelihood, features=6, budget=2, encoder_hidden=(4,))  # type: ignore[arg-type]
    training = TrainingConfig(iterations=2, validation_fraction=validation)
    fit(data, model, training, out=tmp_path / "run", importance_samples=1, progress=False)
    assert scanned == [1797 * 64]


def test_encoding_and_evaluation_scan_each_value_once(scanned: list[int]) -> None:
    model, x = tiny_model(), torch.ones(30, 5)
    model.encode(x)
    assert scanned == [150]
    rows = Rows(x)
    evaluate(model, rows, importance_samples=1)
    evaluate(model, rows, importance_samples=1)
    assert scanned == [150, 150]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([[1, 255]], np.uint8), np.uint8),
        (np.array([[True, False]]), np.uint8),
        (np.array([[1, -2]], np.int64), np.float32),
        (np.array([[1, 2**24]], np.int64), np.float32),
        (np.array([[1, 2**24 + 1]], np.int32), np.float64),
        (np.array([[1, 2**53]], np.uint64), np.float32),
        (np.array([[1, 2**53 - 1]], np.uint64), np.float64),
        (np.array([[0.5, 0.25]]), np.float32),
        (np.array([[0.1, 0.25]]), np.float64),
        (np.array([[0.1, 0.25]], np.float32), np.float32),
        (np.array([[0.1, 0.25]], np.float16), np.float32),
        (np.array([[1700000001.0, 0.0]]), np.float64),
    ],
)
def test_numbers_are_kept_without_change(values: np.ndarray, kind: type) -> None:
    kept = as_numbers(values)
    assert kept.dtype == kind
    assert (kept.astype(np.float64) == values.astype(np.float64)).all()
    rows = Rows(torch.from_numpy(values))
    assert rows.values.numpy().dtype == kind
    batch = rows.batch(slice(None), torch.Generator())
    assert batch.dtype == (torch.float64 if kind == np.float64 else torch.float32)
    assert rows.grey().dtype == batch.dtype
    assert (batch.double().numpy() == values.astype(np.float64)).all()
    assert rows.subset(torch.tensor([0])).values.dtype == rows.values.dtype
    if values.dtype.kind == "i":
        assert rows.values.numpy().astype(np.int64).tolist() == values.tolist()


def test_integers_that_double_precision_would_change_are_refused() -> None:
    for kind in (np.int64, np.uint64):
        with pytest.raises(DataError, match="from 0 to 9007199254740993, .* Subtract an offset"):
            as_numbers(np.array([[0, 2**53 + 1]], kind))
    with pytest.raises(DataError, match="must be numbers, got <U1"):
        as_numbers(np.array([["a"]]))


def test_counters_beyond_2_to_the_24_stay_apart() -> None:
    counters = torch.arange(2**24, 2**24 + 500).unsqueeze(-1)
    assert len(Rows(counters).values.unique()) == 500
