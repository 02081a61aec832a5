"""Check by simulation what ``fit`` promises: every repetition fits, chooses and is measured anew.

Labels come from a process whose truth is known. Its inputs are rows of a set; its labels are drawn
from a logistic regression on that set, with an effect that all labels of a row share. A repetition
draws rows with labels, fits a classifier with a guarantee as its threshold, and is measured on the
labels of fresh draws, which are many. Fits are short: a promise holds for any model.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from paper.guarantees.promises import CONFIDENCE, Levels, all_rows, summary
from paper.results import Numbers, ResultCache, row
from paper.running import Say
from sdlgm.estimators import BudgetedClassifier, SDLGMClassifier
from sdlgm.estimators.guarantees import (
    FalsePositivesAtMost,
    Guarantee,
    HeldOut,
    RecallAtLeast,
    UnreachableError,
)

__all__ = ["LEVELS", "FitSize", "check_fits", "markdown", "rows_of"]

Floats = NDArray[np.float64]
Found = dict[tuple[str, str, str], Numbers]
"""What was measured, by set, way and method."""


@dataclass(frozen=True)
class FitSize:
    """The size of the simulation of whole fits."""

    rows: int
    """Rows of a fit; a fifth of them is held out."""
    population: int
    """Inputs that rows are drawn from."""
    draws: int
    """Fresh labels for each of these inputs."""
    epochs: int


LEVELS = {  # each row has at least one label
    "emotions": Levels(3, 0.6, 0.45, 1.2),
    "yeast": Levels(8, 0.7, 0.55, 2.0),
    "scene": Levels(2, 0.7, 0.55, 0.5),
}
METHODS = ("ours", "logistic regression", "extra trees")
WAYS = {"split": "", "folds": "yeast", "unknown": "yeast", "weights": "yeast"}
"""How rows are held out, or what is special about them, and the set it is tried on if not all."""
AVERAGES = ("yeast",)
"""Sets on which promises without a confidence are tried, too."""
SHARED = 0.7
"""Standard deviation of the effect, in log-odds, that the labels of a row share."""
UNKNOWN = (0.2, 0.4)
"""Shares of absent and of present labels that are unknown, in ``"unknown"``."""


def check_fits(
    cache: ResultCache, names: list[str], size: FitSize, repetitions: int, say: Say
) -> Found:
    """Return what is promised and reached by set, way and method; what is stored is not repeated.

    Parameters
    ----------
    cache
        Keeps a file for each of them.
    names
        Sets, keys of :data:`LEVELS`.
    size, repetitions
        Size of the simulation.
    say
        Receives a line of progress for each of them.
    """
    found: Found = {}
    for name in names:
        for way, only in WAYS.items():
            for method in METHODS if only in ("", name) else ():
                settings = {
                    "size": {**vars(size), "repetitions": repetitions},
                    "levels": vars(LEVELS[name]),
                    "process": [SHARED, *UNKNOWN],
                }
                compute = functools.partial(_simulate, name, way, method, size, repetitions)
                key = f"fits.{name}.{way}.{method.replace(' ', '_')}"
                numbers, stored = cache.get(key, 0, settings, compute)
                spent = "done before" if stored else f"{numbers['seconds']} s"
                say(f"fits on {name}, {way}, {method}: {spent}")
                found[name, way, method] = numbers["promises"]
    return found


# --- the process --------------------------------------------------------------------------------


class Process:
    """Inputs of a set, and labels that are drawn for them.

    Parameters
    ----------
    inputs
        Rows ``(m, D)``.
    log_odds
        Log-odds of the labels of these rows, ``(m, K)``.
    most
        Most labels of a row. Rows with more, or with none, are drawn again.
    """

    def __init__(self, inputs: Floats, log_odds: Floats, most: int) -> None:
        self.inputs, self.log_odds, self.most = inputs, log_odds, most

    def labels(self, index: NDArray[np.int64], source: np.random.Generator) -> Floats:
        """Draw labels for some inputs, 0 and 1, ``(len(index), K)``."""
        found = np.zeros((len(index), self.log_odds.shape[1]))
        open_rows = np.arange(len(index))
        while len(open_rows):
            shared = SHARED * source.normal(size=(len(open_rows), 1))
            chance = expit(self.log_odds[index[open_rows]] + shared)
            found[open_rows] = source.random(chance.shape) < chance
            number = found[open_rows].sum(1)
            open_rows = open_rows[(number < 1) | (number > self.most)]
        return found


@functools.cache
def _process(name: str, size: int) -> Process:
    x, y = all_rows(name)
    x = StandardScaler().fit_transform(x)
    chosen = np.random.default_rng(0).permutation(len(x))[:size]
    columns = []
    for label in y.T:
        model = LogisticRegression(C=0.01, max_iter=1000).fit(x, label)
        columns.append(model.decision_function(x[chosen]))
    return Process(x[chosen], np.stack(columns, 1), LEVELS[name].max_labels)


def _hide(labels: Floats, source: np.random.Generator) -> Floats:
    """Return labels with NaN in place of some, of present ones more often than of absent ones."""
    share = np.where(labels > 0, UNKNOWN[1], UNKNOWN[0])
    return np.where(source.random(labels.shape) < share, np.nan, labels)


# --- one cell -----------------------------------------------------------------------------------


def _simulate(name: str, way: str, method: str, size: FitSize, repetitions: int) -> Numbers:
    """Return what the fits of all repetitions reach, by the name of the promise."""
    process = _process(name, size.population)
    source = np.random.default_rng([2, 0])
    every = np.tile(np.arange(len(process.inputs)), size.draws)
    fresh = process.labels(every, source)
    if way == "unknown":
        fresh = _hide(fresh, source)
    held_out: HeldOut = "folds" if way == "folds" else "split"
    promises = LEVELS[name].guarantees(CONFIDENCE, held_out)
    if way == "split" and name in AVERAGES:
        promises |= LEVELS[name].guarantees(None, held_out)
    found: Numbers = {}
    for promise, guarantee in promises.items():
        repeated = [
            _repetition(process, fresh, guarantee, way, _models(size)[method], size.rows, seed)
            for seed in range(repetitions)
        ]
        found[promise] = {
            "level": guarantee.level,
            "highest": guarantee.better == "highest",
            "repetitions": repeated,
        }
    return {"promises": found}


def _models(size: FitSize) -> dict[str, Callable[..., Any]]:
    """Return what makes a classifier from a guarantee and a seed."""
    scaled = functools.partial(SDLGMClassifier, inputs="standard", input_dropout=0.3)
    ours = functools.partial(scaled, members=5, hidden=(32,), epochs=size.epochs)
    linear = functools.partial(BudgetedClassifier, LogisticRegression(C=0.03, max_iter=200))
    trees = functools.partial(BudgetedClassifier, ExtraTreesClassifier(20, min_samples_leaf=3))
    return dict(zip(METHODS, (ours, linear, trees), strict=True))


def _repetition(
    process: Process,
    fresh: Floats,
    guarantee: Guarantee,
    way: str,
    make: Callable[..., Any],
    rows: int,
    seed: int,
) -> Numbers:
    source = np.random.default_rng([1, seed])
    index = source.integers(len(process.inputs), size=rows)
    labels = process.labels(index, source)
    weight = None
    if way == "unknown":
        labels = _hide(labels, source)
    if way == "weights":  # rows with the first label weigh more, and some weigh nothing
        weight = (1 + 3 * labels[:, 0]) * (source.random(rows) < 0.9)
    model = make(threshold=guarantee, random_state=seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # early stops of regressions, and rare inputs
            model.fit(process.inputs[index], labels, sample_weight=weight)
            sets = np.asarray(model.predict(process.inputs))
    except UnreachableError as error:
        return {"refused": True, "reachable": error.reachable}
    return {
        "refused": False,
        "reached": _reached(guarantee, sets, fresh),
        "size": float(sets.sum(1).mean()),
        "largest": int(sets.sum(1).max()),
    }


def _reached(guarantee: Guarantee, sets: NDArray[Any], fresh: Floats) -> float:
    """Return the level that sets of all inputs reach on all fresh labels, known ones alone."""
    said = np.tile(sets, (len(fresh) // len(sets), 1))
    right = (said * (fresh == 1)).sum(1)
    if isinstance(guarantee, RecallAtLeast):
        counted = (fresh == 1).sum(1)
    else:
        counted = (said * (fresh == fresh)).sum(1)
    if isinstance(guarantee, FalsePositivesAtMost):
        return float((counted - right).mean())
    some = counted > 0
    return float((right[some] / counted[some]).mean())


# --- tables -------------------------------------------------------------------------------------


def _summary(promise: Numbers) -> Numbers:
    """Return how many fits keep or break the level, means, and the most labels of any set."""
    found = summary(promise, ("reached", "size"))
    sizes = [one["largest"] for one in promise["repetitions"] if not one["refused"]]
    broken = len(sizes) - found["kept"]
    return {"kept": found["kept"], "broken": broken, **found, "largest": max(sizes, default=None)}


def rows_of(found: Found, repetitions: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the results file."""
    for (name, way, method), promises in found.items():
        for promise, numbers in promises.items():
            for metric, value in _summary(numbers).items():
                if value is not None:
                    yield row(
                        method, [float(value)], [0], dataset=name, family=promise,
                        protocol=f"whole fits, {way}", metric=metric, repetitions=repetitions,
                    )  # fmt: skip


def markdown(found: Found, repetitions: int, size: FitSize) -> str:
    """Return the table of all promises."""
    absent, present = UNKNOWN
    about = (
        f"Promises of whole fits: {repetitions} fits to {size.rows} rows each, with a guarantee as "
        f"the threshold, measured on {size.draws * size.population:,} fresh rows (inputs of the "
        "set, labels drawn from a logistic regression with an effect that the labels of a row "
        "share). *Way*: `split` and `folds` are values of `held_out`. `unknown`: a split, with "
        f"{present:.0%} of present and {absent:.0%} of absent labels unknown, in fresh rows too. "
        "`weights`: a split, with a weight of 4 for rows with the first label and of 0 for a tenth "
        "of the rows. *Largest*: the most labels of any set, of the most labels that a row has."
    )
    columns = (
        "set", "way", "promise", "method", "kept", "broken", "refused", "reached", "labels a row",
        "largest",
    )  # fmt: skip
    lines = [about, "", f"| {' | '.join(columns)} |", f"|---|---|---|---|{'---:|' * 6}"]
    for (name, way, method), promises in found.items():
        for promise, numbers in promises.items():
            means = _summary(numbers)
            cells = [name, way, f"`{promise}`", method]
            cells += [means["kept"], means["broken"], means["refused"]]
            if means["reached"] is None:
                cells += ["-"] * 3
            else:
                cells += [f"{means['reached']:.3f}", f"{means['size']:.2f}"]
                cells += [f"{means['largest']} of {LEVELS[name].max_labels}"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
