"""Check by simulation that the promises of thresholds hold, and what they cost in size.

Half of the rows of a set fit a classifier; the other half is the population of the simulation. A
repetition draws held-out rows from the population with replacement and chooses a threshold on
them. What the threshold reaches on the whole population is then known exactly, so that the check
has no error of its own besides the number of repetitions.

If MAPIE is installed, its controllers calibrate on the same draws, at the same level and
confidence. They have no minimum and no maximum size.

A second part fits, chooses and measures anew in each repetition
(:mod:`paper.guarantees.whole_fits`).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paper.guarantees import whole_fits
from paper.guarantees.promises import Levels, all_rows, summary
from paper.results import Numbers, ResultCache, row, write_tables
from paper.running import Say, check_seeds, choose, profile_named, say_on_stderr
from sdlgm.estimators import SDLGMClassifier
from sdlgm.estimators.guarantees import (
    FalsePositivesAtMost,
    Guarantee,
    RankedLabels,
    RecallAtLeast,
    UnreachableError,
    choose_guaranteed,
)

__all__ = ["SETS", "promised", "reproduce"]

MEANS = ("reached", "size", "over_the_cap", "empty")
METHODS = ("ours", "mapie")


@dataclass(frozen=True)
class Profile:
    """The size of a simulation."""

    repetitions: int
    held_out: int
    """Rows that a threshold is chosen on."""
    epochs: int
    fits: whole_fits.FitSize


PROFILES = {
    "full": Profile(100, 500, 60, whole_fits.FitSize(400, 500, 40, 3)),
    "smoke": Profile(2, 150, 3, whole_fits.FitSize(60, 100, 2, 1)),
}
SETS = {
    "emotions": Levels(3, 0.8, 0.65, 0.75),
    "yeast": Levels(8, 0.8, 0.65, 1.5),
    "scene": Levels(2, 0.85, 0.75, 0.4),
}
"""Levels within reach. They were set by a guess and looked at in a run of five draws; they were not
changed after it."""


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    say: Say = say_on_stderr,
) -> Path:
    """Run what is missing of the simulation; write guarantees.json and .md.

    Parameters
    ----------
    out
        Folder of the results. Its folder ``cells`` keeps one file per set, from which a simulation
        that was stopped continues.
    profile
        ``"full"``, with 100 repetitions, or ``"smoke"``.
    seeds
        Number of repetitions.
    only
        Data sets: ``emotions``, ``yeast``, ``scene``.
    say
        Receives a line of progress for each set.

    Raises
    ------
    SDLGMError
        If a profile or data set is unknown, or the data are not available.
    """
    out = Path(out)
    size = profile_named(profile, PROFILES)
    number = size.repetitions if seeds is None else check_seeds(seeds)
    cache = ResultCache(out / "cells")
    rows: list[dict[str, Any]] = []
    found: dict[tuple[str, str], Numbers] = {}
    methods = METHODS if importlib.util.find_spec("mapie") else METHODS[:1]
    for name in choose(only, SETS, "data set"):
        settings = {
            "repetitions": number,
            "held_out": size.held_out,
            "epochs": size.epochs,
            "setting": vars(SETS[name]),
        }
        for method in methods:
            compute = functools.partial(_simulate, name, method, number, size)
            numbers, stored = cache.get(f"{name}.{method}", 0, settings, compute)
            say(f"{name}, {method}: {'done before' if stored else str(numbers['seconds']) + ' s'}")
            found[name, method] = numbers["promises"]
            rows += list(_rows(name, method, numbers["promises"], number))
    names = choose(only, SETS, "data set")
    fits = whole_fits.check_fits(cache, names, size.fits, number, say)
    rows += whole_fits.rows_of(fits, number)
    tables = [_markdown(found, number, size), whole_fits.markdown(fits, number, size.fits)]
    command = f"python -m paper guarantees --profile {profile}"
    return write_tables(out / "guarantees.json", "guarantees", command, rows, "\n\n".join(tables))


# --- one set ----------------------------------------------------------------------------------


def promised(levels: Levels) -> dict[str, Guarantee]:
    """Return the promises with a confidence, then those without one."""
    return levels.guarantees() | levels.guarantees(None)


def _simulate(name: str, method: str, repetitions: int, size: Profile) -> Numbers:
    """Return what a method reached in each repetition, by the name of the promise."""
    setting = SETS[name]
    proba, labels = _population(name, size.epochs)
    promises = {}
    for promise, guarantee in promised(setting).items():
        if method == "mapie" and isinstance(guarantee, FalsePositivesAtMost):
            continue
        found = []
        for seed in range(repetitions):
            drawn = np.random.default_rng([1, seed]).integers(len(labels), size=size.held_out)
            part = proba[drawn], labels[drawn]
            try:
                if method == "ours":
                    rows = RankedLabels(proba, labels, 1, setting.max_labels)
                    threshold = choose_guaranteed(
                        *part, guarantee, min_labels=1, max_labels=setting.max_labels, seed=seed
                    )
                else:
                    rows = RankedLabels(proba, labels, 0, labels.shape[1])
                    threshold = _mapie(guarantee, *part)
                found.append(_reached(guarantee, rows, threshold, setting.max_labels))
            except UnreachableError as error:
                found.append({"refused": True, "reachable": error.reachable})
        promises[promise] = {
            "level": guarantee.level,
            "highest": guarantee.better == "highest",
            "repetitions": found,
        }
    return {"rows": len(labels), "labels": labels.shape[1], "promises": promises}


def _population(name: str, epochs: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return probabilities and labels of the half of the rows that the model was not fitted on."""
    x, y = all_rows(name)
    order = np.random.default_rng(0).permutation(len(x))
    fitted, rest = np.array_split(order, 2)
    model = SDLGMClassifier(
        threshold=0.5, inputs="standard", input_dropout=0.3, members=20, epochs=epochs,
        random_state=0,
    ).fit(x[fitted], y[fitted])  # fmt: skip
    return model.predict_proba(x[rest]), y[rest]


def _reached(guarantee: Guarantee, rows: RankedLabels, threshold: float, cap: int) -> Numbers:
    """Return what a threshold reaches on the population."""
    sizes = rows.sizes(np.array([threshold]))
    return {
        "refused": False,
        "reached": guarantee.measure(rows, threshold),
        "size": float(sizes.mean()),
        "over_the_cap": float((sizes > cap).mean()),
        "empty": float((sizes < 1).mean()),
    }


def _mapie(guarantee: Guarantee, proba: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Choose a threshold by MAPIE's controller: CRC or RCPS for recall, LTT for precision."""
    control = importlib.import_module("mapie.risk_control")
    recall = isinstance(guarantee, RecallAtLeast)
    with_confidence = "rcps" if recall else "ltt"
    controller = control.MultiLabelClassificationController(
        lambda rows: rows,
        risk="recall" if recall else "precision",
        method="crc" if guarantee.confidence is None else with_confidence,
        target_level=guarantee.level,
        confidence_level=guarantee.confidence,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        controller.calibrate(proba, labels)
    best = np.ravel(controller.best_predict_param)[0]
    if not isinstance(best, float) or np.isnan(best):
        raise UnreachableError("MAPIE found no threshold.", None)
    return float(best)


# --- tables -----------------------------------------------------------------------------------


def _rows(name: str, method: str, promises: Numbers, repetitions: int) -> Iterator[dict[str, Any]]:
    for promise, numbers in promises.items():
        for metric, value in summary(numbers, MEANS).items():
            if value is not None:
                yield row(
                    method, [float(value)], [0], dataset=name, family=promise,
                    protocol="population", metric=metric, repetitions=repetitions,
                )  # fmt: skip


def _markdown(found: dict[tuple[str, str], Numbers], repetitions: int, size: Profile) -> str:
    about = (
        f"Promises of thresholds, {repetitions} draws of {size.held_out} held-out rows from a "
        "known population. *Kept*, *broken*: draws in which the level holds on the population, or "
        "does not; a confidence of 0.95 allows 5 in 100 to break it. *Refused*: draws in which no "
        "threshold could be shown to keep the level. With `None` the promise is about the mean "
        "*reached*, not about each draw. Sets of ours have between 1 and *cap* labels; MAPIE has "
        "no bounds, and no promise about false positives."
    )
    columns = (
        "set", "cap", "promise", "method", "kept", "broken", "refused", "reached", "labels a row",
        "over the cap", "empty",
    )  # fmt: skip
    lines = [about, "", f"| {' | '.join(columns)} |", f"|---|---:|---|---|{'---:|' * 7}"]
    for name in dict.fromkeys(name for name, _ in found):
        for promise in promised(SETS[name]):
            for method in METHODS:
                if promise not in found.get((name, method), {}):
                    continue
                means = summary(found[name, method][promise], MEANS)
                broken = repetitions - means["kept"] - means["refused"]
                cells = [name, SETS[name].max_labels, f"`{promise}`", method]
                cells += [means["kept"], broken, means["refused"], *_shown(means)]
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _shown(means: Numbers) -> list[str]:
    if means["reached"] is None:
        return ["-"] * 4
    shares = (f"{means[key]:.1%}" for key in ("over_the_cap", "empty"))
    return [f"{means['reached']:.3f}", f"{means['size']:.2f}", *shares]
