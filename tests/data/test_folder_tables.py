"""Folders of files as one table: the same rows as one file, and a fair sample of many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

import sdlgm.data.folder_tables as module
from sdlgm.config import DataConfig
from sdlgm.data import Columns, FolderRows, Table, load_data
from sdlgm.data.folder_tables import FolderTable, folder_sha256, sample_indices
from sdlgm.errors import ConfigError, DataError, SDLGMWarning


def table(rows: int, seed: int = 0) -> pa.Table:
    source = np.random.default_rng(seed)
    return pa.table({"a": source.normal(size=rows), "b": source.integers(0, 9, rows)})


def put(folder: Path, **files: pa.Table) -> str:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        pq.write_table(content, folder / f"{name}.parquet", row_group_size=7)
    return str(folder)


def opened(data: str, **more: object) -> FolderTable:
    return FolderTable.open(data, lambda each: each.select(), **more)  # type: ignore[arg-type]


def batches(rows: FolderRows, size: int) -> list[torch.Tensor]:
    return list(rows.batches(size, torch.Generator()))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read a few rows at a time."""
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 10)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npy"])
def test_a_folder_has_the_rows_of_its_files_in_order(suffix: str, tmp_path: Path) -> None:
    parts = [table(rows, rows) for rows in (13, 1, 40)]
    for number, part in enumerate(parts):
        path = tmp_path / "lake" / f"{number}{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix == ".npy":
            np.save(path, np.stack([column.to_numpy() for column in part.columns], 1))
        elif suffix == ".csv":
            pa.csv.write_csv(part, path)
        else:
            pq.write_table(part, path, row_group_size=7)
    wanted = Table.of(pa.concat_tables(parts)).select().rows().values
    folder = opened(str(tmp_path / "lake"))
    rows, places = folder.rows()
    assert torch.equal(rows.values.double(), wanted.double())
    assert torch.equal(places, torch.arange(54))
    for size in (4, 100):
        found = batches(FolderRows(folder), size)
        assert torch.equal(torch.cat(found).double(), wanted.double())
        assert [len(each) for each in found][:-1] == [size] * (len(found) - 1)


def test_a_folder_is_split_as_one_file_of_its_rows(tmp_path: Path) -> None:
    parts = {"a": table(30, 1), "b": table(25, 2)}
    data = put(tmp_path / "lake", **parts)
    pq.write_table(pa.concat_tables(list(parts.values())), tmp_path / "one.parquet")
    folder = load_data(DataConfig(data), "gaussian")
    one = load_data(DataConfig(str(tmp_path / "one.parquet")), "gaussian")
    for split in ("train", "test", "all"):
        assert torch.equal(folder.rows(split).values, one.rows(split).values)
    assert folder.columns == one.columns


def test_a_sample_of_rows_is_said_once_and_repeatable(tmp_path: Path) -> None:
    data = put(tmp_path / "lake", a=table(300, 1), b=table(200, 2))
    config = DataConfig(data, max_rows=100)
    with pytest.warns(SDLGMWarning, match="100 of 500 rows are used, a random sample") as said:
        first = load_data(config, "gaussian")
    assert len(said) == 1
    with pytest.warns(SDLGMWarning, match="--max-rows"):
        again = load_data(config, "gaussian")
    assert len(first.train) + len(first.test) == 100
    assert torch.equal(first.train.values, again.train.values)
    whole = opened(data).rows()[0].values
    assert first.places is not None
    assert torch.equal(first.rows("all").values, whole[first.places.sort().values])
    with pytest.raises(ConfigError, match="max_rows must be at least 2"):
        DataConfig(data, max_rows=1)


@pytest.mark.usefixtures("small_parts")
def test_only_rows_that_fit_are_read_unless_their_number_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VALUES_IN_MEMORY", 60)
    folder = opened(put(tmp_path / "lake", a=table(50)))
    with pytest.warns(SDLGMWarning, match="30 of 50 rows"):
        assert len(folder.rows()[0]) == 30
    assert len(folder.rows(50)[0]) == 50


@pytest.mark.parametrize(("number", "of"), [(3, 10), (2, 40), (9, 10)])
def test_all_rows_are_sampled_equally_often(number: int, of: int) -> None:
    counts, draws = np.zeros(of), 4000
    for seed in range(draws):
        index = sample_indices(number, of, seed)
        assert len(index) == number
        assert (np.diff(index) > 0).all()
        counts[index] += 1
    share = number / of
    deviations = (counts - draws * share) / np.sqrt(draws * share * (1 - share))
    assert np.abs(deviations).max() < 4.5


def test_a_sample_of_very_many_rows_takes_little_memory() -> None:
    index = sample_indices(1000, 10**15, 0)
    assert len(np.unique(index)) == 1000
    assert index.max() > 10**14


def test_files_with_other_columns_are_named(tmp_path: Path) -> None:
    one, lake = table(5), tmp_path / "lake"
    data = put(lake, a=one, b=one.select(["b", "a"]), c=one.append_column("new", one["a"]))
    with pytest.raises(DataError, match=r"c.parquet has columns that .*a.parquet does not .* new"):
        opened(data)
    put(lake, c=one.select(["b"]))
    with pytest.raises(DataError, match=r"c.parquet lacks columns of .*a.parquet: a.*--columns"):
        opened(data)
    put(lake, c=pa.table({"a": [1, 2], "b": ["x", "y"]}))
    with pytest.raises(DataError, match=r"c.parquet has columns that are not numbers: b"):
        opened(data).rows()


def test_named_columns_may_be_among_others_and_kept_ones_are_not_read(tmp_path: Path) -> None:
    one = table(5)
    data = put(tmp_path / "lake", a=one, b=one.append_column("new", one["a"]))
    assert load_data(DataConfig(data, columns=("b", "a")), "gaussian").train.columns == ("b", "a")
    ids = one.append_column("id", pa.array(list("vwxyz")))
    data = put(tmp_path / "kept", a=ids, b=ids)
    columns = load_data(DataConfig(data, keep=("id",)), "gaussian").columns
    assert columns is not None
    assert columns.names == ("a", "b")
    assert columns.order == ("a", "b", "id")


def test_types_of_several_files_become_one_that_holds_all(tmp_path: Path) -> None:
    kinds = ("int32", "int32"), ("int8", "uint16"), ("int32", "float"), ("bool", "int8")
    for first, second in kinds:
        parts = [pa.table({"a": pa.array([0, 1]).cast(kind)}) for kind in (first, second)]
        data = put(tmp_path / f"{first}-{second}", a=parts[0], b=parts[1])
        types = opened(data).columns().types
        whole = "int64" if "float" not in second else "double"
        assert types == (("int32",) if first == second else (whole,))


def test_files_without_rows_are_passed_over_and_a_folder_without_any_refused(
    tmp_path: Path,
) -> None:
    one = table(5)
    data = put(tmp_path / "lake", a=one[:0], b=one, c=one[:0])
    assert torch.equal(opened(data).rows()[0].values, Table.of(one).select().rows().values)
    with pytest.raises(DataError, match="has no rows"):
        opened(put(tmp_path / "empty", a=one[:0]))
    with pytest.raises(DataError, match="There are no"):
        opened(str(tmp_path / "nothing-*"))


def test_several_formats_in_one_folder_need_a_pattern(tmp_path: Path) -> None:
    data = put(tmp_path / "lake", a=table(5))
    np.save(tmp_path / "lake/b.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match=r"several formats \(.npy, .parquet\). .* a pattern"):
        opened(data)
    assert len(opened(f"{data}/*.npy")) == 3


def test_arrays_of_other_shapes_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    np.save(folder / "a.npy", np.ones((3, 2)))
    np.save(folder / "b.npy", np.ones((3, 4)))
    with pytest.raises(DataError, match=r"b.npy has rows of shape \(4,\), but .*a.npy of \(2,\)"):
        opened(str(folder))


def test_columns_of_lists_are_read_and_must_have_one_length(tmp_path: Path) -> None:
    lists = [pa.table({"x": [[1, 2, 3], [4, 5, 6]]}), pa.table({"x": [[7.5, 8, 9]]})]
    data = put(tmp_path / "lake", a=lists[0], b=lists[1])
    folder = opened(data)
    assert folder.rows()[0].values.tolist() == [[1, 2, 3], [4, 5, 6], [7.5, 8, 9]]
    assert folder.columns().types == ("double",) * 3
    put(tmp_path / "lake", c=pa.table({"x": [[1, 2]]}))
    with pytest.raises(DataError, match="c.parquet has rows of 2 values, but .*a.parquet of 3"):
        opened(data).rows()


@pytest.mark.usefixtures("small_parts")
def test_a_missing_value_is_named_by_file_row_and_column(tmp_path: Path) -> None:
    values = [*[0.0] * 20, None, 1.0]
    data = put(tmp_path / "lake", a=table(5), b=pa.table({"a": values, "b": [1] * 22}))
    folder = opened(data)
    for read in (folder.rows, lambda: batches(FolderRows(folder), 10)):
        with pytest.raises(DataError, match=r"b.parquet has 1 value .* in row 20, column 'a'"):
            read()


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path: Path) -> None:
    data = put(tmp_path / "lake", a=table(5), b=table(5))
    folder = opened(data)
    put(tmp_path / "lake", b=table(7))
    with pytest.raises(DataError, match=r"b.parquet changed while it was read \(7 rows"):
        folder.rows()


def test_drift_is_counted_over_all_files_and_said_once(tmp_path: Path) -> None:
    low, high = (0.0, 0.0), (1.0, 1.0)
    known = Columns(names=("a", "b"), types=("double",) * 2, low=low, high=high)
    parts = {name: pa.table({"a": [0.5, 9.0], "b": [value, 1.0]}) for name, value in
             (("x", 0.0), ("y", -5.0), ("z", 1.5))}  # fmt: skip
    rows = FolderRows(opened(put(tmp_path / "lake", **parts)), known=known)
    with pytest.warns(SDLGMWarning, match="far outside") as said:
        batches(rows, 2)
    assert len(said) == 1
    assert "4 of 12 values" in str(said[0].message)
    assert "in column a (3), b (1): a has 0.5 to 9, in training 0 to 1" in str(said[0].message)


def test_the_digest_covers_names_and_contents(tmp_path: Path) -> None:
    data = put(tmp_path / "lake", a=table(5), b=table(5, 1))
    first = folder_sha256(data)
    assert folder_sha256(f"{data}/*.parquet") == first
    (tmp_path / "lake").rename(tmp_path / "moved")
    assert folder_sha256(str(tmp_path / "moved")) == first
    (tmp_path / "moved/b.parquet").rename(tmp_path / "moved/c.parquet")
    assert folder_sha256(str(tmp_path / "moved")) != first
    put(tmp_path / "moved", a=table(6))
    (tmp_path / "moved/c.parquet").rename(tmp_path / "moved/b.parquet")
    assert folder_sha256(str(tmp_path / "moved")) != first
