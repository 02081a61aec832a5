"""Progress of long tasks on standard error: a bar in a terminal or notebook, lines elsewhere."""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Update", "announced_duration", "is_silent", "progress_bar", "silenced"]

Update = Callable[[int, Mapping[str, float]], None]
"""Takes the number of units done and numbers to show beside it."""

SECONDS_BETWEEN_LINES = 10.0
"""Many CI systems stop a job that prints nothing for some minutes."""
LONG = 60.0
"""Seconds from which a task is worth a line about its duration."""
SECONDS_TO_JUDGE = 1.0
"""Seconds after the first step, which is slow, before the duration is estimated."""


_SILENT: contextvars.ContextVar[bool] = contextvars.ContextVar("silent", default=False)


def is_silent() -> bool:
    """Return whether this is inside :func:`silenced`."""
    return _SILENT.get()


@contextlib.contextmanager
def silenced(silent: bool = True) -> Iterator[None]:
    """Show no progress inside the block, whatever its functions ask for, unless not ``silent``."""
    token = _SILENT.set(silent or _SILENT.get())
    try:
        yield
    finally:
        _SILENT.reset(token)


@contextlib.contextmanager
def progress_bar(
    what: str, total: int | None, enabled: bool = True, after: float = 0.0
) -> Iterator[Update]:
    """Show the progress of a block on standard error; yield the function that updates it.

    In a terminal or a notebook this is a bar. Elsewhere, as in a log file, it is a line about every
    ten seconds and one at the end. Nothing is written to standard output.

    Parameters
    ----------
    what
        What is being done, such as ``"training"``.
    total
        Number of units to do; ``None`` if it is unknown.
    enabled
        Whether to show anything.
    after
        Outside of a terminal, show lines only if the block takes longer than so many seconds.
    """
    if not enabled or is_silent():
        yield lambda done, numbers: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    live = console.is_terminal or console.is_jupyter
    with _bar(what, total, console) if live else _lines(what, total, after) as update:
        yield update


def announced_duration(
    what: str, steps: int, rest: str = "", enabled: bool = True
) -> Callable[[int], None]:
    """Return a function of the number of steps done that says once if a task will take minutes.

    The line is written to standard error after the first second or so, if the whole task will take
    more than a minute: ``fitting: about 4 minutes for 10 members``.

    Parameters
    ----------
    what
        What is being done.
    steps
        Number of steps to do.
    rest
        What follows the duration.
    enabled
        Whether to say anything.
    """
    first: tuple[int, float] | None = None
    waiting = enabled and not is_silent()

    def after_step(done: int) -> None:
        nonlocal first, waiting
        if not waiting:
            return
        now = time.monotonic()
        if first is None:
            first = done, now
        elif now - first[1] >= SECONDS_TO_JUDGE:
            waiting = False
            seconds = steps * (now - first[1]) / (done - first[0])
            if seconds > LONG:
                _say(f"{what}: about {_in_words(seconds)}{rest}")

    return after_step


def _in_words(seconds: float) -> str:
    """Return a duration of more than a minute, rounded."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return "a minute"
    return f"{minutes} minutes" if minutes < 100 else f"{round(minutes / 60)} hours"


def _say(line: str) -> None:
    # A full disk or a closed terminal behind standard error must not stop the task.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


@contextlib.contextmanager
def _bar(what: str, total: int | None, console: Console) -> Iterator[Update]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task(what, total=total, numbers="")

        def update(done: int, numbers: Mapping[str, float]) -> None:
            bar.update(task, completed=done, numbers="  ".join(_shown(numbers)))

        yield update


@contextlib.contextmanager
def _lines(what: str, total: int | None, after: float) -> Iterator[Update]:
    started = time.monotonic()
    due = started + (after or SECONDS_BETWEEN_LINES)
    unprinted: tuple[int, Mapping[str, float]] | None = None

    def write(done: int, numbers: Mapping[str, float]) -> None:
        elapsed = dt.timedelta(seconds=int(time.monotonic() - started))
        share = f"{done:,}"
        if total is not None:
            share += f"/{total:,} ({100 * done // max(1, total)} %)"
        share += f" {elapsed}"
        _say(", ".join([f"{what} {share}", *_shown(numbers)]))

    def update(done: int, numbers: Mapping[str, float]) -> None:
        nonlocal due, unprinted
        unprinted = done, numbers
        now = time.monotonic()
        if now >= due:
            write(done, numbers)
            due, unprinted = now + SECONDS_BETWEEN_LINES, None

    try:
        yield update
    finally:
        if unprinted and time.monotonic() - started >= after:
            write(*unprinted)


def _shown(numbers: Mapping[str, float]) -> list[str]:
    return [
        f"{name} {value}" if isinstance(value, int) else f"{name} {value:.2f}"
        for name, value in numbers.items()
    ]
