"""Cells that are computed once, and the files that experiments leave."""

from __future__ import annotations

import json
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sdlgm
from sdlgm.errors import SDLGMError
from sdlgm.interrupts import handling
from sdlgm.outputs import atomic_path
from sdlgm.storage import read_json, write_json

__all__ = [
    "Cells",
    "Found",
    "Numbers",
    "Say",
    "check_seeds",
    "choose",
    "in_processes",
    "row",
    "say_on_stderr",
    "spread",
    "write_markdown",
    "write_results",
]

Numbers = dict[str, Any]
Found = dict[str, dict[int, Numbers]]
"""Numbers of the finished cells, by method and seed."""
Say = Callable[[str], None]
"""Takes a line of progress."""


def say_on_stderr(text: str) -> None:
    """Print a line of progress."""
    print(text, file=sys.stderr, flush=True)


class Cells:
    """Results of (method, seed) in one file each, so that a run that was stopped goes on.

    Parameters
    ----------
    folder
        Where the files are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self, method: str, seed: int, settings: Mapping[str, Any], compute: Callable[[], Numbers]
    ) -> tuple[Numbers, bool]:
        """Return a cell and whether it was there; compute it if it is missing or was set otherwise.

        ``settings`` is all that the cell depends on; it is stored beside the numbers.
        """
        found = self.read(method, seed, settings)
        if found is not None:
            return found, True
        started = time.monotonic()
        numbers = {**compute(), "seconds": round(time.monotonic() - started, 1)}
        write_json(self._path(method, seed), {"settings": settings, "numbers": numbers})
        return numbers, False

    def read(self, method: str, seed: int, settings: Mapping[str, Any]) -> Numbers | None:
        """Return a cell if it is there and was made with these settings."""
        path = self._path(method, seed)
        if not path.is_file():
            return None
        found = read_json(path)
        asked = json.loads(json.dumps(settings))  # tuples become lists, as in the file
        return found["numbers"] if found.get("settings") == asked else None

    def seeds(self, method: str) -> list[int]:
        """Return the seeds of which there is a cell, however it was set."""
        ends = [path.stem[len(method) + 1 :] for path in self.folder.glob(f"{method}-*.json")]
        return sorted(int(end) for end in ends if end.isdigit())

    def _path(self, method: str, seed: int) -> Path:
        return self.folder / f"{method}-{seed}.json"


def row(
    method: str,
    values: Sequence[float],
    seeds: Sequence[int],
    *,
    dataset: str,
    family: str,
    protocol: str,
    metric: str,
    published: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return one row of a results file: the mean over the seeds, and their deviation."""
    return {
        "method": method,
        "dataset": dataset,
        "family": family,
        "protocol": protocol,
        "metric": metric,
        "value": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": list(seeds),
        "published": published,
        **more,
    }


def write_results(
    path: Path, experiment: str, command: str, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Write the results file of an experiment, atomically."""
    result = {
        "experiment": experiment,
        "command": command,
        "commit": _commit(),
        "versions": _versions(),
        "rows": list(rows),
    }
    write_json(path, result)


def write_markdown(path: Path, text: str) -> None:
    """Write a table for people, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text.rstrip() + "\n", encoding="utf-8")


def choose(names: Sequence[str] | None, known: Iterable[str], what: str) -> list[str]:
    """Return the names asked for, or all.

    Raises
    ------
    SDLGMError
        If one is unknown; the message lists those that are known.
    """
    known = list(known)
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise SDLGMError(f"No {what} is named {unknown[0]!r}. There are {', '.join(known)}.")
    return [name for name in known if not names or name in names]


def check_seeds(number: int) -> int:
    """Return a number of seeds.

    Raises
    ------
    SDLGMError
        If it is not positive.
    """
    if number < 1:
        raise SDLGMError(f"seeds must be a positive integer, got {number}.")
    return number


def in_processes(
    run: Callable[..., Any], plan: Sequence[tuple[Any, ...]], jobs: int
) -> Iterable[Any]:
    """Yield ``run(*cell)`` for each cell as it is done, ``jobs`` processes of one thread at a time.

    Raises
    ------
    SDLGMError
        If ``jobs`` is not positive.
    """
    if jobs < 1:
        raise SDLGMError(f"jobs must be a positive integer, got {jobs}.")
    if jobs == 1:
        return (run(*cell) for cell in plan)
    return _in_pool(run, plan, jobs)


def _in_pool(run: Callable[..., Any], plan: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    """Yield from a pool whose processes end with this one, after Ctrl-C and after SIGTERM."""
    import joblib

    pool = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    with handling(signal.default_int_handler, signal.SIGTERM):
        yield from pool(joblib.delayed(_alone)(run, cell) for cell in plan)


def _alone(run: Callable[..., Any], cell: tuple[Any, ...]) -> Any:
    import torch

    torch.set_num_threads(1)
    return run(*cell)


def spread(values: Sequence[float], digits: int) -> str:
    """Spell a mean and, of several values, their standard deviation."""
    text = f"{statistics.fmean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from, marked if it was changed."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],  # noqa: S607
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {"sdlgm": sdlgm.__version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scikit-learn"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
