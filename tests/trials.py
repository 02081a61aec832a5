"""Programs in processes of their own that start fast.

A server imports everything once and forks: a program starts in 0.2 s instead of 4 s.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from sdlgm.__main__ import run

PRELOADED = [
    "trials", "torch", "torch._dynamo", "sklearn.datasets", "rich.progress", "jsonargparse",
    "matplotlib.pyplot", "jinja2", "sdlgm.__main__", "sdlgm.cli", "sdlgm.training", "sdlgm.codec",
    "sdlgm.scale", "sdlgm.report", "sdlgm.export", "preloaded_programs",
]  # fmt: skip


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    """Its exit status, or minus the signal that ended it."""
    said: str
    """What it wrote to standard error."""
    seconds: float


def run_command(
    arguments: list[str],
    folder: Path,
    *,
    program: Callable[[], object] = run,
    environment: Mapping[str, str] | None = None,
    kill: tuple[int, float | Callable[[], bool]] | None = None,
    file_bytes: int | None = None,
) -> Outcome:
    """Run ``sdlgm`` or another program in a new process, perhaps with a limit to its files.

    ``kill`` is a signal to send, and the seconds after which or the condition under which to do so.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    said, marker, started = folder / "said", folder / "started", time.monotonic()
    for path in (said, marker):
        path.unlink(missing_ok=True)
    os.mkfifo(said)  # to which no limit of files applies
    reader = os.open(said, os.O_RDONLY | os.O_NONBLOCK)
    places = (str(said), str(marker))
    settings = (program, arguments, dict(environment or {}))
    process = context.Process(target=_command, args=(*settings, *places, file_bytes))
    process.start()
    _wait(process, marker.exists)
    began = time.monotonic()
    if kill:
        number, when = kill
        _wait(process, when if callable(when) else lambda: time.monotonic() - began > when)
        if process.is_alive() and process.pid:
            os.kill(process.pid, number)
    process.join(600)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"{arguments} hangs; started {time.monotonic() - started:.0f} s ago")
    seconds = time.monotonic() - began
    with os.fdopen(reader, "rb") as file:
        return Outcome(int(process.exitcode or 0), file.read().decode(), seconds)


def _wait(process: BaseProcess, until: Callable[[], bool]) -> None:
    """Wait until a condition holds or a process has ended, for two minutes at most."""
    ends = time.monotonic() + 120
    while process.is_alive() and not until() and time.monotonic() < ends:
        process.join(0.005)


def _command(
    program: Callable[[], object],
    arguments: list[str],
    environment: dict[str, str],
    said: str,
    marker: str,
    file_bytes: int | None,
) -> None:
    import resource

    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(said, os.O_WRONLY), 2)
    sys.argv = ["sdlgm", *arguments]
    Path(marker).touch()
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    program()


def kill_while_saving(one: str, other: str, out: str, *, after: float) -> None:
    """Let a process save two estimators to one folder in turn, and kill it after some seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe()
    process = context.Process(target=_save_in_turn, args=(theirs, one, other, out))
    process.start()
    ours.recv()
    time.sleep(after)
    process.kill()
    process.join()


def _save_in_turn(pipe: Connection, *folders: str) -> None:
    import torch

    from sdlgm.estimators import load

    torch.set_num_threads(1)
    *sources, out = folders
    estimators = [load(Path(source)) for source in sources]
    estimators[0].save(out, overwrite=True)
    pipe.send("saved")
    while True:
        for estimator in estimators:
            estimator.save(out, overwrite=True)
