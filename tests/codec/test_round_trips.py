"""A table of the user's comes back from codes and lossless files as the table that it was."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import untrained_run
from sdlgm.cli import main
from sdlgm.config import DataConfig
from sdlgm.data.arrow_columns import from_numbers
from sdlgm.training import Run

WHOLE = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
FLOATS = ["float16", "float32", "float64"]
SLOW = settings(deadline=None, max_examples=15)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    lambda name: name not in ("id", "when", "indices", "counts", "n_active", "Unnamed: 0")
)
SIZES = st.integers(1, 1000) | st.integers(1, 3)
KEPT = ["id", "when"]


@st.composite
def tables(draw: st.DrawFn, kinds: list[str], most: int) -> pa.Table:
    """A table with columns of these types and values up to ``most``, and two to be kept."""
    rows, names = draw(SIZES), draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    source = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns: dict[str, Any] = {}
    for name in names:
        kind = np.dtype(draw(st.sampled_from(kinds)))
        if kind.kind == "f":
            unit = draw(st.sampled_from([1.0, 1e-3, 1e3]))
            offset = draw(st.sampled_from([0.0, 1e4 if kind.itemsize == 2 else 1.7e9]))
            columns[name] = (source.normal(size=rows) * unit + offset).astype(kind)
        else:
            columns[name] = source.integers(0, 1 if kind.kind == "b" else most, rows, endpoint=True)
            columns[name] = columns[name].astype(kind)
    columns["id"] = np.arange(rows) + 2**60
    columns["when"] = pa.array(np.arange(rows) * 10**6, pa.timestamp("us"))
    order = draw(st.permutations(list(columns)))
    return pa.table({name: columns[name] for name in order})


def write(path: Path, table: pa.Table) -> None:
    if path.suffix == ".csv":
        pa.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        columns = [column.to_numpy() for column in table.drop_columns(KEPT).columns]
        np.save(path, np.stack(columns, 1))


def read(path: Path) -> Any:
    if path.suffix == ".npy":
        return np.load(path)
    return pa.csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)


def there_and_back(
    folder: Path, table: pa.Table, suffix: str, to: str, back: str, **model: object
) -> tuple[Any, Any, Run]:
    """The table as its file has it, after two commands, and the run."""
    first, made, last = folder / f"t{suffix}", folder / f"made{to}", folder / f"back{suffix}"
    write(first, table)
    keep = () if suffix == ".npy" else KEPT
    run = untrained_run(folder / "run", DataConfig(str(first), keep=tuple(keep)), **model)
    forth = "encode" if back == "decode" else "compress"
    assert main([forth, str(run.folder), str(first), "--out", str(made)]) == 0
    assert main([back, str(run.folder), str(made), "--out", str(last)]) == 0
    return read(first), read(last), run


def one_kind(table: pa.Table) -> pa.Table:
    """The table with all inputs of the type of the first, as an array has them."""
    inputs = table.drop_columns(KEPT)
    kind = inputs.schema.field(0).type
    columns = [np.asarray(c).astype(kind.to_pandas_dtype()) for c in inputs.columns]
    return pa.table([*columns, *table.select(KEPT).columns], [*inputs.column_names, *KEPT])


@pytest.mark.parametrize("to", [".parquet", ".sdz"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
@SLOW
@given(st.data())
def test_a_decoded_table_has_the_order_names_float_types_and_kept_columns(
    suffix: str, to: str, data: st.DataObject
) -> None:
    kinds = FLOATS if suffix == ".parquet" else FLOATS[1:]
    table = data.draw(tables(kinds, 0))
    table = one_kind(table) if suffix == ".npy" else table
    with tempfile.TemporaryDirectory() as name:
        first, last, run = there_and_back(
            Path(name), table, suffix, to, "decode", likelihood="gaussian"
        )
        rows = run.load_rows(run.config.data.data).rows
        means = run.model.decode(run.model.encode(rows)).numpy()
    if suffix == ".npy":
        assert (last.shape, last.dtype) == (first.shape, first.dtype)
        np.testing.assert_allclose(last, means.astype(last.dtype))
        return
    assert last.column_names == first.column_names
    assert last.select(KEPT).equals(first.select(KEPT))
    if suffix == ".parquet":  # CSV has no types
        assert last.schema.types == first.schema.types
    inputs = [name for name in first.column_names if name not in KEPT]
    for place, name in enumerate(inputs):
        column = last.column(name).to_numpy()
        np.testing.assert_allclose(column, means[:, place].astype(column.dtype), rtol=1e-6)


@pytest.mark.parametrize("to", [".parquet", ".sdz"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
@SLOW
@given(st.data())
def test_decoded_counts_have_the_types_of_integers_and_bools(
    suffix: str, to: str, data: st.DataObject
) -> None:
    table = data.draw(tables(WHOLE, 100))
    table = one_kind(table) if suffix == ".npy" else table
    with tempfile.TemporaryDirectory() as name:
        first, last, _ = there_and_back(
            Path(name), table, suffix, to, "decode", likelihood="poisson"
        )
    if suffix == ".npy":
        assert (last.shape, last.dtype) == (first.shape, first.dtype)
        return
    assert last.schema == first.schema
    assert last.select(KEPT).equals(first.select(KEPT))


@pytest.mark.parametrize(
    ("likelihood", "most"), [("poisson", 100), ("categorical", 2), ("bernoulli", 1)]
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
@SLOW
@given(st.data())
def test_a_decompressed_table_equals_the_first(
    suffix: str, likelihood: str, most: int, data: st.DataObject
) -> None:
    table = data.draw(tables(WHOLE, most))
    table = one_kind(table) if suffix == ".npy" else table
    with tempfile.TemporaryDirectory() as name:
        first, last, _ = there_and_back(
            Path(name), table, suffix, ".sdl", "decompress", likelihood=likelihood
        )
    if suffix == ".npy":
        assert last.dtype == first.dtype
        assert np.array_equal(last, first)
        return
    assert last.schema == first.schema
    assert last.equals(first)


def test_arrays_of_images_keep_their_shape_and_type(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 200, (7, 3, 2)).astype(np.uint8)
    np.save(tmp_path / "x.npy", images)
    run = untrained_run(tmp_path / "run", tmp_path / "x.npy", likelihood="poisson")
    for forth, back, made in (("compress", "decompress", "x.sdl"), ("encode", "decode", "x.sdz")):
        x, y, z = (str(tmp_path / name) for name in ("x.npy", made, "y.npy"))
        assert main([forth, str(run.folder), x, "--out", y]) == 0
        assert main([back, str(run.folder), y, "--out", z]) == 0
        found = np.load(z)
        assert (found.shape, found.dtype) == (images.shape, images.dtype)
        assert back == "decode" or np.array_equal(found, images)


def test_a_column_of_lists_comes_back(tmp_path: Path) -> None:
    rows = [[1, 0, 3], [2, 2, 2], [0, 9, 1]]
    table = pa.table({"id": ["a", "b", "c"], "x": pa.array(rows, pa.list_(pa.int16()))})
    pq.write_table(table, tmp_path / "x.parquet")
    data = DataConfig(str(tmp_path / "x.parquet"), keep=("id",))
    run = untrained_run(tmp_path / "run", data, likelihood="poisson")
    assert run.model.n_inputs == 3
    x, y, z = (str(tmp_path / name) for name in ("x.parquet", "y.sdl", "z.parquet"))
    assert main(["compress", str(run.folder), x, "--out", y]) == 0
    assert main(["decompress", str(run.folder), y, "--out", z]) == 0
    assert pq.read_table(z).equals(table)


def test_a_container_decodes_to_the_columns_of_the_run(tmp_path: Path) -> None:
    table = pa.table({"b": pa.array([1, 0, 2], pa.int8()), "a": pa.array([0, 5, 1], pa.uint32())})
    pq.write_table(table, tmp_path / "x.parquet")
    run = untrained_run(tmp_path / "run", tmp_path / "x.parquet", likelihood="poisson")
    x, y, z = (str(tmp_path / name) for name in ("x.parquet", "y.sdz", "z.parquet"))
    assert main(["encode", str(run.folder), x, "--out", y]) == 0
    assert main(["decode", str(run.folder), y, "--out", z]) == 0
    assert pq.read_schema(z).equals(table.schema)
    assert main(["decode", str(run.folder), y, "--out", z, "--means"]) == 0
    assert pq.read_schema(z).types == [pa.float32(), pa.float32()]


KINDS = {
    "text": pa.array(["a", None, "é"]),
    "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
    "when": pa.array([0, 1, None], pa.timestamp("s", "UTC")),
    "price": pa.array([1, 2, 3]).cast(pa.decimal128(25, 2)),
    "tags": pa.array([["a"], [], None], pa.list_(pa.string())),
    "place": pa.array([{"x": 1.5}, {"x": None}, None]),
    "bytes": pa.array([b"", b"\0", None]),
    "large": pa.array([2**62, -1, 0]),
}


def test_a_container_keeps_columns_of_any_common_type(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 0, 2], **KINDS})
    pq.write_table(table, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    data = DataConfig(str(tmp_path / "x.parquet"), columns=("a",))
    run = untrained_run(tmp_path / "run", data, likelihood="poisson")
    x, y, z = (str(tmp_path / name) for name in ("x.parquet", "y.sdz", "z.parquet"))
    assert main(["encode", str(run.folder), x, "--keep", *KINDS, "--out", y]) == 0
    assert main(["decode", str(run.folder), y, "--out", z]) == 0
    found = pq.read_table(z)
    assert found.schema.equals(table.schema)
    assert found.select(list(KINDS)).equals(table.select(list(KINDS)))


def test_columns_of_decimals_come_back_as_such(tmp_path: Path) -> None:
    values = [Decimal("0.00"), Decimal("3.00"), Decimal("250.00")]
    table = pa.table(
        {
            "a": pa.array(values, pa.decimal128(10, 2)),
            "b": pa.array(values, pa.decimal256(50, 4)),
            "c": pa.array(values, pa.decimal128(3, 0)),
        }
    )
    for name in KEPT:
        table = table.append_column(name, pa.array([1, 2, 3]))
    first, last, _ = there_and_back(
        tmp_path, table, ".parquet", ".sdl", "decompress", likelihood="poisson"
    )
    assert last.schema == first.schema
    assert last.equals(first)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("decimal128(10, 2)", [2.0, 0.0, 10.0**8 - 1, -(10.0**8) + 1, None]),
        ("decimal256(3, 2)", [2.0, 0.0, 9.0, -9.0, None]),
        ("decimal128(99, 2)", [2.4, -0.2, 1e30, -1e30, np.nan]),  # there is no such type
    ],
)
def test_decoded_decimals_are_rounded_and_cut_to_their_range(kind: str, wanted: list[Any]) -> None:
    found = from_numbers(np.array([2.4, -0.2, 1e30, -1e30, np.nan]), kind, True).to_pylist()
    np.testing.assert_equal([None if v is None else float(v) for v in found], wanted)


def test_a_type_that_cannot_be_kept_is_named_and_nothing_is_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    maps = pa.array([[("x", 1)], None], pa.map_(pa.string(), pa.int8()))
    table = pa.table({"a": [1, 0], "none": maps})
    pq.write_table(table, tmp_path / "x.parquet")
    data = DataConfig(str(tmp_path / "x.parquet"), columns=("a",))
    run = untrained_run(tmp_path / "run", data, likelihood="poisson")
    x, y = (str(tmp_path / name) for name in ("x.parquet", "y.sdz"))
    assert main(["encode", str(run.folder), x, "--keep", "none", "--out", y]) == 1
    assert "The kept column 'none' is of type map<string, int8" in capfd.readouterr().err
    assert not Path(y).exists()


def test_damage_to_kept_columns_is_said_and_the_codes_can_be_salvaged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"a": [1, 0, 2], "id": [7, 8, 9]}), tmp_path / "x.parquet")
    data = DataConfig(str(tmp_path / "x.parquet"), columns=("a",), keep=("id",))
    run = untrained_run(tmp_path / "run", data, likelihood="poisson")
    x, y, z = (str(tmp_path / name) for name in ("x.parquet", "y.sdz", "z.parquet"))
    assert main(["encode", str(run.folder), x, "--out", y]) == 0
    content = bytearray(Path(y).read_bytes())
    place = content.index(b'"format_version"')
    content[place] ^= 1
    Path(y).write_bytes(content)
    assert main(["decode", str(run.folder), y, "--out", z]) == 1
    assert "the kept columns, or the names of the columns, do not match" in capfd.readouterr().err
    assert main(["decode", str(run.folder), y, "--out", z, "--salvage"]) == 0
    assert "its kept columns, and the names of its columns, are lost" in capfd.readouterr().err
    assert pq.read_table(z).column_names == ["a"]


def test_an_integer_is_cut_to_the_range_of_its_type_and_a_lost_row_stays_missing() -> None:
    from sdlgm.data.arrow_columns import from_numbers

    found = from_numbers(np.array([300.4, -2, np.nan, 1.6]), "uint8", whole=True)
    assert found.to_pylist() == [255, 0, None, 2]
    assert from_numbers(np.array([0.4, 0.6]), "bool", whole=True).to_pylist() == [False, True]
    assert from_numbers(np.array([0.4, 0.6]), "bool", whole=False).to_pylist() == [0.4, 0.6]


def test_a_damaged_description_of_the_columns_is_refused(tmp_path: Path) -> None:
    from sdlgm.codec import decode_table
    from sdlgm.codec.encoding import describe
    from sdlgm.codec.parquet import TABLE, code_writer, to_arrow
    from sdlgm.errors import CodeFileError

    pq.write_table(pa.table({"a": [1, 0], "b": [1, 1]}), tmp_path / "x.parquet")
    model = untrained_run(tmp_path / "run", tmp_path / "x.parquet", likelihood="poisson").model
    for note in ("{", "[]", '{"format_version": 1}', "null"):
        with code_writer(tmp_path / "c.parquet", describe(model), notes={TABLE: note}) as writer:
            writer.write(to_arrow(torch.zeros(2, 3)))
        with pytest.raises(CodeFileError, match=r"c.parquet is damaged"):
            decode_table(model, tmp_path / "c.parquet")
