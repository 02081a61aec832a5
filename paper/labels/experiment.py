"""Compare classifiers of label sets by repeated cross-validation, with average ranks and a test.

All rows of a set, training and test rows, are cut into random folds, again for each repetition. All
classifiers have their defaults, the same bounds of set sizes, and thresholds for the micro-F1 that
they choose on training rows. Nothing is chosen on test folds.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.metrics import f1_score, label_ranking_average_precision_score

from paper.labels import debian_tags
from paper.labels.methods import METHODS, available
from paper.labels.tables import markdown, result_rows
from paper.results import Numbers, ResultCache, write_tables
from paper.running import Say, check_seeds, choose, measure_all, profile_named, say_on_stderr
from sdlgm.data import load_multilabel
from sdlgm.estimators.metrics import (
    expected_calibration_error,
    label_count_error,
    macro_f1_mean,
    micro_f1,
)

__all__ = ["SETS", "reproduce"]

DENSE = ("emotions", "birds", "yeast", "scene", "cal500")
SPARSE = ("medical", "enron", "debian", "bibtex", "delicious")
SETS = ("emotions", "birds", "yeast", "scene", "medical", "enron", "debian", "cal500", "bibtex",
        "delicious")  # fmt: skip
"""From cheap to dear. ``debian`` is measured where there is an index of packages."""
WIDE = ("bibtex", "delicious")
"""Sets of so many inputs or labels that the short profile takes fewer rows."""
LEFT_OUT = {
    "cal500": ("catboost",),
    "bibtex": ("catboost", "chain", "lightgbm"),
    "delicious": ("catboost", "chain", "lightgbm", "extra trees", "random forest",
                  "sdlgm + extra trees"),
}  # fmt: skip
"""Methods that would take hours on a set: measured only if both are named."""


@dataclass(frozen=True)
class Profile:
    """The size of the comparison."""

    repetitions: int
    folds: int
    rows: int
    """Most rows of a set."""
    wide_rows: int
    """Most rows of a wide set."""
    scale: float
    """Factor on the numbers of trees and epochs."""

    def rows_of(self, name: str) -> int:
        """Return the most rows of a set."""
        return self.wide_rows if name in WIDE else self.rows

    def settings(self, name: str) -> dict[str, Any]:
        """Return what the numbers of a set depend on."""
        return {"folds": self.folds, "rows": self.rows_of(name), "scale": self.scale}


PROFILES = {
    "full": Profile(2, 5, 100_000, 100_000, 1.0),
    "short": Profile(1, 3, 2_500, 1_000, 1.0),
    "smoke": Profile(1, 2, 80, 80, 0.03),
}


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    jobs: int = 1,
    say: Say = say_on_stderr,
) -> Path:
    """Run what is missing of the comparison; write labels.json and .md.

    Parameters
    ----------
    out
        Folder of the results. Its folder ``cells`` keeps one file per set, method, repetition and
        fold, from which a comparison that was stopped continues.
    profile
        ``"full"``, ``"short"`` (3 folds of at most 2,500 rows, of wide sets 1,000) or ``"smoke"``.
    seeds
        Number of repetitions.
    only
        Methods, data sets, or both. The files report everything that is finished.
    jobs
        Number of processes.
    say
        Receives a line of progress for each fold.

    Raises
    ------
    SDLGMError
        If a profile, method or data set is unknown, or the data are not available.
    """
    out = Path(out)
    size = profile_named(profile, PROFILES)
    repetitions = size.repetitions if seeds is None else check_seeds(seeds)
    plan = [
        (name, method, place)
        for place in range(repetitions * size.folds)
        for name, method in _pairs(choose(only, [*METHODS, *SETS], "method or set"))
    ]
    measure = functools.partial(_cell, out / "cells", size)
    measure_all(measure, plan, lambda line: line, say=say, jobs=jobs)
    found = _finished(ResultCache(out / "cells"), size)
    about = (
        f"Means over the folds of cross-validation ({size.folds} folds; at most {size.rows:,} rows "
        f"of a set, {size.wide_rows:,} of {' and '.join(WIDE)}); all methods with their defaults, "
        "the same bounds of set sizes, and thresholds for the micro-F1 chosen on training rows. "
        "Ranks: 1 is best. Where a table names fewer folds, the others were not run. A dash: not "
        "measured, since it takes too long or needs what is not installed; a "
        "star: fewer folds than the others."
    )
    text = markdown(
        found,
        about,
        groups={"dense": DENSE, "sparse": SPARSE},
        own="sdlgm",
        averages=("sdlgm + extra trees",),
    )
    command = f"python -m paper labels --profile {profile}"
    return write_tables(out / "labels.json", "labels", command, list(result_rows(found)), text)


def _pairs(chosen: Sequence[str]) -> list[tuple[str, str]]:
    """Return the sets and methods to measure, all methods of a set before those of the next."""
    sets = [name for name in SETS if name in chosen]
    methods = [method for method in METHODS if method in chosen]
    some_sets, some_methods = 0 < len(sets) < len(SETS), 0 < len(methods) < len(METHODS)
    if not some_sets:
        sets = [name for name in SETS if name != "debian" or debian_tags.available()]
    if not some_methods:
        methods = available()
    left_out = {} if some_sets and some_methods else LEFT_OUT
    return [(n, m) for n in sets for m in methods if m not in left_out.get(n, ())]


# --- one fold ---------------------------------------------------------------------------------


def _cell(folder: Path, size: Profile, name: str, method: str, place: int) -> str:
    cache = ResultCache(folder)
    compute = functools.partial(_measure, name, method, place, size)
    numbers, stored = cache.get(f"{name}.{method}", place, size.settings(name), compute)
    return (
        f"{name}, {method}, fold {place}: micro-F1 {numbers['micro_f1']:.2f} "
        f"({'done before' if stored else str(numbers['seconds']) + ' s'})"
    )


def _measure(name: str, method: str, place: int, size: Profile) -> Numbers:
    """Fit a method on all folds of a repetition but one, and measure it on that one."""
    x, y = _load(name, size.rows_of(name))
    repetition, fold = divmod(place, size.folds)
    held = np.random.default_rng([2, repetition]).permutation(len(y)) % size.folds == fold
    most = int(y[~held].sum(1).max())
    model = METHODS[method](place, most, sp.issparse(x), size.scale)
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x[~held], y[~held])
        seconds = time.process_time() - started
        predicted, proba = model.predict(x[held]), model.predict_proba(x[held])
        numbers = model.predict_counts(x[held])
    return {**_metrics(y[held], predicted, proba, numbers), "fit_seconds": seconds}


def _metrics(
    y: NDArray[Any], predicted: NDArray[Any], proba: NDArray[Any], numbers: NDArray[Any]
) -> Numbers:
    right = np.clip(np.where(y, proba, 1 - proba), 1e-6, 1)
    return {
        "micro_f1": 100 * micro_f1(y, predicted),
        "macro_f1": 100 * macro_f1_mean(y, predicted),
        "samples_f1": 100 * float(f1_score(y, predicted, average="samples", zero_division=1)),
        "subset_accuracy": 100 * float((predicted == y).all(1).mean()),
        "lrap": 100 * float(label_ranking_average_precision_score(y, proba)),
        "nats": float(-np.log(right).sum(1).mean()),
        "calibration_error": 100 * expected_calibration_error(y, proba),
        "count_error": label_count_error(y, numbers),
    }


@functools.lru_cache(maxsize=2)
def _load(name: str, most: int) -> tuple[Any, NDArray[np.int64]]:
    """Return at most so many rows with labels, and their labels, dense."""
    x, y = _all_rows(name)
    kept = np.sort(np.random.default_rng(0).permutation(len(y))[:most])
    x = sp.csr_array(x) if sp.issparse(x) else x
    return x[kept], y[kept]


def _all_rows(name: str) -> tuple[Any, NDArray[np.int64]]:
    if name == "debian":
        x, y, _ = debian_tags.load_debian_tags()
        return x, y
    data = load_multilabel(name, drop_unlabelled=True)
    stack = sp.vstack if sp.issparse(data.X_train) else np.vstack
    labels: Any = stack([data.Y_train, data.Y_test])
    return stack([data.X_train, data.X_test]), np.asarray(
        labels.toarray() if sp.issparse(labels) else labels
    )


def _finished(cache: ResultCache, size: Profile) -> dict[str, dict[str, dict[int, Numbers]]]:
    """Return all finished folds, also those that were not requested this time."""
    found: dict[str, dict[str, dict[int, Numbers]]] = {}
    for name in SETS:
        for method in METHODS:
            folds = cache.finished([f"{name}.{method}"], lambda *_, n=name: size.settings(n))
            for place, numbers in folds.get(f"{name}.{method}", {}).items():
                own = {**numbers, "seconds": numbers["fit_seconds"]}
                found.setdefault(name, {}).setdefault(method, {})[place] = own
    return found
