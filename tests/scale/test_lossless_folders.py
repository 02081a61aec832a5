"""Folders of files compressed without loss, file by file, and restored."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import untrained_run
from scale.conftest import kill_session
from scale.test_folders import names
from sdlgm.cli import main
from sdlgm.config import DataConfig
from sdlgm.errors import CodeFileError, ConfigError, DataError, SDLGMWarning
from sdlgm.scale import Report, compress_dataset
from sdlgm.training import Run

KEEP = ["host"]


def counts(rows: int, seed: int = 0) -> pa.Table:
    """A name and three columns of counts of several types."""
    source = np.random.default_rng(seed)
    values = source.poisson(2, (rows, 3))
    return pa.table(
        {
            "host": [f"h{row % 5}" for row in range(rows)],
            "a": pa.array(values[:, 0], pa.int64()),
            "b": pa.array(values[:, 1], pa.uint8()),
            "c": pa.array(values[:, 2].astype(np.float64)),
        }
    )


def put(folder: Path, **files: pa.Table) -> Path:
    for name, table in files.items():
        path = folder / f"{name.replace('__', '/')}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    data = put(tmp_path / "train", x=counts(50)) / "x.parquet"
    return untrained_run(tmp_path / "run", DataConfig(str(data), keep=("host",)),
                         likelihood="poisson")  # fmt: skip


def compress(run: Run, data: Path | str, out: Path | str, **more: object) -> Report:
    return compress_dataset(run.folder, data, out, progress=False, **more)  # type: ignore[arg-type]


def restore(run: Run, packed: Path, out: Path) -> Path:
    assert main(["decompress", str(run.folder), str(packed), "--out", str(out), "--quiet"]) == 0
    return out


@st.composite
def lakes(draw: st.DrawFn) -> dict[str, pa.Table]:
    """One to four tables of 0 to 500 rows with the same columns in several orders."""
    columns = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True))
    kinds = st.sampled_from(["int8", "int32", "int64", "uint16", "bool", "float32", "float64"])
    types = {name: np.dtype(draw(kinds)) for name in columns}
    places = ["a", "b", "day=1/c", "day=2/hour=0/a"]
    source, files = np.random.default_rng(draw(st.integers(0, 2**32))), {}
    for place in draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True)):
        rows = draw(st.integers(0, 500) | st.integers(0, 3)) if files else draw(st.integers(1, 500))
        made: dict[str, object] = {}
        for name, kind in types.items():
            most = 1 if kind.kind == "b" else draw(st.sampled_from([1, 100]))
            made[name] = source.integers(0, most, rows, endpoint=True).astype(kind)
        made["id"] = [None if row % 3 == 0 else f"é{row}" for row in range(rows)]
        table = pa.table(made)
        table = table.set_column(table.column_names.index("id"), "id",
                                 table["id"].cast(pa.string()))  # fmt: skip
        files[place] = table.select(draw(st.permutations(list(made))))
    return files


def filled(table: pa.Table) -> pa.Table:
    place = table.column_names.index("id")
    return table.set_column(place, "id", table["id"].fill_null("none"))


@settings(deadline=None, max_examples=20)
@given(files=lakes(), kind=st.sampled_from(["parquet", "csv"]))
def test_a_restored_folder_equals_the_folder(files: dict[str, pa.Table], kind: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if kind == "csv":  # which has no types for columns without rows, and no missing texts
            files = {p: filled(table) for p, table in files.items() if len(table)}
        for place, table in files.items():
            path = root / "lake" / f"{place}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path) if kind == "parquet" else pacsv.write_csv(table, path)
        first = root / "lake" / f"{min(p for p, t in files.items() if len(t))}.{kind}"
        run = untrained_run(root / "run", DataConfig(str(first), keep=("id",)),
                            likelihood="poisson")  # fmt: skip
        call = [str(run.folder), str(root / "lake"), "--out", str(root / "packed"), "--quiet"]
        assert main(["compress", *call]) == 0
        assert names(root / "packed") == sorted(f"{place}.{kind}.sdl" for place in files)
        restore(run, root / "packed", root / "back")
        assert names(root / "back") == names(root / "lake")
        for place, table in files.items():
            both = [root / where / f"{place}.{kind}" for where in ("lake", "back")]
            if kind == "csv":
                assert both[0].read_bytes() == both[1].read_bytes()
            else:
                found = pq.ParquetFile(both[1]).read()
                assert found.equals(table), (found.schema, table.schema)


def test_finished_files_are_skipped_and_changed_files_compressed_again(
    run: Run, tmp_path: Path
) -> None:
    lake, out = put(tmp_path / "lake", a=counts(40), sub__b=counts(30, 1)), tmp_path / "out"
    assert compress(run, lake, out)[:4] == (2, 70, 2, 70)
    stamp = (out / "a.parquet.sdl").stat().st_mtime_ns
    assert compress(run, lake, out)[:4] == (2, 70, 0, 0)
    put(lake, sub__b=counts(31, 2))
    assert compress(run, lake, out)[:4] == (2, 71, 1, 31)
    assert (out / "a.parquet.sdl").stat().st_mtime_ns == stamp
    back = restore(run, out, tmp_path / "back")
    assert pq.ParquetFile(back / "sub/b.parquet").read().equals(counts(31, 2))


def test_outputs_of_others_are_not_replaced(run: Run, tmp_path: Path) -> None:
    lake, out = put(tmp_path / "lake", a=counts(40)), tmp_path / "out"
    compress(run, lake, out)
    before = (out / "a.parquet.sdl").read_bytes()
    with pytest.raises(ConfigError, match=r"a.parquet.sdl exists already .* other options"):
        compress(run, lake, out, keep=[], columns=["a", "b", "c"])
    assert (out / "a.parquet.sdl").read_bytes() == before
    for content in (b"notes", before[:-1], before[:50]):
        (out / "a.parquet.sdl").write_bytes(content)
        with pytest.raises(ConfigError, match="or is damaged. Delete it"):
            compress(run, lake, out)
        assert (out / "a.parquet.sdl").read_bytes() == content


def test_a_kill_loses_one_file_at_most(run: Run, tmp_path: Path) -> None:
    lake = put(tmp_path / "lake", **{f"p{part}": counts(500, part) for part in range(6)})
    out = tmp_path / "out"
    code = f"""
import time
from sdlgm.codec import lossless
from sdlgm.scale import compress_dataset, lossless_folders
write = lossless.compress_file
lossless_folders.compress_file = lambda *a, **k: (write(*a, **k), print('done', flush=True),
                                                  time.sleep(0.1))
compress_dataset({str(run.folder)!r}, {str(lake)!r}, {str(out)!r}, progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                               start_new_session=True)  # fmt: skip
    assert process.stdout
    for _ in range(2):
        process.stdout.readline()
    kill_session(process)
    finished = [name for name in names(out) if name.endswith(".sdl")]
    assert 2 <= len(finished) < 6
    assert compress(run, lake, out).encoded_files == 6 - len(finished)
    assert names(out) == [f"p{part}.parquet.sdl" for part in range(6)]
    back = restore(run, out, tmp_path / "back")
    for part in range(6):
        assert pq.ParquetFile(back / f"p{part}.parquet").read().equals(counts(500, part))


def test_files_without_rows_arrays_lists_and_keys_come_back(run: Run, tmp_path: Path) -> None:
    lake = put(tmp_path / "lake", day=counts(5), day__x=counts(0))
    compress(run, lake, tmp_path / "out")
    back = restore(run, tmp_path / "out", tmp_path / "back")
    assert pq.ParquetFile(back / "day/x.parquet").read().equals(counts(0))

    lists = pa.table({"v": pa.array([[1, 2, 3]] * 4, pa.list_(pa.int32()))})
    lake = put(tmp_path / "lists", a=lists, b=lists.slice(0, 0))
    of_lists = untrained_run(tmp_path / "run2", lake / "a.parquet", likelihood="poisson")
    compress(of_lists, lake, tmp_path / "out2")
    back = restore(of_lists, tmp_path / "out2", tmp_path / "back2")
    for name, table in (("a", lists), ("b", lists.slice(0, 0))):
        assert pq.ParquetFile(back / f"{name}.parquet").read().equals(table)

    array = np.random.default_rng(0).integers(0, 2, (7, 2, 3)).astype(np.uint8)
    (tmp_path / "arrays/sub").mkdir(parents=True)
    np.save(tmp_path / "arrays/sub/a.npy", array)
    of_array = untrained_run(tmp_path / "run3", tmp_path / "arrays/sub/a.npy")
    compress(of_array, tmp_path / "arrays", tmp_path / "out3")
    back = restore(of_array, tmp_path / "out3", tmp_path / "back3")
    found = np.load(back / "sub/a.npy")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_keys_of_hive_are_kept_if_they_are_named(run: Run, tmp_path: Path) -> None:
    lake = put(tmp_path / "lake", **{"day=1__a": counts(5), "day=02__a": counts(6)})
    compress(run, lake, tmp_path / "out", keep=["day", "host"])
    back = restore(run, tmp_path / "out", tmp_path / "back")
    found = pq.ParquetFile(back / "day=02/a.parquet").read()
    assert found.drop_columns("day").equals(counts(6))
    assert found["day"].to_pylist() == ["02"] * 6


def test_what_does_not_fit_is_named_before_or_when_it_is_reached(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lake = put(tmp_path / "lake", a=counts(5), b=counts(5).drop_columns("c"))
    with pytest.raises(DataError, match=r"b.parquet lacks columns of .*a.parquet: c\."):
        compress(run, lake, out)
    put(lake, b=counts(5).drop_columns("host"))
    with pytest.raises(DataError, match=r"b.parquet has no column host to keep"):
        compress(run, lake, out)
    assert names(out) == ["a.parquet.sdl"]
    put(lake, b=counts(5).set_column(1, "a", pa.array([1, 2, 3, 4, -5])))
    with pytest.raises(DataError, match=r"b.parquet \(values from -5"):
        compress(run, lake, out)
    with pytest.raises(DataError, match="There are no"):
        compress(run, tmp_path / "none", tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


def test_outputs_are_never_the_data(run: Run, tmp_path: Path) -> None:
    lake = put(tmp_path / "lake", a=counts(5), sub__a=counts(4))
    before = {name: (lake / name).read_bytes() for name in names(lake)}
    with pytest.raises(ConfigError, match="is the folder of the data"):
        compress(run, lake, lake)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.parquet.sdl").symlink_to(lake / "a.parquet")
    with pytest.raises(ConfigError, match="which is among the data"):
        compress(run, lake, tmp_path / "out")
    compress(run, lake, lake / "packed")
    assert compress(run, lake, lake / "packed").files == 2  # outputs are no inputs
    assert {name: (lake / name).read_bytes() for name in before} == before


def test_drift_over_all_files_is_said_once(run: Run, tmp_path: Path) -> None:
    far = counts(20).set_column(1, "a", pa.array([10**4] * 20))
    lake = put(tmp_path / "lake", a=far, b=counts(20), c=far)
    with pytest.warns(SDLGMWarning, match=r"lake: 40 of 180 values .* in column a: ") as found:
        compress(run, lake, tmp_path / "out")
    assert len(found) == 1


def test_a_model_that_cannot_compress_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    data = put(tmp_path / "lake", a=counts(20).drop_columns("host"))
    run = untrained_run(tmp_path / "run", data / "a.parquet", likelihood="gaussian")
    with pytest.raises(CodeFileError, match="gaussian"):
        compress(run, data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_did_and_refuses_splits(
    run: Run, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(Path("lake"), a=counts(5), b=counts(6))
    call = ["compress", str(run.folder), "lake", "--out", "packed"]
    assert main(call) == 0
    assert "packed: 11 rows in 2 files; 11 rows in" in capfd.readouterr().err
    assert main(call) == 0
    assert "11 rows in 2 files, 2 of them compressed before; 0 rows" in capfd.readouterr().err
    assert main([*call, "--split", "test"]) == 1
    assert "A folder has no splits" in capfd.readouterr().err
    assert main(["compress", str(run.folder), "lake/a.parquet", "--out", "packed/"]) == 0
    assert main(["decompress", str(run.folder), "packed", "--out", "lake"]) == 1
    assert "must be a new or empty folder" in capfd.readouterr().err
    Path("packed/b.parquet.sdl").rename("packed/a.sdl")
    assert main(["decompress", str(run.folder), "packed", "--out", "back"]) == 1
    assert "would both be restored to a.parquet" in capfd.readouterr().err
    assert not os.path.lexists("back")
