"""Compare classifiers of label sets by repeated cross-validation, with average ranks and a test.

All rows of a set, training and test rows, are cut into random folds, again for each repetition. All
classifiers have their defaults, the same bounds of set sizes, and thresholds for the micro-F1 that
they choose on training rows. Nothing is chosen on test folds.
"""

from __future__ import annotations

import functools
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range
from sklearn.metrics import f1_score, label_ranking_average_precision_score

from paper.labels.methods import METHODS, available
from paper.results import Numbers, ResultCache, row, write_tables
from paper.running import Say, check_seeds, choose, measure_all, profile_named, say_on_stderr
from sdlgm.data import load_multilabel
from sdlgm.estimators.metrics import (
    expected_calibration_error,
    label_count_error,
    macro_f1_mean,
    micro_f1,
)

__all__ = ["METRICS", "SETS", "reproduce"]

SETS = (
    "emotions", "birds", "cal500", "yeast", "scene", "enron", "medical", "bibtex", "delicious",
)  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """The size of the comparison."""

    repetitions: int
    folds: int
    rows: int
    """Most rows of a set."""
    scale: float
    """Factor on the numbers of trees and epochs."""


@dataclass(frozen=True)
class Metric:
    """A number of predictions, and which end is better."""

    title: str
    higher: bool


PROFILES = {
    "full": Profile(2, 5, 100_000, 1.0),
    "short": Profile(1, 3, 2_500, 1.0),
    "smoke": Profile(1, 2, 80, 0.03),
}
METRICS = {
    "micro_f1": Metric("micro-F1", True),
    "macro_f1": Metric("macro-F1", True),
    "samples_f1": Metric("samples F1", True),
    "subset_accuracy": Metric("subset accuracy", True),
    "lrap": Metric("LRAP", True),
    "nats": Metric("nats a row", False),
    "calibration_error": Metric("calibration error", False),
    "count_error": Metric("error of the number of labels", False),
    "seconds": Metric("seconds a fit", False),
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
        ``"full"``, ``"short"`` (at most 2,500 rows, 3 folds) or ``"smoke"``.
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
    chosen = choose(only, [*METHODS, *SETS], "method or set")
    methods = [name for name in available() if name in chosen] or available()
    sets = [name for name in SETS if name in chosen] or list(SETS)
    plan = [
        (name, method, place)
        for place in range(repetitions * size.folds)
        for name in sets
        for method in methods
    ]
    measure = functools.partial(_cell, out / "cells", size)
    measure_all(measure, plan, lambda line: line, say=say, jobs=jobs)
    found = _finished(ResultCache(out / "cells"), size)
    rows = list(_rows(found))
    command = f"python -m paper labels --profile {profile}"
    return write_tables(out / "labels.json", "labels", command, rows, _markdown(found))


# --- one fold ---------------------------------------------------------------------------------


def _cell(folder: Path, size: Profile, name: str, method: str, place: int) -> str:
    cache = ResultCache(folder)
    compute = functools.partial(_measure, name, method, place, size)
    numbers, stored = cache.get(f"{name}.{method}", place, _settings(size), compute)
    return (
        f"{name}, {method}, fold {place}: micro-F1 {numbers['micro_f1']:.2f} "
        f"({'done before' if stored else str(numbers['seconds']) + ' s'})"
    )


def _settings(size: Profile) -> dict[str, Any]:
    return {"folds": size.folds, "rows": size.rows, "scale": size.scale}


def _measure(name: str, method: str, place: int, size: Profile) -> Numbers:
    """Fit a method on all folds of a repetition but one, and measure it on that one."""
    x, y = _load(name, size.rows)
    repetition, fold = divmod(place, size.folds)
    held = np.random.default_rng([2, repetition]).permutation(len(y)) % size.folds == fold
    most = int(y[~held].sum(1).max())
    model = METHODS[method](place, most, sp.issparse(x), size.scale)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x[~held], y[~held])
        seconds = time.perf_counter() - started
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
    data = load_multilabel(name, drop_unlabelled=True)
    stack = sp.vstack if sp.issparse(data.X_train) else np.vstack
    x: Any = stack([data.X_train, data.X_test])
    y: Any = stack([data.Y_train, data.Y_test])
    y = np.asarray(y.toarray() if sp.issparse(y) else y)
    kept = np.sort(np.random.default_rng(0).permutation(len(y))[:most])
    x = sp.csr_array(x) if sp.issparse(x) else x
    return x[kept], y[kept]


# --- tables -----------------------------------------------------------------------------------

Found = dict[str, dict[str, dict[int, Numbers]]]
"""Numbers by set, method and fold."""


def _finished(cache: ResultCache, size: Profile) -> Found:
    """Return all finished folds, also those that were not requested this time."""
    found: Found = {}
    for name in SETS:
        for method in METHODS:
            for place in cache.seeds(f"{name}.{method}"):
                numbers = cache.read(f"{name}.{method}", place, _settings(size))
                if numbers is not None:
                    own = {**numbers, "seconds": numbers["fit_seconds"]}
                    found.setdefault(name, {}).setdefault(method, {})[place] = own
    return found


def _rows(found: Found) -> Iterator[dict[str, Any]]:
    for name, methods in found.items():
        for method, folds in methods.items():
            for metric in METRICS:
                yield row(
                    method, [folds[place][metric] for place in sorted(folds)], sorted(folds),
                    dataset=name, family="label sets", protocol="cross-validation", metric=metric,
                )  # fmt: skip


def _markdown(found: Found) -> str:
    """Return a table of average ranks, and one of each metric."""
    complete = [method for method in METHODS if found and all(method in f for f in found.values())]
    about = (
        "Means over the folds of repeated cross-validation; all methods with their defaults, and "
        "thresholds for the micro-F1 chosen on training rows. Ranks: 1 is best."
    )
    parts = [about]
    if len(complete) > 1:
        parts += ["", *_rank_table(found, complete)]
    for name, metric in METRICS.items():
        parts += ["", f"### {metric.title}", "", f"| method | {' | '.join(found)} |"]
        parts.append("|---|" + "---:|" * len(found))
        for method in METHODS:
            if any(method in methods for methods in found.values()):
                cells = (_mean(methods.get(method), name) for methods in found.values())
                shown = ("-" if cell is None else f"{cell:.2f}" for cell in cells)
                parts.append(f"| {method} | {' | '.join(shown)} |")
    return "\n".join(parts)


def _mean(folds: Mapping[int, Numbers] | None, metric: str) -> float | None:
    return statistics.fmean(one[metric] for one in folds.values()) if folds else None


def average_ranks(
    values: NDArray[np.float64], higher: bool
) -> tuple[NDArray[np.float64], float, float]:
    """Return the average rank of each method, the p-value of Friedman's test, and a distance.

    Average ranks that differ by more than this critical distance of Nemenyi's test differ at the
    level 0.05 (Demsar, "Statistical comparisons of classifiers over multiple data sets", 2006).

    Parameters
    ----------
    values
        One row a data set, one column a method.
    higher
        Whether higher values are better.
    """
    sets, methods = values.shape
    ranks = rankdata(-values if higher else values, axis=1)
    tested = methods > 2 and sets > 1
    p = float(friedmanchisquare(*values.T).pvalue) if tested else float("nan")
    quantile = studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)
    return ranks.mean(0), p, float(quantile * np.sqrt(methods * (methods + 1) / (6 * sets)))


def _rank_table(found: Found, methods: list[str]) -> list[str]:
    ranks, tests = [], []
    value: Callable[..., float | None] = _mean
    for name, metric in METRICS.items():
        table = np.array([[value(f[method], name) for method in methods] for f in found.values()])
        mean, p, distance = average_ranks(table.astype(float), metric.higher)
        ranks.append(mean)
        tests.append((p, distance))
    titles = " | ".join(metric.title for metric in METRICS.values())
    lines = [f"### Average ranks over {len(found)} sets", "", f"| method | {titles} |"]
    lines.append("|---|" + "---:|" * len(METRICS))
    for place, method in enumerate(methods):
        lines.append(f"| {method} | {' | '.join(f'{rank[place]:.1f}' for rank in ranks)} |")
    lines.append(f"| p (Friedman) | {' | '.join(f'{p:.3f}' for p, _ in tests)} |")
    lines.append(f"| critical distance | {' | '.join(f'{d:.1f}' for _, d in tests)} |")
    return lines
