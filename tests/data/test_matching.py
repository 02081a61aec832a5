"""Tables as they are read: which columns count as numbers, and which belong to a model."""

from __future__ import annotations

import decimal
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers import no_warning
from sdlgm.config import DataConfig
from sdlgm.data import Columns, Rows, Table, load_data, read_rows, read_table
from sdlgm.errors import DataError, ModelFileError, SDLGMWarning


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_are_matched_by_name_whatever_their_order(tmp_path: Path) -> None:
    known = Columns(names=("a", "b"))
    table = read_table(parquet(tmp_path / "x.parquet", b=[1, 2], a=[3, 4]))
    assert table.match(known).rows().values.tolist() == [[3, 1], [4, 2]]
    assert table.match(known, columns=["b", "a"]).rows().values.tolist() == [[3, 1], [4, 2]]


def test_missing_and_unknown_columns_are_listed(tmp_path: Path) -> None:
    table = read_table(parquet(tmp_path / "x.parquet", a=[1], c=[2], d=[3]))
    with pytest.raises(DataError, match="lacks columns .* trained on: b, and .* not .* on: c, d"):
        table.match(Columns(names=("a", "b")))
    with pytest.raises(DataError, match=r"not trained on: d. .* --keep"):
        table.match(Columns(names=("a", "c")))
    assert table.match(Columns(names=("a", "c")), keep=["d"]).rows().n_inputs == 2
    with pytest.raises(DataError, match="has no column z"):
        table.match(Columns(names=("a", "c")), keep=["d", "z"])
    with pytest.raises(DataError, match="named twice"):
        table.match(Columns(names=("a", "c")), keep=["d", "a"])


def test_columns_without_names_are_matched_by_position(tmp_path: Path) -> None:
    table = read_table(parquet(tmp_path / "x.parquet", b=[1.0], a=[2.0]))
    assert table.match(Columns()).rows().values.tolist() == [[1, 2]]
    np.save(tmp_path / "x.npy", np.array([[1.0, 2.0]]))
    array = read_table(tmp_path / "x.npy")
    assert array.match(Columns(names=("a", "b"))).rows().values.tolist() == [[1, 2]]
    with pytest.raises(DataError, match="no names of columns"):
        array.match(Columns(names=("a", "b")), keep=["a"])


def test_a_list_of_values_stands_for_columns_and_the_reverse(tmp_path: Path) -> None:
    lists = read_table(parquet(tmp_path / "x.parquet", x=[[1, 2], [3, 4]]))
    assert lists.match(Columns(("a", "b"), ("float", "float"))).rows().values.tolist() == [
        [1, 2],
        [3, 4],
    ]
    table = read_table(parquet(tmp_path / "y.parquet", a=[1, 3], b=[2, 4]))
    known = Columns(("x",), ("float", "float"), lists=True)
    assert table.match(known).rows().values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("name", [None, "time"])
def test_the_index_of_pandas_is_no_feature(name: str | None, tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1.0, 2], "b": [3.0, 4]}, index=pd.Index([7, 5], name=name))
    frame.to_parquet(tmp_path / "x.parquet")
    with pytest.warns(SDLGMWarning, match="is the index of a pandas table, and is not used"):
        rows, _ = read_rows(tmp_path / "x.parquet")
    assert rows.columns == ("a", "b")
    wanted = name or "__index_level_0__"
    kept = read_table(tmp_path / "x.parquet").select(keep=[wanted]).kept()
    assert kept is not None
    assert kept.column(0).to_pylist() == [7, 5]
    rows = read_table(tmp_path / "x.parquet").select(["b", wanted]).rows()
    assert rows.values.tolist() == [[3, 7], [4, 5]]


@pytest.mark.parametrize("header", [",a,b", "Unnamed: 0,a,b"])
def test_a_first_column_of_a_csv_file_without_a_name_is_no_feature(
    header: str, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text(f"{header}\n0,1,2\n1,3,4\n")
    with pytest.warns(SDLGMWarning, match="index of a pandas table"):
        rows, _ = read_rows(tmp_path / "x.csv")
    assert rows.columns == ("a", "b")


def test_a_csv_file_without_a_header_is_refused_or_read_whole(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2.5\n3,4\n5,1e2\n")
    with pytest.raises(DataError, match=r"first line .* numbers \(1, 2.5\).* --no-header"):
        read_rows(tmp_path / "x.csv")
    table = read_table(tmp_path / "x.csv", header=False)
    assert table.select().rows().values.tolist() == [[1, 2.5], [3, 4], [5, 100]]
    assert not table.columns().header
    named = read_table(tmp_path / "x.csv", header=True)
    assert named.names == ("1", "2.5")
    data = DataConfig(str(tmp_path / "x.csv"), header=False, test_fraction=0.4)
    assert len(load_data(data, "gaussian").rows("all")) == 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_of_one_name_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".csv":
        path.write_text("load,x,load\n1,2,3\n")
    else:
        pq.write_table(pa.table([[1], [2], [3]], ["load", "x", "load"]), path)
    with pytest.raises(DataError, match="several columns named load"):
        read_table(path)


def test_times_are_refused_with_their_columns_and_the_cure(tmp_path: Path) -> None:
    when = pa.array([0, 1], pa.timestamp("us"))
    table = read_table(
        parquet(tmp_path / "x.parquet", a=[1, 2], when=when, took=when.cast(pa.date32()))
    )
    with pytest.raises(DataError, match="columns of times: when, took.*total_seconds.*--keep"):
        table.select().rows()
    assert table.select(keep=["when", "took"]).rows().n_inputs == 1
    (tmp_path / "x.csv").write_text("a,when\n1,2026-01-01 10:00:00\n")
    with pytest.raises(DataError, match="columns of times: when"):
        read_rows(tmp_path / "x.csv")
    np.save(tmp_path / "x.npy", np.array([["2026-01-01", "NaT"]], "datetime64[s]"))
    with pytest.raises(DataError, match="holds times"):
        read_rows(tmp_path / "x.npy")


def test_decimals_dictionaries_bools_and_small_types_are_numbers(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "x.parquet",
        decimal=pa.array([decimal.Decimal("1.25"), decimal.Decimal("-3.50")]),
        bits=[True, False],
        half=pa.array(np.array([0.5, 2], np.float16)),
        byte=pa.array([7, 255], pa.uint8()),
        chosen=pa.array([2.5, 2.5]).dictionary_encode(),
    )
    assert read_rows(path)[0].values.tolist() == [[1.25, 1, 0.5, 7, 2.5], [-3.5, 0, 2, 255, 2.5]]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_integers_beyond_single_precision_are_kept_whatever_the_suffix(
    suffix: str, tmp_path: Path
) -> None:
    values, path = np.arange(500) + 2**31, tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, values.reshape(-1, 1))
    elif suffix == ".csv":
        path.write_text("n\n" + "\n".join(map(str, values)) + "\n")
    else:
        parquet(path, n=values)
    rows, _ = read_rows(path)
    assert rows.values.dtype == torch.float64
    assert rows.values[:, 0].tolist() == values.tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_integers_beyond_double_precision_are_refused_by_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, np.array([[1, 2**60 + 1]]))
    elif suffix == ".csv":
        path.write_text(f"a,n\n1,{2**60 + 1}\n")
    else:
        parquet(path, a=[1], n=[2**60 + 1])
    with pytest.raises(DataError, match=r"beyond 2\^53 in column (n|1).* Subtract an offset"):
        read_rows(path)


def test_single_precision_is_used_where_it_changes_nothing(tmp_path: Path) -> None:
    for values, kind in (([0.5, 3.0], torch.float32), ([0.1, 3.0], torch.float64)):
        rows, _ = read_rows(parquet(tmp_path / "x.parquet", x=np.array(values)))
        assert rows.values.dtype == kind
        assert rows.values[:, 0].tolist() == values


def test_lists_of_unequal_length_and_missing_lists_are_named(tmp_path: Path) -> None:
    for rows, what in (([[1, 2], [1]], "row 1 .* has 1 values"), ([[1, 2], None], "is missing")):
        with pytest.raises(DataError, match=f"list in {what}|{what}"):
            read_rows(parquet(tmp_path / "x.parquet", x=rows))
    with pytest.raises(DataError, match="several columns, with lists among them: x"):
        read_rows(parquet(tmp_path / "x.parquet", x=[[1, 2]], y=[1]))


def test_arrays_of_odd_shapes_and_archives_are_refused(tmp_path: Path) -> None:
    for shape in ((), (3,), (2, 2, 2, 2), (0, 3), (3, 0), (3, 0, 2)):
        np.save(tmp_path / "x.npy", np.zeros(shape))
        with pytest.raises(DataError, match="must have rows and columns"):
            read_rows(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 2)))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(DataError, match="archive of several arrays"):
        read_rows(tmp_path / "x.npy")


def test_all_rows_of_a_file_are_in_its_order(tmp_path: Path) -> None:
    parquet(tmp_path / "x.parquet", n=np.arange(40.0))
    dataset = load_data(DataConfig(str(tmp_path / "x.parquet")), "gaussian")
    assert dataset.rows("all").values[:, 0].tolist() == list(range(40))
    assert dataset.places is not None
    assert dataset.places[36:].tolist() == dataset.test.values[:, 0].tolist()


def test_values_far_outside_of_the_training_range_are_counted_once() -> None:
    columns = Columns(names=("cpu", "ram")).with_ranges(Rows(torch.tensor([[0.0, 5], [10, 5]])))
    near = Rows(torch.tensor([[20.0, 5], [-10, 5]]))
    with no_warning():
        columns.warn_of_drift(near)
    far = Rows(torch.tensor([[20.1, 5], [-10, 6], [1, 7]]), name="new.csv")
    with pytest.warns(SDLGMWarning) as found:
        columns.warn_of_drift(far)
    (said,) = [str(warning.message) for warning in found]
    assert said.startswith("new.csv: 2 of 6 values lie far outside of the range")
    assert "in column cpu (1), ram (1): cpu has -10 to 20.1, in training 0 to 10" in said


def test_what_a_run_knows_of_its_columns_survives_its_file(tmp_path: Path) -> None:
    lists = Columns(("x",), ("float", "float"), (0.0, -1.0), (1.0, 2.5), lists=True, order=("x",))
    for columns in (Columns(), lists, Columns(("a", "é\x1b"), ("bool", "int8"), header=False)):
        columns.write(tmp_path)
        assert Columns.read(tmp_path) == columns
    assert Columns.read(tmp_path / "none") is None
    good = lists.to_dict()
    for wrong in (
        {},
        [],
        {**good, "names": [1]},
        {**good, "names": ["x", "y"]},
        {**good, "low": [0.0]},
        {**good, "high": ["x", "y"]},
        {**good, "types": {"all": "float", "columns": 10**12}},
        {**good, "image_shape": [0, 1]},
        {**good, "format_version": 2},
        {**good, "format_version": None},
    ):
        (tmp_path / "columns.json").write_text(json.dumps(wrong))
        with pytest.raises(ModelFileError, match=r"columns.json"):
            Columns.read(tmp_path)


def test_names_that_a_terminal_would_act_on_are_escaped(tmp_path: Path) -> None:
    table = Table(pa.table({"\x1b[31mred": ["x"]}), "x.parquet")
    with pytest.raises(DataError, match=r"not numbers: '\\x1b\[31mred'"):
        table.rows()
