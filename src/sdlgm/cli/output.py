"""What the command line prints: sentences on standard error, tables on standard output."""

from __future__ import annotations

import contextlib
import platform
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from sdlgm.progress import is_silent
from sdlgm.version import __version__

__all__ = ["bug_report", "complain", "printable", "say", "show_metrics"]


def say(text: str) -> None:
    """Print a sentence about what was done to standard error; nothing under ``--quiet``."""
    if not is_silent():
        complain(text)


def complain(text: str) -> None:
    """Print a sentence about a problem to standard error, if it can be written to."""
    with contextlib.suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Escape the control characters of a text, which would change what a terminal shows.

    Names come from files of strangers.
    """
    return "".join(
        sign if sign == "\n" or sign.isprintable() else sign.encode("unicode_escape").decode()
        for sign in text
    )


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
    samples = metrics["importance_samples"]
    rows = [
        ("negative_elbo", "bound: discrete codes, exact KL"),
        ("nll_bound", f"bound: importance-weighted, M = {samples}"),
        ("relaxed_objective", "NOT a bound: relaxed codes, as in the paper"),
        ("active_features_mean", "mean number of active features"),
        ("active_features_max", "largest number of active features"),
        ("budget", "hard limit L0 of that number"),
        ("n_samples", "held-out samples"),
    ]
    if metrics.get("refine_steps"):
        rows.append(("refine_steps", "steps that fitted each sample's posterior, for the bounds"))
    for name, what in rows:
        value = metrics[name]
        table.add_row(name, f"{value:.2f}" if isinstance(value, float) else str(value), what)
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
