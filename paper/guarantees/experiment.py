"""Check by simulation that the promises of thresholds hold, and what they cost in size.

Half of the rows of a set fit a classifier; the other half is the population of the simulation. A
repetition draws held-out rows from the population with replacement and chooses a threshold on
them. What the threshold reaches on the whole population is then known exactly, so that the check
has no error of its own besides the number of repetitions.

If MAPIE is installed, its controllers calibrate on the same draws, at the same level and
confidence. They have no minimum and no maximum size.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import statistics
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paper.results import Numbers, ResultCache, row, write_tables
from paper.running import Say, check_seeds, choose, profile_named, say_on_stderr
from sdlgm.data import load_multilabel
from sdlgm.estimators import SDLGMClassifier
from sdlgm.estimators.guarantees import (
    FalsePositivesAtMost,
    Guarantee,
    PrecisionAtLeast,
    RankedLabels,
    RecallAtLeast,
    UnreachableError,
    choose_guaranteed,
)

__all__ = ["SETS", "reproduce"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Profile:
    """The size of a simulation."""

    repetitions: int
    held_out: int
    """Rows that a threshold is chosen on."""
    epochs: int


@dataclass(frozen=True)
class Setting:
    """The promises that are checked on one set, and the largest size of its sets of labels."""

    max_labels: int
    recall: float
    precision: float
    false_positives: float

    def guarantees(self) -> dict[str, Guarantee]:
        """Return the promises by name, in the order of the table."""
        levels = (
            (RecallAtLeast, self.recall),
            (PrecisionAtLeast, self.precision),
            (FalsePositivesAtMost, self.false_positives),
        )
        found: dict[str, Guarantee] = {
            f"{kind.__name__}({level:g})": kind(level, CONFIDENCE) for kind, level in levels
        }
        for kind, level in levels:
            if kind.monotone:
                found[f"{kind.__name__}({level:g}, None)"] = kind(level, None)
        return found


PROFILES = {"full": Profile(100, 500, 60), "smoke": Profile(5, 150, 3)}
SETS = {
    "emotions": Setting(3, 0.8, 0.65, 0.75),
    "yeast": Setting(8, 0.8, 0.65, 1.5),
    "scene": Setting(2, 0.85, 0.75, 0.4),
}
"""Levels that held-out rows of the fitted half can reach."""


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
    rows, found = [], {}
    for name in choose(only, SETS, "data set"):
        settings = {
            "repetitions": number,
            "held_out": size.held_out,
            "epochs": size.epochs,
            "setting": vars(SETS[name]),
            "mapie": _has_mapie(),
        }
        compute = functools.partial(_simulate, name, number, size)
        found[name], stored = cache.get(name, 0, settings, compute)
        say(f"{name}: {'done before' if stored else str(found[name]['seconds']) + ' s'}")
        rows += list(_rows(name, found[name], number))
    command = f"python -m paper guarantees --profile {profile}"
    return write_tables(
        out / "guarantees.json", "guarantees", command, rows, _markdown(found, number, size)
    )


# --- one set ----------------------------------------------------------------------------------


def _simulate(name: str, repetitions: int, size: Profile) -> Numbers:
    """Return what each method reached in each repetition, by the name of the promise."""
    setting = SETS[name]
    proba, labels = _population(name, size.epochs)
    whole = RankedLabels(proba, labels, 1, setting.max_labels)
    free = RankedLabels(proba, labels, 0, labels.shape[1])
    results: dict[str, Any] = {}
    for promise, guarantee in setting.guarantees().items():
        ours = [
            _ours(guarantee, whole, proba, labels, _draw(seed, len(labels), size), seed)
            for seed in range(repetitions)
        ]
        results[promise] = {"level": guarantee.level, "ours": ours}
        if _has_mapie() and not isinstance(guarantee, FalsePositivesAtMost):
            results[promise]["mapie"] = [
                _mapie(
                    guarantee, free, setting.max_labels, proba, labels,
                    _draw(seed, len(labels), size),
                )
                for seed in range(repetitions)
            ]  # fmt: skip
    return {"rows": len(labels), "labels": labels.shape[1], "promises": results}


def _population(name: str, epochs: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return probabilities and labels of the half of the rows that the model was not fitted on."""
    data = load_multilabel(name)
    x, y = np.vstack([data.X_train, data.X_test]), np.vstack([data.Y_train, data.Y_test])
    order = np.random.default_rng(0).permutation(len(x))
    fitted, rest = np.array_split(order, 2)
    model = SDLGMClassifier(threshold=0.5, epochs=epochs, random_state=0).fit(x[fitted], y[fitted])
    return model.predict_proba(x[rest]), y[rest]


def _draw(seed: int, rows: int, size: Profile) -> NDArray[np.int64]:
    return np.random.default_rng([1, seed]).integers(rows, size=size.held_out)


def _ours(
    guarantee: Guarantee,
    whole: RankedLabels,
    proba: NDArray[np.float64],
    labels: NDArray[np.int64],
    drawn: NDArray[np.int64],
    seed: int,
) -> Numbers:
    try:
        threshold = choose_guaranteed(
            proba[drawn], labels[drawn], guarantee, min_labels=whole.low, max_labels=whole.high,
            seed=seed,
        )  # fmt: skip
    except UnreachableError as error:
        return {"refused": True, "reachable": error.reachable}
    return {"refused": False, **_reached(guarantee, whole, threshold, whole.low, whole.high)}


def _reached(
    guarantee: Guarantee, rows: RankedLabels, threshold: float, low: int, high: int
) -> Numbers:
    """Return what a threshold reaches on the population."""
    sizes = rows.sizes(np.array([threshold]))
    return {
        "reached": guarantee.measure(rows, threshold),
        "size": float(sizes.mean()),
        "over_the_cap": float((sizes > high).mean()),
        "below_the_floor": float((sizes < low).mean()),
    }


# --- MAPIE ------------------------------------------------------------------------------------


def _has_mapie() -> bool:
    return importlib.util.find_spec("mapie") is not None


def _mapie(
    guarantee: Guarantee,
    free: RankedLabels,
    cap: int,
    proba: NDArray[np.float64],
    labels: NDArray[np.int64],
    drawn: NDArray[np.int64],
) -> Numbers:
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
        controller.calibrate(proba[drawn], labels[drawn])
    best = np.ravel(controller.best_predict_param)[0]
    if not isinstance(best, float) or np.isnan(best):
        return {"refused": True, "reachable": None}
    return {"refused": False, **_reached(guarantee, free, float(best), 1, cap)}


# --- tables -----------------------------------------------------------------------------------


def _holds(promise: Numbers, number: Numbers) -> bool:
    better = promise["level"] <= number["reached"]
    return better if promise["highest"] else promise["level"] >= number["reached"]


def _summaries(numbers: Numbers) -> Iterator[tuple[str, str, Numbers]]:
    """Yield the name of a promise, of a method, and means over the repetitions."""
    for name, promise in numbers["promises"].items():
        highest = not name.startswith("FalsePositives")
        for method in ("ours", "mapie"):
            if method not in promise:
                continue
            given = [one for one in promise[method] if not one["refused"]]
            kept = sum(_holds({**promise, "highest": highest}, one) for one in given)
            yield (
                name,
                method,
                {
                    "kept": kept + len(promise[method]) - len(given),
                    "refused": len(promise[method]) - len(given),
                    **{
                        key: statistics.fmean(one[key] for one in given) if given else None
                        for key in ("reached", "size", "over_the_cap", "below_the_floor")
                    },
                },
            )


def _rows(name: str, numbers: Numbers, repetitions: int) -> Iterator[dict[str, Any]]:
    for promise, method, means in _summaries(numbers):
        for metric, value in means.items():
            if value is not None:
                yield row(
                    method, [float(value)], range(repetitions), dataset=name, family=promise,
                    protocol="population", metric=metric,
                )  # fmt: skip


def _markdown(found: dict[str, Numbers], repetitions: int, size: Profile) -> str:
    about = (
        f"Promises of thresholds, {repetitions} draws of {size.held_out} held-out rows from a "
        "known population. *Kept*: draws in which the level holds on the population, or no "
        "threshold was given; a confidence of 0.95 allows 5 in 100 to fail. With `None` the "
        "promise is about the mean *reached*, not about each draw. *Refused*: draws in which no "
        "threshold could be shown to keep the level. Sets of ours have between 1 and *cap* labels; "
        "MAPIE has no bounds and no promise about false positives."
    )
    columns = (
        "set", "cap", "promise", "method", "kept", "refused", "reached", "labels a row",
        "over the cap", "empty",
    )  # fmt: skip
    lines = [about, "", f"| {' | '.join(columns)} |", f"|---|---:|---|---|{'---:|' * 6}"]
    for name, numbers in found.items():
        for promise, method, means in _summaries(numbers):
            values = [means[key] for key in ("reached", "size", "over_the_cap", "below_the_floor")]
            shown = (
                ["-"] * 4
                if values[0] is None
                else [f"{values[0]:.3f}", f"{values[1]:.2f}", *(f"{v:.1%}" for v in values[2:])]
            )
            lines.append(
                f"| {name} | {SETS[name].max_labels} | `{promise}` | {method} | {means['kept']} | "
                f"{means['refused']} | {' | '.join(shown)} |"
            )
    return "\n".join(lines)
