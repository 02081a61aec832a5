"""Every failure of the command line is a sentence, wherever it happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdlgm.cli import COMMANDS, main
from sdlgm.cli.output import printable
from sdlgm.errors import warn
from sdlgm.progress import progress_bar, silenced
from sdlgm.training import Run

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def call(text: str, *more: object) -> int:
    return main([*text.split(), *map(str, more)])


def process(arguments: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own; standard error is captured unless given."""
    options = {"stderr": subprocess.PIPE, "timeout": 120, "text": True, **options}
    command = [sys.executable, "-m", "sdlgm", *map(str, arguments)]
    return subprocess.run(command, check=False, **options)


@needs_full
def test_output_that_cannot_be_written_is_a_sentence(run: Run) -> None:
    with FULL.open("w") as full:
        found = process(["info", run.folder], stdout=full)
        help_page = process(["--help"], stdout=full)  # argparse drops what it cannot write
    assert found.stderr == "sdlgm: the output: No space left on device.\n"
    assert found.returncode == 1
    assert help_page.stderr == ""


@needs_full
def test_progress_that_cannot_be_written_does_not_stop_a_training(tmp_path: Path) -> None:
    with FULL.open("w") as full:
        found = process(
            ["fit", "digits", "--out", tmp_path / "r", "--iterations", "5", "--features", "6",
             "--budget", "3", "--encoder-hidden", "[8]", "--importance-samples", "1"],
            stderr=full, stdout=subprocess.PIPE,
        )  # fmt: skip
    assert found.returncode == 0
    assert (tmp_path / "r" / "metrics.json").is_file()


@pytest.mark.parametrize("arguments", [["info"], ["--help"]])
def test_a_reader_that_leaves_early_causes_no_traceback(arguments: list[str], run: Run) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    found = process([*arguments, *([run.folder] if arguments == ["info"] else [])], stdout=writing)
    os.close(writing)
    assert found.stderr == ""
    assert found.returncode == (1 if arguments == ["info"] else 0)


def test_closed_outputs_cause_no_traceback(run: Run, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    for closed in ("1>&-", f"2>&- 1>{tmp_path / 'out'}"):
        command = f"{sys.executable} -m sdlgm info '{run.folder}' {closed}"
        if "2>" not in closed:
            command += f" 2>{errors}"
        assert subprocess.run(command, shell=True, check=False).returncode == 0  # noqa: S602
    assert errors.read_text() == ""


@pytest.mark.parametrize("encoding", ["ascii"])
def test_names_outside_the_terminals_encoding_are_escaped(
    encoding: str, run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "Läufe-数"
    folder.symlink_to(run.folder)
    environment = {**os.environ, "LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": encoding}
    for arguments, status in ((["info", folder], 0), (["info", tmp_path / "数"], 1)):
        found = process(arguments, stdout=subprocess.PIPE, env=environment, encoding=encoding)
        assert found.returncode == status
        assert "Traceback" not in found.stderr
        assert "\\u6570" in found.stdout + found.stderr


@pytest.mark.parametrize("name", ["run[/x]", "run[bold]", "a\x1b[31mb"])
def test_markup_and_escape_codes_in_names_are_shown_as_they_are(
    name: str, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(run.folder)
    assert call("info", tmp_path / name) == 0
    assert call("evaluate --importance-samples 1", tmp_path / name) == 0
    shown = "".join(capfd.readouterr().out.split())
    assert "\x1b" not in shown
    assert printable(name) in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unexpected_error_of_any_command_is_one_line(
    command: str, run: Run, in_tmp: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def broken(options: Any) -> None:
        raise ZeroDivisionError("of nothing")

    monkeypatch.setitem(COMMANDS, command, COMMANDS[command]._replace(run=broken))
    needed = {
        "fit": ["digits", "--out", "x"], "encode": [run.folder, "digits", "--out", "x.sdz"],
        "decode": [run.folder, "x.sdz", "--out", "x.npy"],
        "compress": [run.folder, "digits", "--out", "x.sdl"],
        "decompress": [run.folder, "x.sdl", "--out", "x.npy"],
        "export": [run.folder, "--out", "x.onnx"],
        "vectors": [run.folder, "x.sdz", "--format", "npz", "--out", "x.npz"],
    }  # fmt: skip
    assert main([command, *map(str, needed.get(command, [run.folder]))]) == 1
    err = capfd.readouterr().err
    assert len(err.splitlines()) == 1
    assert "This is a bug in sdlgm: ZeroDivisionError: of nothing" in err
    for error, status, words in (
        (MemoryError(), 1, "memory is too small"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "x.npy"), 1, "x.npy: Permission denied."),
        (OSError(28, "No space left on device", "x"), 1, "x: No space left on device."),
    ):

        def raises(options: Any, error: BaseException = error) -> None:
            raise error

        monkeypatch.setitem(COMMANDS, command, COMMANDS[command]._replace(run=raises))
        assert main([command, *map(str, needed.get(command, [run.folder]))]) == status
        err = capfd.readouterr().err
        assert words in err
        assert len(err.splitlines()) == 1


def test_quiet_commands_print_nothing_unless_they_fail(
    run: Run, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.save("bits.npy", np.eye(64)[:20])
    small = "--features 6 --budget 3 --encoder-hidden [8] --sparsity-hidden [4]"
    assert call(f"fit digits --out made --quiet --iterations 400 {small}") == 0
    assert call(f"encode {run.folder} digits --out c.sdz --quiet") == 0
    assert call(f"decode {run.folder} c.sdz --out d.npy --quiet") == 0
    assert call(f"compress {run.folder} digits --out c.sdl --split test --quiet") == 0
    assert call(f"decompress {run.folder} c.sdl --out d.npy --quiet") == 0
    assert call(f"export {run.folder} --out e.onnx --quiet") == 0
    assert call(f"report {run.folder} --out r.html --quiet") == 0
    found = capfd.readouterr()
    assert (found.out, found.err) == ("", "")
    assert call(f"evaluate {run.folder} --importance-samples 1 --json --quiet") == 0
    found = capfd.readouterr()
    assert found.out.startswith("{")
    assert found.err == ""
    assert call("decode nowhere c.sdz --out d.npy --quiet") == 1
    assert "sdlgm: nowhere holds no" in capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_quiet(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--quiet" in capfd.readouterr().out


def test_warnings_are_sentences(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def warned(options: Any) -> None:
        warn("Few features are used.")

    monkeypatch.setitem(COMMANDS, "info", COMMANDS["info"]._replace(run=warned))
    assert call("info --quiet", run.folder) == 0
    assert capfd.readouterr().err == "sdlgm: note: Few features are used.\n"


def test_silence_ends_with_its_block(capfd: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with silenced(quiet), progress_bar("counting", None) as update:
            update(1_000, {})
        assert capfd.readouterr().err == ("" if quiet else "counting 1,000 0:00:00\n")


@pytest.mark.parametrize(
    ("command", "needs", "shown"),
    [
        ("report {run} --out page.html", "matplotlib", ("encoding 359/359", "drawing 4/4")),
        ("export {run} --out e.onnx", "onnx", ("exporting 3/3",)),
    ],
)
def test_reports_and_exports_show_progress_as_lines_unless_quiet(
    run: Run, in_tmp: Path, command: str, needs: str, shown: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    pytest.importorskip(needs)
    line = command.format(run=run.folder)
    assert call(line) == 0
    said = capfd.readouterr()
    assert not said.out
    for part in shown:
        assert f"{part} (100 %)" in said.err
    assert call(f"{line} --quiet") == 0
    assert capfd.readouterr() == ("", "")
