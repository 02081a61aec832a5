"""The Arrow encoder: the model's codes for any split of the rows; wrong input is refused."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import no_warning
from scale.conftest import COLUMNS, telemetry
from sdlgm.codec import describe
from sdlgm.codec.parquet import from_arrow
from sdlgm.errors import ConfigError, DataError, SDLGMWarning
from sdlgm.scale import ArrowEncoder
from sdlgm.training import Run

KEEP = ("host", "time")


def batch_of(rows: int, seed: int = 1) -> pa.RecordBatch:
    return telemetry(rows, seed).combine_chunks().to_batches()[0]


def codes_of(run: Run, batch: pa.RecordBatch) -> torch.Tensor:
    return from_arrow(batch.select(["indices", "counts"]), describe(run.model))


def test_codes_are_the_modes_of_the_posterior(scale_run: Run) -> None:
    batch = batch_of(1500)
    found = ArrowEncoder(scale_run.folder, columns=COLUMNS, keep=KEEP)(batch)
    assert found.schema.names == ["host", "time", "indices", "counts", "n_active"]
    assert found.column("host").equals(batch.column("host"))
    x = torch.from_numpy(np.stack([batch.column(name) for name in COLUMNS], 1))
    codes = codes_of(scale_run, found)
    with torch.no_grad():
        assert torch.equal(codes, scale_run.model.posterior(x).mode)
    assert found.column("n_active").to_pylist() == (codes > 0).sum(-1).tolist()
    assert len(codes.unique(dim=0)) > 3


def test_columns_are_matched_by_name(scale_run: Run) -> None:
    batch = batch_of(50)
    reordered = batch.select([*COLUMNS[::-1], *KEEP])
    for options in ({"keep": KEEP}, {"keep": KEEP, "columns": COLUMNS[::-1]}):
        encoder = ArrowEncoder(scale_run.folder, **options)  # type: ignore[arg-type]
        assert encoder(reordered).equals(encoder(batch))
    codes = codes_of(scale_run, ArrowEncoder(scale_run.folder, keep=KEEP)(batch))
    x = torch.from_numpy(np.stack([batch.column(name) for name in COLUMNS], 1))
    assert torch.equal(codes, scale_run.model.encode(x))


def test_other_names_in_the_models_order_replace_those_of_the_run(scale_run: Run) -> None:
    batch = batch_of(20)
    renamed = batch.rename_columns([f"{name}_new" for name in batch.schema.names])
    found = ArrowEncoder(scale_run.folder, columns=[f"{name}_new" for name in COLUMNS])(renamed)
    assert found.equals(ArrowEncoder(scale_run.folder, columns=COLUMNS)(batch))


def test_the_index_of_a_pandas_table_is_not_encoded(scale_run: Run) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({name: np.arange(5.0) for name in COLUMNS}, index=[3, 1, 4, 1, 5])
    batch = pa.RecordBatch.from_pandas(frame)
    assert "__index_level_0__" in batch.schema.names
    encoder = ArrowEncoder(scale_run.folder)
    assert encoder(batch).equals(encoder(batch.select(COLUMNS)))


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 2600), max_size=6))
def test_codes_do_not_depend_on_the_split_of_the_rows(scale_run: Run, cuts: list[int]) -> None:
    batch, encoder = batch_of(2600), ArrowEncoder(scale_run.folder, keep=KEEP)
    edges = [0, *sorted(cuts), 2600]
    parts = [batch.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    found = pa.Table.from_batches(encoder.encode_batches(parts))
    assert found.combine_chunks().equals(pa.Table.from_batches([encoder(batch)]).combine_chunks())


def test_lists_give_the_same_codes_as_columns(scale_run: Run) -> None:
    batch, encoder = batch_of(50), ArrowEncoder(scale_run.folder, keep=["host"], columns=COLUMNS)
    values = np.stack([batch.column(name) for name in COLUMNS], 1)
    flat = pa.array(values.ravel())
    for lists in (
        pa.FixedSizeListArray.from_arrays(flat, 6),
        pa.ListArray.from_arrays(np.arange(51, dtype=np.int32) * 6, flat),
        pa.array(values.astype(np.float64).tolist(), pa.large_list(pa.float64())),
    ):
        rows = pa.RecordBatch.from_arrays([batch.column("host"), lists], ["host", "x"])
        found = ArrowEncoder(scale_run.folder, keep=["host"])(rows.slice(7))
        assert found.equals(encoder(batch.slice(7)))


def test_tables_and_copies_of_an_encoder_give_the_same_codes(scale_run: Run) -> None:
    encoder, table = ArrowEncoder(scale_run.folder, keep=KEEP), telemetry(30)
    copy = pickle.loads(pickle.dumps(encoder))  # noqa: S301
    found = copy(table)
    assert found.to_batches()[0].equals(encoder(table.to_batches()[0]))
    assert len(pickle.dumps(encoder)) < 1000


def broken(name: str, row: int, value: float | None) -> pa.RecordBatch:
    table = telemetry(9)
    values = table.column(name).to_pylist()
    values[row] = value
    return table.set_column(
        table.schema.get_field_index(name), name, pa.array(values, pa.float64())
    ).to_batches()[0]


@pytest.mark.parametrize(
    ("value", "what"), [(None, "is missing"), (np.nan, "is nan"), (1e300, "is inf")]
)
def test_missing_and_infinite_values_are_named(scale_run: Run, value: float, what: str) -> None:
    encoder = ArrowEncoder(scale_run.folder, keep=KEEP)
    with pytest.raises(DataError, match=rf"Row 12 \(counted from 0\), column 'x3' {what}"):
        list(encoder.encode_batches([batch_of(7), broken("x3", 5, value)]))


def test_incomplete_lists_are_named(scale_run: Run) -> None:
    encoder = ArrowEncoder(scale_run.folder)
    for rows, what in (
        ([[1.0] * 6, [1.0] * 5], r"Row 1 .*column 'x' has 5 values, but the model .* 6"),
        ([[1.0] * 6, None], "Row 1 .*column 'x' is missing"),
        ([[1.0] * 6, [1.0, None, *[1.0] * 4]], r"Row 1 .*column 'x\[1\]' is missing"),
        ([[1.0] * 6, [1.0, 2.0, np.inf, *[1.0] * 3]], r"Row 1 .*column 'x\[2\]' is inf"),
    ):
        batch = pa.RecordBatch.from_arrays([pa.array(rows, pa.list_(pa.float32()))], ["x"])
        with pytest.raises(DataError, match=what):
            encoder(batch)


def test_unsuitable_columns_are_named(scale_run: Run) -> None:
    batch = batch_of(3)
    for options, what in (
        ({}, "has columns that the model was not trained on: host, time. .* --keep"),
        ({"keep": ["host"]}, "has columns that the model was not trained on: time"),
        ({"columns": ["host", *COLUMNS[1:]]}, "columns that are not numbers: host"),
        ({"columns": COLUMNS[1:]}, "5 columns to encode .* the model was trained on 6"),
        ({"keep": ["rack"]}, "no column rack to keep"),
        ({"columns": ["x0", "y"]}, "no column y to encode"),
    ):
        with pytest.raises(DataError, match=what):
            ArrowEncoder(scale_run.folder, **options)(batch)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="lacks columns that the model was trained on: x4"):
        ArrowEncoder(scale_run.folder, keep=KEEP)(batch.drop_columns(["x4"]))
    twice = pa.RecordBatch.from_arrays([*batch.columns, batch["x1"]], [*batch.schema.names, "x1"])
    with pytest.raises(DataError, match="several columns named x1"):
        ArrowEncoder(scale_run.folder, keep=KEEP)(twice)
    for options, what in (
        ({"code": "sample"}, "depend on how its rows are split"),
        ({"keep": ["x0"], "columns": ["x0"]}, "named twice"),
        ({"keep": ["counts"]}, "cannot be kept"),
    ):
        with pytest.raises(ConfigError, match=what):
            ArrowEncoder(scale_run.folder, **options)  # type: ignore[arg-type]


def test_drift_in_a_pipeline_of_ones_own_is_said_once(scale_run: Run) -> None:
    table = pq.read_table(scale_run.config.data.data).combine_chunks()
    near = table.to_batches()[0]
    far = near.set_column(2, "x2", pa.array([1e3] * len(near), pa.float32())).slice(0, 7)
    encoder = ArrowEncoder(scale_run.folder)
    with no_warning():
        encoder(near)
    said = "The first batch with such values: 7 of 42 values .* in column x2: x2 has"
    with pytest.warns(SDLGMWarning, match=said) as found:
        [encoder(batch) for batch in (far, near, pa.Table.from_batches([far, far]))]
    assert len(found) == 1
    with pytest.warns(SDLGMWarning, match=said):  # a copy in another process says it anew
        pickle.loads(pickle.dumps(encoder))(far)  # noqa: S301


def test_drift_is_counted_over_a_stream_or_by_a_counter_of_ones_own(scale_run: Run) -> None:
    near = pq.read_table(scale_run.config.data.data).combine_chunks().to_batches()[0]
    far = near.set_column(2, "x2", pa.array([1e3] * len(near), pa.float32())).slice(0, 7)
    encoder = ArrowEncoder(scale_run.folder)
    with pytest.warns(SDLGMWarning, match="The batches: 14 of 3,684 values") as found:
        list(encoder.encode_batches([far, near, far]))
    assert len(found) == 1
    drift, other = encoder.new_drift(), encoder.new_drift()
    with no_warning():
        encoder.encode(far, drift=drift)
        encoder.encode(far, drift=other)
    drift.merge(other.counts())
    with pytest.warns(SDLGMWarning, match="lake: 14 of 84 values"):
        assert drift.warn("lake")
