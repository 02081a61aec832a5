"""Folders of Parquet files as Hive, Spark and people leave them, and where their codes go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scale.conftest import telemetry
from sdlgm.cli import main
from sdlgm.errors import ConfigError, DataError
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
    scale_run: Run, file: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The actors of a running Ray have another working directory."""
    ray = pytest.importorskip("ray")
    put(file, Path("lake/a.parquet"))
    (in_tmp / "elsewhere").mkdir()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,
             runtime_env={"working_dir": str(in_tmp / "elsewhere")})  # fmt: skip
    try:
        encode(scale_run, "lake", "out", engine="ray")
    finally:
        ray.shutdown()
    assert names(Path("out")) == ["a.parquet"]
