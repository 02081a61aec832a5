"""The results of experiments: numbers that are computed once, and the files written from them."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sdlgm
from sdlgm.storage import atomic_path, read_json, write_json

__all__ = [
    "Finished",
    "Numbers",
    "ResultCache",
    "row",
    "spread",
    "write_markdown",
    "write_results",
    "write_tables",
]

Numbers = dict[str, Any]
"""What was measured of a method with one seed."""
Finished = dict[str, dict[int, Numbers]]
"""The numbers of all finished measurements, by method and seed."""


class ResultCache:
    """Keeps the numbers of each method and seed in a file, so that experiments can be resumed.

    Parameters
    ----------
    folder
        Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self, method: str, seed: int, settings: Mapping[str, Any], compute: Callable[[], Numbers]
    ) -> tuple[Numbers, bool]:
        """Return numbers and whether they were stored; compute them if they were not.

        Parameters
        ----------
        method, seed
            Name the file.
        settings
            Everything the numbers depend on. They are stored beside the numbers, and numbers
            stored with other settings are computed again.
        compute
            Returns the numbers. How long it took is added as ``"seconds"``.
        """
        stored = self.read(method, seed, settings)
        if stored is not None:
            return stored, True
        started = time.monotonic()
        numbers = {**compute(), "seconds": round(time.monotonic() - started, 1)}
        write_json(self._path(method, seed), {"settings": settings, "numbers": numbers})
        return numbers, False

    def read(self, method: str, seed: int, settings: Mapping[str, Any]) -> Numbers | None:
        """Return stored numbers, or ``None`` if there are none for these settings."""
        path = self._path(method, seed)
        if not path.is_file():
            return None
        stored = read_json(path)
        wanted = json.loads(json.dumps(settings))  # tuples become lists, as in the file
        return stored["numbers"] if stored.get("settings") == wanted else None

    def seeds(self, method: str) -> list[int]:
        """Return the seeds for which there is a file, whatever its settings."""
        ends = [path.stem[len(method) + 1 :] for path in self.folder.glob(f"{method}-*.json")]
        return sorted(int(end) for end in ends if end.isdigit())

    def finished(
        self, methods: Iterable[str], settings: Callable[[str, int], Mapping[str, Any]]
    ) -> Finished:
        """Return all stored numbers of these methods, including those not requested this time.

        Parameters
        ----------
        methods
            Names of the methods; those without numbers are left out.
        settings
            Returns the settings of a method and a seed.
        """
        found: Finished = {}
        for method in methods:
            for seed in self.seeds(method):
                numbers = self.read(method, seed, settings(method, seed))
                if numbers is not None:
                    found.setdefault(method, {})[seed] = numbers
        return found

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
    """Return one row of a results file: the mean over the seeds and their standard deviation."""
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


def spread(values: Sequence[float], digits: int) -> str:
    """Format a mean and, for several values, their standard deviation."""
    text = f"{statistics.fmean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def write_tables(
    path: Path, experiment: str, command: str, rows: Iterable[Mapping[str, Any]], markdown: str
) -> Path:
    """Write the results file of an experiment and, beside it, its tables in Markdown.

    Parameters
    ----------
    path
        The results file, ``NAME.json``; the tables go to ``NAME.md``.
    experiment, command
        Name of the experiment, and the command that repeats it.
    rows
        Rows of the results file, see :func:`row`.
    markdown
        The tables.
    """
    write_results(path, experiment, command, rows)
    write_markdown(path.with_suffix(".md"), markdown)
    return path


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
    """Write a table in Markdown, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text.rstrip() + "\n", encoding="utf-8")


def _commit() -> str | None:
    """Return the commit of the checkout that runs, marked ``-dirty`` if files were changed."""
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
