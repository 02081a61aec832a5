"""The process pool of experiments: every call once, and processes that end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from paper.running import in_processes

from sdlgm.errors import SDLGMError

SCRIPT = """
import os, pathlib, signal, sys, time
from paper.running import in_processes

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it

def call(name):
    pathlib.Path(sys.argv[1], name).write_text(str(os.getpid()))
    time.sleep(60)

try:
    list(in_processes(call, [(name,) for name in "abcd"], 2))
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_pool_makes_every_call_once() -> None:
    assert sorted(in_processes(pow, [(2, n) for n in range(5)], 2)) == [1, 2, 4, 8, 16]
    assert list(in_processes(pow, [(2, n) for n in range(5)], 1)) == [1, 2, 4, 8, 16]
    with pytest.raises(SDLGMError, match="jobs must be a positive integer, got 0"):
        in_processes(pow, [], 0)


def test_a_pool_restores_the_sigterm_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    list(in_processes(pow, [(2, 3)], 2))
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_processes_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)])
    try:
        assert _within(60, lambda: len(list(tmp_path.iterdir())) == 2)
        workers = [int(_text(path)) for path in tmp_path.iterdir()]
        process.send_signal(number)
        assert process.wait(30) == 130
        assert _within(30, lambda: not any(map(_runs, workers)))
    finally:
        process.kill()
    assert len(list(tmp_path.iterdir())) == 2


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.1)
    return False


def _text(path: Path) -> str:
    """Read a file that a worker has created but may not have filled yet."""
    assert _within(5, lambda: path.read_text() != "")
    return path.read_text()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not (status.is_file() and status.read_text().rpartition(")")[2].split()[0] == "Z")
