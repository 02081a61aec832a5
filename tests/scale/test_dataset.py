"""Data sets: each row once, the same on every engine; a kill costs one file at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scale.conftest import COLUMNS, kill_session, telemetry
from sdlgm.cli import main
from sdlgm.codec import decode_file, describe, read_codes
from sdlgm.errors import ConfigError, DataError
from sdlgm.scale import ArrowEncoder, encode_dataset, is_dataset
from sdlgm.scale.parquet_files import NOTE, Task, encode_file
from sdlgm.training import Run

KEEP = ["host", "time"]


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def expected(run: Run, source: Path) -> pa.Table:
    """The codes of a file by the Arrow encoder, in one batch."""
    table = pq.read_table(source, partitioning=None)
    return ArrowEncoder(run.folder, columns=COLUMNS, keep=KEEP)(table.combine_chunks())


def check(run: Run, lake: Path, out: Path) -> None:
    """Every file has all its codes, and there are no other files."""
    files = [name for name in names(lake) if name.endswith(".parquet")]
    assert names(out) == files
    for name in files:
        wanted = expected(run, lake / name)
        found = pq.read_table(out / name, partitioning=None).replace_schema_metadata()
        assert found.combine_chunks().equals(wanted.combine_chunks())


def test_every_file_gets_its_codes_under_its_name(
    scale_run: Run, lake: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = encode_dataset(scale_run.folder, lake, out, columns=COLUMNS, keep=KEEP, progress=False)
    assert report[:4] == (3, 7500, 3, 7500)
    check(scale_run, lake, out)
    assert decode_file(scale_run.model, out / "day=2/b.parquet").shape == (2500, 6)
    about, batches = read_codes(out / "a.parquet", describe(scale_run.model))
    assert about.n_codes == sum(map(len, batches)) == 5000


def test_a_pattern_and_one_file_are_data_sets(scale_run: Run, lake: Path, tmp_path: Path) -> None:
    encode = {"keep": KEEP, "progress": False}
    encode_dataset(scale_run.folder, str(lake / "*/*.parquet"), tmp_path / "p", **encode)  # type: ignore[arg-type]
    assert names(tmp_path / "p") == ["day=2/b.parquet"]
    encode_dataset(scale_run.folder, lake / "a.parquet", tmp_path / "f", **encode)  # type: ignore[arg-type]
    assert names(tmp_path / "f") == ["a.parquet"]
    assert is_dataset(str(lake), "x.parquet")
    assert is_dataset(str(lake / "a.parquet"), "codes/")
    assert not is_dataset(str(lake / "a.parquet"), "codes.parquet")
    assert not is_dataset("digits", "codes.parquet")


def test_finished_files_are_skipped_and_changed_files_encoded_again(
    scale_run: Run, lake: Path, tmp_path: Path
) -> None:
    def run() -> tuple[int, int]:
        report = encode_dataset(scale_run.folder, lake, tmp_path / "out", keep=KEEP, progress=False)
        return report.encoded_files, report.encoded_rows

    assert run() == (3, 7500)
    assert run() == (0, 0)
    pq.write_table(telemetry(2600, 9), lake / "day=2/b.parquet")
    assert run() == (1, 2600)
    (tmp_path / "out/a.parquet").unlink()
    assert run() == (1, 5000)
    check(scale_run, lake, tmp_path / "out")


def test_outputs_of_others_are_not_replaced(scale_run: Run, lake: Path, tmp_path: Path) -> None:
    encode_dataset(scale_run.folder, lake, tmp_path / "out", keep=KEEP, progress=False)
    before = (tmp_path / "out/a.parquet").read_bytes()
    with pytest.raises(ConfigError, match="a.parquet exists already and was made by another"):
        encode_dataset(
            scale_run.folder, lake, tmp_path / "out", keep=["time"], columns=COLUMNS, progress=False
        )
    assert (tmp_path / "out/a.parquet").read_bytes() == before
    pq.write_table(telemetry(5), tmp_path / "out/a.parquet")
    with pytest.raises(ConfigError, match="by another program"):
        encode_dataset(scale_run.folder, lake, tmp_path / "out", keep=KEEP, progress=False)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_no_row_is_lost_or_doubled_by_a_kill(
    engine: str, scale_run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("no_ray")
    lake, out = tmp_path / "lake", tmp_path / "out"
    lake.mkdir()
    for part in range(6):
        pq.write_table(telemetry(20_000, part), lake / f"{part}.parquet")
    # Every file takes a while to appear, in processes of Ray, too, so that the kill interrupts one.
    slow = "import os, time\nr = os.replace\nos.replace = lambda *a: (time.sleep(1), r(*a))[1]\n"
    (tmp_path / "sitecustomize.py").write_text(slow)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    code = f"""
from sdlgm.scale import encode_dataset
encode_dataset({str(scale_run.folder)!r}, {str(lake)!r}, {str(out)!r}, keep={KEEP!r},
               engine={engine!r}, progress=False)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path},
    )
    ends = time.monotonic() + 120
    while len(list(out.glob("[0-9]*.parquet"))) < 2 and time.monotonic() < ends:
        assert process.poll() is None
        time.sleep(0.02)
    kill_session(process)
    finished = [name for name in names(out) if not name.startswith(".")]
    assert 2 <= len(finished) < 6
    stamps = {name: (out / name).stat().st_mtime_ns for name in finished}
    report = encode_dataset(
        scale_run.folder,
        lake,
        out,
        keep=KEEP,
        progress=False,
        engine=engine,  # type: ignore[arg-type]
    )
    assert engine == "local" or not sys.modules["ray"].is_initialized()
    assert report.encoded_files == 6 - len(finished)
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == stamps
    check(scale_run, lake, out)


def test_ray_writes_the_same_bytes(
    scale_run: Run, lake: Path, tmp_path: Path, running_ray: None
) -> None:
    for engine in ("local", "ray"):
        encode_dataset(
            scale_run.folder,
            lake,
            tmp_path / engine,
            keep=KEEP,
            progress=False,
            engine=engine,  # type: ignore[arg-type]
        )
    assert names(tmp_path / "local") == names(tmp_path / "ray")
    for name in names(tmp_path / "local"):
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes()
    pq.write_table(
        telemetry(30).set_column(4, "x2", pa.nulls(30, pa.float32())), lake / "z.parquet"
    )
    with pytest.raises(DataError, match=r"z.parquet: Row 0 .* column 'x2' is missing"):
        encode_dataset(
            scale_run.folder, lake, tmp_path / "ray", keep=KEEP, progress=False, engine="ray"
        )


def test_an_error_leaves_no_unfinished_file(scale_run: Run, lake: Path, tmp_path: Path) -> None:
    values = pa.array([*[1.0] * 4000, None], pa.float32())
    table = telemetry(4001).set_column(4, "x2", values)
    pq.write_table(table, lake / "b.parquet")
    with pytest.raises(DataError, match=r"b.parquet: Row 4000 .* column 'x2' is missing"):
        encode_dataset(scale_run.folder, lake, tmp_path / "out", keep=KEEP, progress=False)
    assert names(tmp_path / "out") == ["a.parquet"]


def test_unsuitable_files_are_found_before_any_is_encoded(
    scale_run: Run, lake: Path, tmp_path: Path
) -> None:
    pq.write_table(telemetry(5).drop_columns(["x1"]), lake / "c.parquet")
    with pytest.raises(DataError, match=r"c.parquet: There is no column x1 to encode"):
        encode_dataset(scale_run.folder, lake, tmp_path / "out", keep=KEEP, progress=False)
    (lake / "c.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"c.parquet is damaged"):
        encode_dataset(scale_run.folder, lake, tmp_path / "out", keep=KEEP, progress=False)
    with pytest.raises(DataError, match="no Parquet files in"):
        encode_dataset(scale_run.folder, tmp_path / "none", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_file_that_changes_while_it_is_read_has_no_output(
    scale_run: Run, lake: Path, tmp_path: Path
) -> None:
    task = Task(str(lake / "a.parquet"), str(tmp_path / "out/a.parquet"), 4999)
    with pytest.raises(DataError, match="changed while it was read"):
        list(encode_file(ArrowEncoder(scale_run.folder, keep=KEEP, columns=COLUMNS), task))
    assert names(tmp_path / "out") == []


def test_the_command_takes_folders(
    scale_run: Run, lake: Path, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call = ["encode", str(scale_run.folder), str(lake), "--out", "codes"]
    assert main([*call, "--keep", "host", "time"]) == 0
    check(scale_run, lake, Path("codes"))
    assert "7,500 rows in 3 files" in capfd.readouterr().err
    for more, message in (
        (["--code", "sample"], "draws would depend"),
        (["--split", "test"], "has no splits"),
        (["--seed", "3"], "Nothing is drawn"),
    ):
        assert main([*call, "--keep", "host", "time", *more]) == 1
        assert message in capfd.readouterr().err
    one = ["encode", str(scale_run.folder), str(lake / "a.parquet"), "--out", "codes.parquet"]
    assert main([*one, "--engine", "ray"]) == 1
    assert "must be a folder" in capfd.readouterr().err


def test_a_data_set_that_0_1_encoded_is_continued(
    scale_run: Run, lake: Path, tmp_path: Path
) -> None:
    """Version 0.1 noted "choice" in the files where later versions note "code"."""
    encode = {"keep": KEEP, "progress": False}
    encode_dataset(scale_run.folder, lake, tmp_path / "out", **encode)  # type: ignore[arg-type]
    path = tmp_path / "out/a.parquet"
    table, metadata = pq.read_table(path), dict(pq.read_metadata(path).metadata)
    note = json.loads(metadata[NOTE.encode()])
    note["encoding"]["choice"] = note["encoding"].pop("code")
    metadata[NOTE.encode()] = json.dumps(note).encode()
    del metadata[b"ARROW:schema"]
    pq.write_table(table.replace_schema_metadata(metadata), path)
    report = encode_dataset(scale_run.folder, lake, tmp_path / "out", **encode)  # type: ignore[arg-type]
    assert report.encoded_files == 0
