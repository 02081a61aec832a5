"""What the command line prints: sentences on standard error, tables on standard output."""

from __future__ import annotations

import contextlib
import logging
import platform
import sys
import traceback
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO

from sdlgm.errors import SDLGMWarning, printable
from sdlgm.progress import is_silent
from sdlgm.version import __version__

__all__ = ["bug_report", "complain", "notes", "say", "show", "show_metrics"]


@contextlib.contextmanager
def notes() -> Iterator[None]:
    """Print warnings and log of this library as sentences, each once; leave others alone."""
    said: set[str] = set()
    with warnings.catch_warnings(), _log_printed():
        default = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if not issubclass(category, SDLGMWarning):
                default(message, category, *place)
            elif str(message) not in said:
                said.add(str(message))
                complain(f"sdlgm: note: {message}")

        warnings.simplefilter("always", SDLGMWarning)
        warnings.showwarning = note  # type: ignore[assignment]
        yield


@contextlib.contextmanager
def _log_printed() -> Iterator[None]:
    """Print what this library logs, such as the device that it chose; nothing under ``--quiet``."""
    log, handler = logging.getLogger("sdlgm"), _Sentences()
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


class _Sentences(logging.Handler):
    """Prints records of the log as sentences."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        say(f"sdlgm: {record.getMessage()}")


def say(text: str) -> None:
    """Print a sentence about what was done to standard error; nothing under ``--quiet``."""
    if not is_silent():
        complain(text)


def complain(text: str) -> None:
    """Print a sentence about a problem to standard error, if it can be written to."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(_plain(text, sys.stderr), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a line to standard output."""
    print(_plain(text, sys.stdout))


def _plain(text: str, stream: TextIO) -> str:
    """Escape what a terminal would obey, and what the stream's encoding lacks.

    Names and notes in what is printed may come from files of others.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(text, kept="\n\t").encode(encoding, "backslashreplace").decode(encoding)


def show_metrics(metrics: dict[str, Any], title: str) -> None:
    """Print a table of metrics."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(printable(title)),
        caption="nats per sample, lower is better",
        title_justify="left",
    )
    for heading in ("metric", "value", "what it is"):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    samples = metrics.get("importance_samples", "?")
    rows = [
        ("negative_elbo", "bound: discrete codes, exact KL"),
        ("nll_bound", f"bound: importance-weighted, M = {printable(str(samples))}"),
        ("relaxed_objective", "NOT a bound: relaxed codes, as in the paper"),
        ("active_features_mean", "mean number of active features"),
        ("active_features_max", "largest number of active features"),
        ("budget", "hard limit L0 of that number"),
        ("n_samples", "held-out samples"),
    ]
    if metrics.get("refine_steps"):
        rows.append(("refine_steps", "steps that fitted each sample's posterior, for the bounds"))
    searched = [
        ("code_bits", "mean length of a searched code (not nats but bits)"),
        ("distortion", "its squared error as a share of the variance (not nats)"),
    ]
    rows += [row for row in searched if row[0] in metrics]
    for name, what in rows:
        value = metrics.get(name, "missing")
        digits = 4 if name == "distortion" else 2
        text = f"{value:.{digits}f}" if isinstance(value, float) else printable(str(value))
        table.add_row(name, escape(text), escape(what))
    Console().print(table)


def bug_report(error: BaseException) -> str:
    """Describe an unexpected error: what to report, without a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "sdlgm" in frame.filename] or frames
    place = f"{ours[-1].filename.rpartition('sdlgm')[2].lstrip('/')}:{ours[-1].lineno}"
    return (
        f"This is a bug in sdlgm: {type(error).__name__}: {error} (at {place}; sdlgm "
        f"{__version__}, torch {_version('torch')}, Python {platform.python_version()}). Please "
        "report it with the command that you ran. SDLGM_DEBUG=1 shows the traceback."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
