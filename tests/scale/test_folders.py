"""Folders of Parquet files as Hive, Spark and people leave them, and where their codes go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers import no_warning, untrained_run
from scale.conftest import COLUMNS, telemetry
from sdlgm.cli import main
from sdlgm.codec import describe, read_codes
from sdlgm.config import DataConfig
from sdlgm.data import Table
from sdlgm.errors import ConfigError, DataError, SDLGMWarning
from sdlgm.scale import Report, encode_dataset
from sdlgm.training import Run

KEEP = ["host", "time"]


def encode(run: Run, data: Path | str, out: Path | str, **more: object) -> Report:
    return encode_dataset(run.folder, data, out, keep=KEEP, progress=False, **more)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "rows.parquet"
    pq.write_table(telemetry(40), path)
    return path


def put(file: Path, *places: Path) -> None:
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)


def test_folders_of_spark_and_hive_keep_their_names(
    scale_run: Run, file: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    parts = ["x.parquet/part-0.parquet", "x.parquet/part-1.parquet", "day=2/hour=3/a.parquet"]
    put(file, *(lake / part for part in parts))
    for skipped in ("x.parquet/_SUCCESS", "x.parquet/.part-0.parquet.crc", "notes.txt"):
        (lake / skipped).touch()
    put(file, lake / "_temporary/0/part.parquet", lake / ".hidden/a.parquet")
    encode(scale_run, lake, tmp_path / "out")
    assert names(tmp_path / "out") == sorted(parts)
    encode(scale_run, lake / "x.parquet", tmp_path / "spark")
    assert names(tmp_path / "spark") == ["part-0.parquet", "part-1.parquet"]
    encode(scale_run, f"{lake}/*.parquet", tmp_path / "pattern")  # matches the folder of Spark
    assert names(tmp_path / "pattern") == sorted(parts)[1:]


def test_links_to_folders_are_followed_and_circles_cut(
    scale_run: Run, file: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    put(file, lake / "a.parquet", tmp_path / "elsewhere/b.parquet")
    (lake / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/up").symlink_to(lake)
    (lake / "self").symlink_to(".")
    encode(scale_run, lake, tmp_path / "out")
    assert names(tmp_path / "out") == ["a.parquet", "linked/b.parquet"]


def test_outputs_below_or_above_the_data_are_no_inputs(
    scale_run: Run, file: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    put(file, lake / "a.parquet", lake / "sub/b.parquet")
    for _ in range(2):  # the second call sees the outputs of the first
        assert encode(scale_run, lake, lake / "codes").files == 2
        assert encode(scale_run, f"{lake}/*.parquet", lake / "codes").files == 1
        assert encode(scale_run, lake / "sub", lake).files == 1
        (lake / "b.parquet").unlink()
    assert names(lake) == ["a.parquet", "codes/a.parquet", "codes/sub/b.parquet", "sub/b.parquet"]


def test_outputs_never_replace_or_join_the_data(scale_run: Run, file: Path, in_tmp: Path) -> None:
    put(file, Path("lake/a.parquet"), Path("lake/lake/b.parquet"))
    Path("same").symlink_to("lake")
    before = {name: Path("lake", name).read_bytes() for name in names(Path("lake"))}
    for data, out in (
        ("lake", "lake"),
        ("lake", "./lake/"),
        ("lake", "same"),
        ("lake/*.parquet", "same"),
    ):
        with pytest.raises(ConfigError, match="is the folder of the data"):
            encode(scale_run, data, out)
    for data, out in (("lake/a.parquet", "lake"), ("lake", ".")):
        with pytest.raises(ConfigError, match="which is among the data"):
            encode(scale_run, data, out)
    with pytest.raises(ConfigError, match="--out is empty"):
        encode(scale_run, "lake", "")
    assert {name: Path("lake", name).read_bytes() for name in names(Path("lake"))} == before


def test_a_second_writer_is_told_and_leftovers_are_swept(
    scale_run: Run, file: Path, tmp_path: Path
) -> None:
    lake, out = tmp_path / "lake", tmp_path / "out"
    put(file, lake / "sub/a.parquet")
    code = f"""
import time
from sdlgm.codec import parquet
from sdlgm.scale import encode_dataset
write = parquet.CodeWriter.write
parquet.CodeWriter.write = lambda *a: (write(*a), print('ready', flush=True), time.sleep(60))
encode_dataset({str(scale_run.folder)!r}, {str(lake)!r}, {str(out)!r}, keep={KEEP!r},
               progress=False)
"""
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert first.stdout
    first.stdout.readline()
    with pytest.raises(ConfigError, match=rf"written by another process \(process {first.pid}"):
        encode(scale_run, lake, out)
    first.kill()
    first.wait()
    assert [name.split("-")[0] for name in os.listdir(out / "sub")] == [".sdlgm"]  # noqa: PTH208
    encode(scale_run, lake, out)
    assert names(out) == ["sub/a.parquet"]


def test_what_is_no_file_of_rows_is_named(scale_run: Run, file: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    put(file, lake / "a.parquet")
    os.mkfifo(lake / "b.parquet")
    with pytest.raises(DataError, match="b.parquet is not a regular file"):
        encode(scale_run, lake, tmp_path / "out")
    (lake / "b.parquet").unlink()
    (lake / "c.parquet").symlink_to("nothing")
    with pytest.raises(DataError, match="c.parquet cannot be read: No such file"):
        encode(scale_run, lake, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_codes_is_decoded_file_by_file(
    scale_run: Run, file: Path, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(file, Path("lake/day=1/a.parquet"), Path("lake/b.parquet"))
    encode(scale_run, "lake", "codes")
    call = ["decode", str(scale_run.folder)]
    assert main([*call, "codes", "--out", "decoded"]) == 0
    assert names(Path("decoded")) == ["b.parquet", "day=1/a.parquet"]
    assert main([*call, "codes/b.parquet", "--out", "one.parquet"]) == 0
    decoded = [pq.read_table(path) for path in ("decoded/b.parquet", "one.parquet")]
    assert decoded[0].equals(decoded[1])
    before = names(in_tmp)
    for out, message in (("lake", "must be a new or empty folder"), ("", "--out is empty")):
        assert main([*call, "codes", "--out", out]) == 1
        assert message in capfd.readouterr().err
    assert names(in_tmp) == before


def test_ray_gets_absolute_paths(
    scale_run: Run, file: Path, running_ray: None, in_tmp: Path
) -> None:
    """The actors of a running Ray have another working directory."""
    put(file, Path("lake/a.parquet"))
    encode(scale_run, "lake", "out", engine="ray")
    assert names(Path("out")) == ["a.parquet"]


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_drift_is_counted_over_all_files_and_said_once(
    engine: str, scale_run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("running_ray")
    table = pq.read_table(scale_run.config.data.data)
    far = table.set_column(2, "x2", pa.array([1e3] * len(table), pa.float32()))
    lake = tmp_path / "lake"
    for name, part in {"a": far.slice(0, 30), "b": table, "c": far.slice(0, 12)}.items():
        lake.mkdir(exist_ok=True)
        pq.write_table(part, lake / f"{name}.parquet")
    call = {"progress": False, "engine": engine}
    with pytest.warns(SDLGMWarning) as found:
        encode_dataset(scale_run.folder, lake, tmp_path / "out", **call)  # type: ignore[arg-type]
    (said,) = [str(each.message) for each in found if "far outside" in str(each.message)]
    assert said.startswith(f"{lake}: 42 of 3,852 values lie far outside")
    assert "in column x2: x2 has" in said
    assert "to 1000, in training" in said
    (lake / "a.parquet").unlink()
    (tmp_path / "out/b.parquet").unlink()
    with no_warning():  # only files that are encoded are counted
        encode_dataset(scale_run.folder, lake, tmp_path / "out", progress=False)


def test_a_later_file_with_other_columns_is_named_before_any_is_encoded(
    scale_run: Run, file: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    put(file, lake / "a.parquet", lake / "b.parquet")
    table = pq.read_table(file)
    pq.write_table(table.append_column("rack", table["x1"]), lake / "b.parquet")
    with pytest.raises(DataError, match=r"b.parquet has columns that .*a.parquet does not .*rack"):
        encode(scale_run, lake, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    encode(scale_run, lake, tmp_path / "out", columns=COLUMNS)  # named, so others may be there
    assert names(tmp_path / "out") == ["a.parquet", "b.parquet"]


WHOLE = ["int8", "int32", "int64", "uint16", "bool"]
FLOATS = ["float32", "float64"]


@st.composite
def lakes(draw: st.DrawFn, kinds: list[str]) -> dict[str, pa.Table]:
    """One to four tables of 1 to 1,000 rows with the same columns in several orders."""
    columns = draw(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True))
    types = {name: np.dtype(draw(st.sampled_from(kinds))) for name in columns}
    places = ["a", "b", "day=1/c", "day=2/hour=0/a"]
    chosen = draw(st.lists(st.sampled_from(places), min_size=1, max_size=4, unique=True))
    source, files = np.random.default_rng(draw(st.integers(0, 2**32))), {}
    unit = draw(st.sampled_from([1.0, 1e-9, 1e3]))
    offset = draw(st.sampled_from([0.0, 1.7e9]))
    for place in chosen:
        rows = draw(st.integers(1, 1000) | st.integers(1, 3))
        made: dict[str, object] = {}
        for name, kind in types.items():
            if kind.kind == "f":
                made[name] = (source.normal(size=rows) * unit + offset).astype(kind)
            else:
                most = 1 if kind.kind == "b" else 100
                made[name] = source.integers(0, most, rows, endpoint=True).astype(kind)
        made["id"] = np.arange(rows) + 2**60
        order = draw(st.permutations(list(made)))
        files[place] = pa.table({name: made[name] for name in order})
    return files


def decoded(run: Run, codes: Path, table: pa.Table) -> dict[str, NDArray[np.float64]]:
    """The means of the codes of a table's rows, by column; the file holds just these codes."""
    names = run.columns.names or ()
    rows = Table.of(table.select(list(names))).rows()
    expected = run.model.encode(rows)
    assert torch.equal(torch.cat(list(read_codes(codes, describe(run.model))[1])), expected)
    means = run.model.decode(expected).double().numpy()
    return dict(zip(names, means.T, strict=True))


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_decoded_folder_has_the_files_names_types_order_values_and_kept_columns(
    likelihood: str, data: st.DataObject
) -> None:
    files = data.draw(lakes(WHOLE if likelihood == "poisson" else [*WHOLE, *FLOATS]))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for place, table in files.items():
            path = root / "lake" / f"{place}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, row_group_size=300)
        first = str(root / "lake" / f"{min(files)}.parquet")
        run = untrained_run(root / "run", DataConfig(first, keep=("id",)), likelihood=likelihood)
        call = [str(run.folder), str(root / "lake")]  # the run keeps id
        assert main(["encode", *call, "--out", str(root / "codes"), "--quiet"]) == 0
        back = ["decode", str(run.folder), str(root / "codes"), "--out", str(root / "back")]
        assert main([*back, "--quiet"]) == 0
        assert names(root / "back") == sorted(f"{place}.parquet" for place in files)
        for place, table in files.items():
            found = pq.ParquetFile(root / "back" / f"{place}.parquet").read()
            assert found.column_names == table.column_names
            assert found["id"].equals(table["id"])
            means = decoded(run, root / "codes" / f"{place}.parquet", table)
            for column in table.drop_columns("id").column_names:
                kind = table.schema.field(column).type
                if likelihood == "poisson" or pa.types.is_floating(kind):
                    assert found.schema.field(column).type == kind
                values, wanted = found[column].to_numpy().astype(np.float64), means[column]
                if pa.types.is_floating(found.schema.field(column).type):
                    wanted = wanted.astype(found[column].to_numpy().dtype)
                else:
                    near = np.abs(wanted - np.floor(wanted) - 0.5) < 1e-4  # may round either way
                    values, wanted = values[~near], np.rint(wanted)[~near]
                    wanted = wanted.clip(0, 1) if pa.types.is_boolean(kind) else wanted
                spread = np.abs(wanted).max() if len(wanted) else 0
                np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-6 * spread)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_keys_of_hive_stay_in_the_path_and_are_columns_if_named(
    engine: str, scale_run: Run, file: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("running_ray")
    lake = tmp_path / "lake"
    put(file, lake / "day=1/a.parquet", lake / "day=02/a.parquet")
    for keep in ((), ("day",)):
        out = tmp_path / f"out{len(keep)}"
        encode_dataset(
            scale_run.folder, lake, out, columns=COLUMNS, keep=keep, progress=False,
            engine=engine,  # type: ignore[arg-type]
        )  # fmt: skip
        assert names(out) == ["day=02/a.parquet", "day=1/a.parquet"]
    kept = [pq.ParquetFile(out / name).read(["day"])["day"].to_pylist() for name in names(out)]
    assert kept == [["02"] * 40, ["1"] * 40]
    if engine == "local":  # readers take the key from the path
        assert set(pq.read_table(tmp_path / "out0")["day"].to_pylist()) == {1, 2}
        back = ["--out", str(tmp_path / "back"), "--quiet"]
        assert main(["decode", str(scale_run.folder), str(out), *back]) == 0
        decoded = pq.ParquetFile(tmp_path / "back/day=02/a.parquet").read()
        assert decoded.column_names == [*COLUMNS, "day"]
        assert decoded["day"].to_pylist() == ["02"] * 40
