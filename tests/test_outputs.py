"""Files appear whole or not at all; nothing of the user's is replaced by accident."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from helpers import tiny_model
from sdlgm.errors import ConfigError, OutputError
from sdlgm.models import save_model
from sdlgm.outputs import LOCK, atomic_path, check_output, check_space, locked, sweep


def write(path: Path | str, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    for mode in (0o600, 0o640, 0o755):
        path.chmod(mode)
        write(path, "new")
        assert path.stat().st_mode & 0o777 == mode


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there/real.txt", tmp_path / "link.txt"
    link.symlink_to("there/real.txt")
    write(link, "first")  # the target need not exist
    write(link, "second")
    assert link.is_symlink()
    assert target.read_text() == "second"
    assert os.listdir(target.parent) == ["real.txt"]  # noqa: PTH208


MEMORY = "/dev/shm"  # noqa: S108 (not a fixed name in it)


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="needs a file system in memory")
def test_a_file_in_memory_is_replaced_like_any_other() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "a.txt"
        write(path, "first")
        write(path, "second")
        assert path.read_text() == "second"


def test_fifos_and_devices_are_written_to(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    write(fifo, "content")
    reader.join()
    assert read == ["content"]
    assert fifo.is_fifo()
    write("/dev/null", "content")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OutputError, match="/dev/full cannot be written: there is no space left"):
        write("/dev/full", "content")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "quota is used up"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission is denied"),
        (errno.EFBIG, "larger than this system allows"),
    ],
)
def test_a_failed_write_is_a_sentence_and_the_old_file_is_intact(
    number: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError, match=rf"a.txt cannot be written: .*{message}.*unchanged"):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_an_error_about_an_input_is_not_blamed_on_the_output(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_path(tmp_path / "out/a.txt"):
            raise PermissionError(errno.EACCES, "denied", "/elsewhere/input.csv")

    with pytest.raises(PermissionError, match=r"/elsewhere/input.csv") as found:
        fail()
    assert not isinstance(found.value, OutputError)


def test_impossible_places_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of its path is a file"):
        write(tmp_path / "file/a.txt", "")
    with pytest.raises(OutputError, match="its name is too long"):
        write(tmp_path / ("a" * 300), "")
    with pytest.raises(OutputError, match="it is a folder"):
        write(tmp_path, "")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="permission is denied"):
        write(tmp_path / "a.txt", "")


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount")
def test_what_is_not_a_path_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a path, got an object of type SDLGM.*order"):
        save_model(tiny_model(), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_read_only_folder_is_a_sentence(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        for call in (lambda: write(tmp_path / "a", ""), lambda: check_output(tmp_path / "a")):
            with pytest.raises(OutputError, match="a cannot be written: the file system is read"):
                call()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_leftovers_of_a_killed_process_are_swept_and_those_of_a_living_one_stay(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, time; from sdlgm.outputs import atomic_path\n"
        f"with atomic_path({str(tmp_path / 'a.npy')!r}) as path:\n"
        "    path.write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    (tmp_path / ".sdlgm-notes.txt").touch()  # a file of the user's
    (left,) = tmp_path.glob(".sdlgm-*.npy")
    sweep(tmp_path)
    assert left.exists()
    process.kill()
    process.wait()
    check_output(tmp_path / "b.npy")
    assert not left.exists()
    assert (tmp_path / ".sdlgm-notes.txt").exists()


def test_an_output_is_never_an_input(in_tmp: Path) -> None:
    Path("data.npy").touch()
    Path("hard.npy").hardlink_to("data.npy")
    Path("soft.npy").symlink_to("data.npy")
    Path("run").mkdir()
    Path("run/model.safetensors").touch()
    Path("weights").symlink_to("run/model.safetensors")
    for out in ("data.npy", "./data.npy", "run/../data.npy", "hard.npy", "soft.npy"):
        with pytest.raises(ConfigError, match="is the input data.npy"):
            check_output(out, ["run", "data.npy"])
    for out in ("run/model.safetensors", "weights", "run/config.json"):
        with pytest.raises(ConfigError, match="belongs to the input run"):
            check_output(out, ["run", "data.npy"])
    for out in ("run/codes.parquet", "run/report.html", "other.npy"):
        check_output(out, ["run", "data.npy"])
    for out in ("", " "):
        with pytest.raises(ConfigError, match="--out is empty"):
            check_output(out)


def test_a_folder_has_one_writer_and_a_killed_one_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    code = (
        "import time; from pathlib import Path; from sdlgm.outputs import locked\n"
        f"with locked(Path({str(folder)!r})): print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    with (
        pytest.raises(ConfigError, match=rf"another process \(process {process.pid} on"),
        locked(folder),
    ):
        pass
    process.kill()
    process.wait()
    assert (folder / LOCK).exists()
    with locked(folder):
        pass
    assert not (folder / LOCK).exists()
    with locked(tmp_path / "c/d"):
        pass
    assert not (tmp_path / "c").exists()  # it was made for the lock


def test_too_little_space_is_known_before_anything_is_written(tmp_path: Path) -> None:
    check_space(tmp_path / "new", 1)
    with pytest.raises(OutputError, match="of free space, but about"):
        check_space(tmp_path / "new/folder", 10**18)
