"""A command that is killed or finds no space leaves every file whole, or as it was before."""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdlgm.training import Run
from trials import run_command

SECONDS = float(os.environ.get("SDLGM_KILL_SECONDS", "10"))
"""Time for the trials with signals. Set it to hours to search by hand."""
FIT = (
    "--features 12 --budget 4 --groups 2 --encoder-hidden [16] --sparsity-hidden [8] "
    "--iterations 120 --checkpoint-every 10 --batch-size 20 --importance-samples 2 "
    "--likelihood poisson --preset plain"
).split()

Content = dict[str, bytes]


def content(folder: Path) -> Content:
    """All files of ours in a folder by name, but those that a killed process may leave."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a table, a folder of tables, and files made from them."""
    folder = tmp_path_factory.mktemp("stopped")
    source = np.random.default_rng(0)
    values = source.poisson(1.5, (1500, 8)).astype(np.uint8)
    np.save(folder / "table.npy", values)
    (folder / "lake/day=1").mkdir(parents=True)
    for name, rows in (("a", 2000), ("day=1/b", 3000), ("c", 1000)):
        table = source.poisson(1.5, (rows, 8)).astype(np.float32)
        columns = {f"x{place}": column for place, column in enumerate(table.T)}
        pq.write_table(pa.table(columns), folder / f"lake/{name}.parquet")
    arguments = ["fit", f"{folder}/table.npy", "--out", f"{folder}/run", *FIT]
    assert run_command(arguments, folder).status == 0
    for command in ("encode", "compress"):
        out = folder / {"encode": "codes.sdz", "compress": "table.sdl"}[command]
        made = run_command(
            [command, f"{folder}/run", f"{folder}/table.npy", "--out", str(out)], folder
        )
        assert made.status == 0, made.said
    return folder


class Whole(NamedTuple):
    """What a command writes when nothing stops it, and how long it takes."""

    content: Content
    size: int
    """Bytes of the file, or of the largest file of the folder."""
    seconds: float


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    """Each command once, by the name of its output."""
    found = {}
    for name, command in commands(place).items():
        folder = tmp_path_factory.mktemp("whole")
        done = run_command(command(str(folder / name)), place)
        assert done.status == 0, done.said
        made = content(folder)
        found[name] = Whole(made, len(made.get(name) or max(made.values(), key=len)), done.seconds)
    return found


def commands(place: Path) -> dict[str, Callable[[str], list[str]]]:
    """Each command as a function of its output."""
    run, table = f"{place}/run", f"{place}/table.npy"
    exports = {
        "encoder.onnx": lambda out: ["export", run, "--out", out],
        "decoder.onnx": lambda out: ["export", run, "--part", "decoder", "--out", out],
    }
    return (exports if importlib.util.find_spec("onnx") else {}) | {
        "codes.parquet": lambda out: ["encode", run, table, "--out", out],
        "codes.sdz": lambda out: ["encode", run, table, "--out", out],
        "codes/": lambda out: ["encode", run, f"{place}/lake", "--out", out],
        "decoded.npy": lambda out: ["decode", run, f"{place}/codes.sdz", "--out", out],
        "decoded.csv": lambda out: ["decode", run, f"{place}/codes.sdz", "--out", out],
        "table.sdl": lambda out: ["compress", run, table, "--out", out],
        "packed/": lambda out: ["compress", run, f"{place}/lake", "--out", out],
        "restored.npy": lambda out: ["decompress", run, f"{place}/table.sdl", "--out", out],
        "vectors.jsonl": lambda out: [
            "vectors",
            run,
            f"{place}/codes.sdz",
            "--format",
            "qdrant",
            "--out",
            out,
        ],
        "report.html": lambda out: ["report", run, "--out", out],
    }


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_a_killed_command_leaves_whole_files_or_none(
    place: Path, whole: dict[str, Whole], tmp_path: Path
) -> None:
    chance = random.Random(SECONDS)
    out, ends, trials = tmp_path / "out", time.monotonic() + SECONDS, 0
    while time.monotonic() < ends or trials < 3:
        name = chance.choice(list(whole))
        number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        old = chance.random() < 0.5 and not name.endswith("/")
        _remove(out)
        out.mkdir()
        if old:
            (out / name).write_text("old")
        after = chance.uniform(0, 1.1 * whole[name].seconds)
        ended = run_command(commands(place)[name](str(out / name)), place, kill=(number, after))
        assert "Traceback" not in ended.said, ended.said
        assert "bug" not in ended.said, ended.said
        assert ended.status in (0, 130, -signal.SIGKILL, -signal.SIGINT), ended
        found = content(out)
        for made, written in found.items():
            wanted = whole[name].content.get(made)
            assert written in (wanted, b"old" if old else wanted), (name, made)
        assert not old or found, "the old file is gone"
        trials += 1
        if ended.status != -signal.SIGKILL:
            assert not list(out.rglob(".sdlgm-*")), ended
        if trials % 5 == 0:  # a later command removes the leftovers
            assert run_command(commands(place)[name](str(out / name)), place).status == 0
            assert not [path for path in out.rglob(".*") if path.is_file()]


def test_a_killed_training_leaves_the_old_run_and_can_be_started_anew(
    place: Path, tmp_path: Path
) -> None:
    chance = random.Random(int(SECONDS))
    out = tmp_path / "run"
    shutil.copytree(place / "run", out)
    old = content(out)
    arguments = ["fit", f"{place}/table.npy", "--out", str(out), *FIT, "--seed", "1"]
    took = run_command([*arguments[:3], str(tmp_path / "other"), *arguments[4:]], place).seconds
    ends, trials = time.monotonic() + SECONDS / 3, 0
    while time.monotonic() < ends or trials < 2:
        number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        kill = (number, chance.uniform(0, 1.1 * took))
        ended = run_command([*arguments, "--overwrite"], place, kill=kill)
        assert "Traceback" not in ended.said, ended.said
        found = content(out)
        assert Run.open(out).model.config.features == 12
        if ended.status == 0 or found != old:
            assert found["model.safetensors"] != old["model.safetensors"]
            _remove(out)
            shutil.copytree(place / "run", out)
        trials += 1
        beside = tmp_path / "run.new"
        if "resume" in ended.said:
            assert run_command(["resume", str(beside)], place).status == 0
            assert content(out) != old
            assert not beside.exists()
            _remove(out)
            shutil.copytree(place / "run", out)
    assert run_command([*arguments, "--overwrite"], place).status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "run"]


def test_a_killed_first_training_is_whole_or_goes_on_or_starts_anew(
    place: Path, tmp_path: Path
) -> None:
    chance = random.Random(int(SECONDS) + 1)
    out = tmp_path / "run"
    arguments = ["fit", f"{place}/table.npy", "--out", str(out), *FIT, "--seed", "1"]
    took = run_command([*arguments[:3], str(tmp_path / "whole"), *arguments[4:]], place).seconds
    wanted = content(tmp_path / "whole")["model.safetensors"]
    ends, trials = time.monotonic() + SECONDS / 3, 0
    while time.monotonic() < ends or trials < 3:
        number = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        kill = (number, chance.uniform(0, 1.1 * took))
        ended = run_command(arguments, place, kill=kill)
        assert "Traceback" not in ended.said, ended.said
        assert "bug" not in ended.said, ended.said
        assert ended.status in (0, 130, -signal.SIGKILL, -signal.SIGINT), ended
        if (out / "metrics.json").exists():
            assert Run.open(out).model.config.features == 12
        elif (out / "checkpoint.safetensors").exists():
            assert run_command(["resume", str(out)], place).status == 0
        elif ended.status != -signal.SIGKILL:  # before the first checkpoint nothing is kept
            assert run_command(arguments, place).status == 0
        elif out.exists():  # killed before the first checkpoint: the settings may be there
            again = run_command(["resume", str(out)], place)
            again = again if again.status == 0 else run_command(arguments, place)
            assert again.status == 0, again.said
        if out.exists():
            assert content(out)["model.safetensors"] == wanted
            assert not list(out.rglob(".sdlgm-*"))
            _remove(out)
        trials += 1


# --- no space -----------------------------------------------------------------------------------


@pytest.fixture(params=["limit", "tmpfs"])
def no_space(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[int], tuple[Path, int | None]]]:
    """Returns a folder in which no file can exceed so many bytes, and the limit if there is one."""
    small = tmp_path / "small"
    small.mkdir()
    if request.param == "limit":
        yield lambda size: (small, size)
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", small], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")

    def resized(size: int) -> tuple[Path, None]:
        option = f"remount,size={max(1, size // 4096) * 4}k"
        subprocess.run(["mount", "-o", option, small], check=True)
        return small, None

    try:
        yield resized
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(
    no_space: Callable[[int], tuple[Path, int | None]], place: Path, whole: dict[str, Whole]
) -> None:
    trials = failed = 0
    for name, command in commands(place).items():
        for share in (0.0, 0.9):
            folder, limit = no_space(int(share * whole[name].size))
            ended = run_command(command(str(folder / name)), place, file_bytes=limit)
            assert "Traceback" not in ended.said, ended.said
            assert "bug" not in ended.said, ended.said
            trials += 1
            if ended.status:
                failed += 1
                assert str(folder) in ended.said
            found = content(folder)
            for made, written in found.items():
                wanted = whole[name].content[made]
                assert written == wanted, (made, len(written), len(wanted), limit)
            assert not list(folder.rglob(".sdlgm-*"))
            for each in folder.iterdir():
                _remove(each)
    assert trials == 2 * len(commands(place)) >= 18
    assert failed >= 10


def test_a_training_on_a_full_disk_is_a_sentence(
    no_space: Callable[[int], tuple[Path, int | None]], place: Path
) -> None:
    for size in (0, 1000, 4096, 8192):
        folder, limit = no_space(size)
        arguments = ["fit", f"{place}/table.npy", "--out", str(folder / "run"), *FIT]
        ended = run_command(arguments, place, file_bytes=limit)
        assert "Traceback" not in ended.said, ended.said
        assert "bug" not in ended.said, ended.said
        assert ended.status == 1
        assert str(folder) in ended.said
        _remove(folder / "run")
