"""Counting digits: section IV.C and Table III of the paper.

An image has five columns, each of which holds a digit or is empty. The target is the number of
times that each digit occurs. The MSE that is compared with the paper is that of the expected
counts (``predict_mean``), averaged over the 10 dimensions and all test images.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paper.counts.methods import COLUMNS, METHODS, PROFILES, Method, Profile
from paper.counts.page import Predicted, write_counts_page
from paper.results import Finished, Numbers, ResultCache, row, spread, write_tables
from paper.running import (
    Say,
    check_seeds,
    choose,
    measure_all,
    plan_runs,
    profile_named,
    say_on_stderr,
)
from sdlgm.data import digit_columns
from sdlgm.data.digit_columns import EMPTY
from sdlgm.estimators.counting import BaseCounter

__all__ = ["reproduce"]

TRANSFER = (3, 8, 12)
"""Numbers of columns that the column encoder is tested on but not trained on."""
SHOWN = 20
"""Number of test images on the page, the first ones of the first seed."""


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    say: Say = say_on_stderr,
) -> Path:
    """Run what is missing of the experiment; write counts.json, counts.md and counts.html.

    Parameters
    ----------
    out
        Folder of the results. Its folder ``cells`` keeps one file per method and seed, from which
        an experiment that was stopped continues.
    profile
        ``"full"`` (5,000 training and 1,000 test images of MNIST, 5 seeds) or ``"smoke"``.
    seeds
        Number of seeds, counted from 0. A seed determines the images, the weights and the order
        of the batches.
    only
        Methods to run. The files report all finished methods.
    say
        Receives a line of progress for each method and seed.

    Raises
    ------
    SDLGMError
        If a profile or a method is unknown, or the data are not available.
    """
    out = Path(out)
    size = profile_named(profile, PROFILES)
    number = size.seeds if seeds is None else check_seeds(seeds)
    plan = plan_runs(choose(only, METHODS, "method"), lambda method: range(number))
    cache = ResultCache(out / "cells")
    measure_all(functools.partial(_measured, cache, size), plan, _progress, say=say)
    found = cache.finished(METHODS, lambda method, seed: METHODS[method].settings(size, seed))
    done = 1 + max(seed for by_seed in found.values() for seed in by_seed)
    command = f"python -m paper counts --profile {profile} --seeds {done}"
    _write_page(out / "counts.html", found, size, command)
    return write_tables(
        out / "counts.json", "counts", command, _rows(found, size), _markdown(found, size)
    )


def _measured(
    cache: ResultCache, size: Profile, method: str, seed: int
) -> tuple[str, int, Numbers, bool]:
    """Return the numbers of a method and a seed, and whether they were stored."""
    compute = functools.partial(_compute, method, size, seed)
    return method, seed, *cache.get(method, seed, METHODS[method].settings(size, seed), compute)


def _progress(result: tuple[str, int, Numbers, bool]) -> str:
    method, seed, numbers, stored = result
    spent = "done before" if stored else f"{numbers['seconds']} s"
    return (
        f"{method}, seed {seed}: MSE {numbers['mse']:.4f}, exact {numbers['exact']:.3f} ({spent})"
    )


def _compute(method: str, size: Profile, seed: int) -> Numbers:
    """Fit a counter to the images of a seed and measure it."""
    counter, empty = METHODS[method].make(size, seed), METHODS[method].empty
    images, counts = digit_columns(size.train, COLUMNS, "train", empty, seed, size.source)
    counter.fit(images, counts)
    numbers = _measure(counter, size, seed, COLUMNS, empty)
    images, _ = _test_images(size, seed, COLUMNS, empty)
    numbers["shown"] = counter.predict(images[:SHOWN]).tolist()
    if method == "columns":
        numbers["transfer"] = {
            str(columns): _measure(counter, size, seed, columns, empty) for columns in TRANSFER
        }
    return numbers


def _test_images(size: Profile, seed: int, columns: int, empty: float) -> tuple[Any, Any]:
    return digit_columns(size.test, columns, "test", empty, seed, size.source)


def _measure(
    counter: BaseCounter, size: Profile, seed: int, columns: int, empty: float
) -> dict[str, Any]:
    images, counts = _test_images(size, seed, columns, empty)
    whole = counter.predict(images)
    square = (counter.predict_mean(images) - counts) ** 2
    return {
        "mse": float(square.mean()),
        "mse_integer": float(((whole - counts) ** 2).mean()),
        "exact": float((whole == counts).all(1).mean()),
        "class_mse": square.mean(0).tolist(),
        "class_error": (whole != counts).mean(0).tolist(),
    }


def _rows(found: Finished, size: Profile) -> list[dict[str, Any]]:
    rows = []
    for name, by_seed in found.items():
        method = METHODS[name]
        protocol = (
            f"{size.train} training and {size.test} test images of {size.source}'s own training "
            f"and test digits, a column empty with probability {method.empty}, drawn for each seed"
        )

        def add(
            metric: str,
            pick: Callable[[Mapping[str, Any]], float],
            columns: int = COLUMNS,
            published: float | None = None,
            name: str = name,
            by_seed: Mapping[int, Mapping[str, Any]] = by_seed,
            method: Method = method,
            protocol: str = protocol,
        ) -> None:
            rows.append(
                row(
                    name,
                    [pick(numbers) for numbers in by_seed.values()],
                    list(by_seed),
                    dataset=f"digit columns, {columns}",
                    family=method.family,
                    protocol=protocol,
                    metric=metric,
                    published=published,
                    title=method.title,
                )
            )

        add("mse", lambda n: n["mse"], published=method.published)
        add("mse_integer", lambda n: n["mse_integer"])
        add("exact_vector", lambda n: n["exact"])
        for digit in range(10):
            add(f"mse_of_{digit}", lambda n, k=digit: n["class_mse"][k])  # type: ignore[misc]
            add(f"error_of_{digit}", lambda n, k=digit: n["class_error"][k])  # type: ignore[misc]
        add("seconds", lambda n: n["seconds"])
        if "transfer" in next(iter(by_seed.values())):
            for columns in TRANSFER:
                for metric, key in (("mse", "mse"), ("exact_vector", "exact")):
                    add(
                        metric,
                        lambda n, c=columns, k=key: n["transfer"][str(c)][k],  # type: ignore[misc]
                        columns,
                    )
    return rows


def _markdown(found: Finished, size: Profile) -> str:
    """Return the tables: all methods, other numbers of columns, and the errors of each digit."""
    description = (
        f"{size.train:,} training and {size.test:,} test images of five columns, from the "
        f"training and the test digits of {size.source}. A column is empty with probability "
        f"{EMPTY} unless stated otherwise. Mean ± standard deviation over the seeds; lower MSE is "
        "better. *MSE* is that of the expected counts and is compared with the paper; *MSE of "
        "integers* is that of the predicted whole numbers."
    )
    lines = [
        description,
        "",
        "| method | MSE | paper | MSE of integers | exact vector | seeds | seconds per seed |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, by_seed in found.items():
        method, numbers = METHODS[name], list(by_seed.values())
        published = "" if method.published is None else f"{method.published:.2f}"
        seconds = statistics.fmean(n["seconds"] for n in numbers)
        lines.append(
            f"| {method.title} (`{name}`) | {spread([n['mse'] for n in numbers], 4)} "
            f"| {published} | {spread([n['mse_integer'] for n in numbers], 4)} "
            f"| {spread([100 * n['exact'] for n in numbers], 1)} % | {len(numbers)} "
            f"| {seconds:.0f} |"
        )
    if "columns" in found:
        numbers = list(found["columns"].values())
        lines += [
            "",
            f"The column encoder, trained on {COLUMNS} columns, with other numbers of columns:",
            "",
            "| columns | MSE | exact vector |",
            "|---:|---:|---:|",
        ]
        for columns in (*TRANSFER, COLUMNS):
            parts = [n["transfer"][str(columns)] if columns != COLUMNS else n for n in numbers]
            lines.append(
                f"| {columns} | {spread([n['mse'] for n in parts], 4)} "
                f"| {spread([100 * n['exact'] for n in parts], 1)} % |"
            )
    lines += [
        "",
        "Percentage of test images with a wrong count of a digit (mean over the seeds):",
        "",
        f"| method | {' | '.join(map(str, range(10)))} |",
        f"|---|{'---:|' * 10}",
    ]
    for name, by_seed in found.items():
        errors = np.mean([n["class_error"] for n in by_seed.values()], axis=0)
        lines.append(f"| `{name}` | {' | '.join(f'{100 * e:.1f}' for e in errors)} |")
    return "\n".join(lines)


def _write_page(path: Path, found: Finished, size: Profile, command: str) -> None:
    seed = min((seed for by_seed in found.values() for seed in by_seed), default=0)
    images, counts = _test_images(size, seed, COLUMNS, EMPTY)
    tables = [
        Predicted(METHODS[name].title, np.array(by_seed[seed]["shown"]), _summary(by_seed))
        for name, by_seed in found.items()
        if seed in by_seed and name in ("random-forest", "mlp-changed", "columns")
    ]
    write_counts_page(path, images[:SHOWN], counts[:SHOWN], tables, command)


def _summary(by_seed: Mapping[int, Mapping[str, Any]]) -> str:
    numbers = list(by_seed.values())
    return (
        f"MSE {spread([n['mse'] for n in numbers], 4)}, exact vector "
        f"{spread([100 * n['exact'] for n in numbers], 1)} % ({len(numbers)} "
        f"seed{'' if len(numbers) == 1 else 's'})"
    )
