"""How many of each digit: the paper's section IV.C and Table III.

Images of five columns, each a digit or empty; the target is how many of each digit there are. The
MSE that is compared with the paper is that of the expected counts (``predict_mean``), averaged over
the 10 dimensions and all test images.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from paper.counts.methods import COLUMNS, METHODS, PROFILES, Method, Profile
from paper.counts.page import Counted, write_counts_page
from paper.results import (
    Cells,
    Found,
    Say,
    check_seeds,
    choose,
    row,
    say_on_stderr,
    spread,
    write_markdown,
    write_results,
)
from sdlgm.data import digit_columns
from sdlgm.data.digit_columns import EMPTY
from sdlgm.estimators.counter import BaseCounter

__all__ = ["reproduce"]

TRANSFER = (3, 8, 12)
"""Numbers of columns that the column encoder is tested on without having seen them."""
SHOWN = 20
"""Test images of the first seed, from the first on, that the page shows."""


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    say: Say = say_on_stderr,
) -> Path:
    """Run what is missing of the experiment and write counts.json, counts.md and counts.html.

    Parameters
    ----------
    out
        Folder of the results, and of one file a (method, seed) in ``cells``: a run that was
        stopped goes on after the last of them.
    profile
        ``"full"`` (5,000 training and 1,000 test images of MNIST, 5 seeds) or ``"smoke"``.
    seeds
        Number of seeds, counted from 0; a seed draws its own images, weights and order.
    only
        Methods to run; others that are done already are reported, too.
    say
        Takes a line of progress for each cell.

    Raises
    ------
    SDLGMError
        If a profile or a method is unknown, or the data are not to be had.
    """
    out = Path(out)
    (name,) = choose([profile], PROFILES, "profile")
    size = PROFILES[name]
    number = size.seeds if seeds is None else check_seeds(seeds)
    chosen = choose(only, METHODS, "method")
    cells = Cells(out / "cells")
    # All methods of a seed before the next seed, so that a run cut short compares like with like.
    plan = [(method, seed) for seed in range(number) for method in chosen]
    for place, (method, seed) in enumerate(plan, 1):
        counter = METHODS[method].make(size, seed)
        settings = {**asdict(size), **counter.get_params(), "empty": METHODS[method].empty}
        numbers, there = cells.get(
            method, seed, settings, functools.partial(_compute, method, counter, size, seed)
        )
        spent = "done before" if there else f"{numbers['seconds']} s"
        say(
            f"[{place}/{len(plan)}] {method}, seed {seed}: MSE {numbers['mse']:.4f}, exact "
            f"{numbers['exact']:.3f} ({spent})"
        )
    found = _found(cells, size)
    # The files hold all cells that are done, whatever was asked for this time.
    most = 1 + max(seed for by_seed in found.values() for seed in by_seed)
    spelled = f"python -m paper counts --profile {profile} --seeds {most}"
    write_results(out / "counts.json", "counts", spelled, _rows(found, size))
    write_markdown(out / "counts.md", _markdown(found, size))
    _write_page(out / "counts.html", found, size, spelled)
    return out / "counts.json"


def _compute(method: str, counter: BaseCounter, size: Profile, seed: int) -> dict[str, Any]:
    """Fit one counter on one seed's images and measure it."""
    empty = METHODS[method].empty
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


def _found(cells: Cells, size: Profile) -> Found:
    """Read all finished cells of this size, whatever was asked for this time."""
    found: Found = {}
    for name, method in METHODS.items():
        for seed in cells.seeds(name):
            settings = {
                **asdict(size),
                **method.make(size, seed).get_params(),
                "empty": method.empty,
            }
            numbers = cells.read(name, seed, settings)
            if numbers is not None:
                found.setdefault(name, {})[seed] = numbers
    return found


def _rows(found: Found, size: Profile) -> list[dict[str, Any]]:
    rows = []
    for name, by_seed in found.items():
        method = METHODS[name]
        protocol = (
            f"{size.train} training and {size.test} test images of {size.source}'s own training "
            f"and test digits, a column empty with probability {method.empty}, drawn anew for each "
            "seed"
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


def _markdown(found: Found, size: Profile) -> str:
    """Return the tables: all methods, transfer, and errors of each digit."""
    about = (
        f"{size.train:,} training and {size.test:,} test images of five columns, from the "
        f"training and the test digits of {size.source}; a column is empty with probability "
        f"{EMPTY} unless said; mean ± standard deviation over the seeds. Lower MSE is better. "
        "*MSE* is that of the expected counts and is compared with the paper; *MSE of integers* "
        "that of the predicted whole numbers."
    )
    lines = [
        about,
        "",
        "| method | MSE | paper | MSE of integers | exact vector | seeds | seconds a seed |",
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
            f"The column encoder, trained on {COLUMNS} columns, on other numbers of columns:",
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
        "Share of the test images whose count of a digit is wrong, in per cent (mean over seeds):",
        "",
        f"| method | {' | '.join(map(str, range(10)))} |",
        f"|---|{'---:|' * 10}",
    ]
    for name, by_seed in found.items():
        errors = np.mean([n["class_error"] for n in by_seed.values()], axis=0)
        lines.append(f"| `{name}` | {' | '.join(f'{100 * e:.1f}' for e in errors)} |")
    return "\n".join(lines)


def _write_page(path: Path, found: Found, size: Profile, command: str) -> None:
    seed = min((seed for by_seed in found.values() for seed in by_seed), default=0)
    images, counts = _test_images(size, seed, COLUMNS, EMPTY)
    tables = [
        Counted(METHODS[name].title, np.array(by_seed[seed]["shown"]), _summary(by_seed))
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
