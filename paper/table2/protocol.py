"""Selection and measurement in the multi-label experiment.

The protocol of Martins and Astudillo (2016): five folds of the training rows choose a setting and
a decision rule, once for the micro-F1 and once for the macro-F1. The chosen method is fitted to all
training rows and measured on the test rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paper.table2.methods import Method, Predictions, Profile, Size
from sdlgm.data import MultilabelDataset
from sdlgm.estimators.metrics import (
    count_violations,
    expected_calibration_error,
    label_count_error,
    macro_f1_harmonic,
    macro_f1_mean,
    micro_f1,
    ndcg_at_k,
    precision_at_k,
)

__all__ = ["blocks", "measure", "measure_ranking", "select", "select_ranking"]

FOLDS = 5
TOP = (1, 3, 5)
AIMS = {"micro": micro_f1, "macro": macro_f1_harmonic}

Numbers = dict[str, Any]


def blocks(rows: int, folds: int = FOLDS) -> list[NDArray[np.bool_]]:
    """Return which rows each fold holds out: contiguous blocks in the order of the file.

    All blocks except the last have ``ceil(rows / folds)`` rows, as in the published experiments.
    """
    size = -(-rows // folds)
    place = np.arange(rows) // size
    return [place == fold for fold in range(folds) if (place == fold).any()]


def select(method: Method, data: MultilabelDataset, profile: Profile) -> Numbers:
    """Choose a setting and a decision rule for each aim by cross-validation on the training rows.

    Each setting is fitted once per fold with seed 0, and all rules use its predictions. The first
    of equally good pairs is chosen.

    Returns
    -------
    dict
        For ``"micro"`` and ``"macro"``: the indices of the setting and of the rule, the name of
        the rule, and the mean F1 (per cent) over the folds, ``None`` if there is only one pair.
    """
    settings = _settings(method, profile)
    decisions = method.decisions(_size(data.Y_train))
    found = np.zeros((len(AIMS), len(settings), len(decisions)))
    alone = len(settings) * len(decisions) == 1
    folds = [] if alone else blocks(len(data.Y_train))
    for held in folds:
        part = replace(
            data,
            X_train=data.X_train[~held],
            Y_train=data.Y_train[~held],
            X_test=data.X_train[held],
            Y_test=data.Y_train[held],
        )
        fitted = _Fitted(method, part, profile, 0)
        for aim, (name, metric) in enumerate(AIMS.items()):
            for place in range(len(settings)):
                predictions = fitted.predictions(place, name)
                for row, decision in enumerate(decisions):
                    f1 = metric(part.Y_test, decision.labels(predictions))
                    found[aim, place, row] += f1 / len(folds)
    chosen: Numbers = {}
    for name, values in zip(AIMS, found, strict=True):
        best, way = divmod(int(values.argmax()), len(decisions))
        chosen[name] = {
            "setting": best,
            "decision": way,
            "decision_name": decisions[way].name,
            "cross_validated": None if alone else 100 * float(values[best, way]),
        }
    return chosen


def measure(
    method: Method, data: MultilabelDataset, profile: Profile, chosen: Numbers, seed: int
) -> Numbers:
    """Fit the chosen setting to all training rows and measure it on the test rows.

    Returns
    -------
    dict
        For each aim, the three F1 scores (per cent), the numbers of rows without labels and over
        the budget, and the mean absolute error of the number of labels; for the micro-F1 also the
        calibration error.
    """
    size = _size(data.Y_train)
    decisions = method.decisions(size)
    fitted = _Fitted(method, data, profile, seed)
    numbers: Numbers = {"test_rows": len(data.Y_test)}
    for aim in AIMS:
        predictions = fitted.predictions(chosen[aim]["setting"], aim)
        labels = decisions[chosen[aim]["decision"]].labels(predictions)
        empty, over = count_violations(labels, 1, size.most)
        numbers[aim] = {
            "micro_f1": 100 * micro_f1(data.Y_test, labels),
            "macro_f1_harmonic": 100 * macro_f1_harmonic(data.Y_test, labels),
            "macro_f1_mean": 100 * macro_f1_mean(data.Y_test, labels),
            "empty": empty,
            "over_budget": over,
            "label_count_error": label_count_error(data.Y_test, labels.sum(1)),
        }
    if method.presence:
        chances = fitted.predictions(chosen["micro"]["setting"], "micro").get("predict_proba")
        numbers["calibration_error"] = expected_calibration_error(data.Y_test, chances)
    return numbers


class _Fitted:
    """Estimators of a method, each fitted to the training rows once, when it is first needed."""

    def __init__(
        self, method: Method, data: MultilabelDataset, profile: Profile, seed: int
    ) -> None:
        self.method, self.data, self.profile, self.seed = method, data, profile, seed
        self._known: dict[tuple[int, str], Predictions] = {}

    def predictions(self, place: int, aim: str) -> Predictions:
        """Return the predictions for the test rows of a setting, fitted for an aim."""
        key = (place, aim if self.method.aim else "")
        if key not in self._known:
            setting = dict(_settings(self.method, self.profile)[place])
            if self.method.aim:
                setting[self.method.aim] = aim
            estimator = self.method.make(setting, self.profile, self.seed)
            estimator.fit(self.data.X_train, self.data.Y_train)
            self._known[key] = Predictions(estimator, self.data.X_test)
        return self._known[key]


def select_ranking(method: Method, data: MultilabelDataset, profile: Profile) -> Numbers:
    """Choose a setting by nDCG@5 on the last fifth of the training rows, with seed 0."""
    settings = _ranking_settings(method, profile)
    held = blocks(data.Y_train.shape[0])[-1]
    found = []
    for setting in settings:
        estimator = method.make(setting, profile, 0)
        estimator.fit(data.X_train[~held], data.Y_train[~held])
        scores = estimator.decision_function(data.X_train[held])
        found.append(ndcg_at_k(data.Y_train[held], scores, 5))
    place = int(np.argmax(found))
    return {"setting": place, "cross_validated": 100 * found[place]}


def measure_ranking(
    method: Method, data: MultilabelDataset, profile: Profile, chosen: Numbers, seed: int
) -> Numbers:
    """Fit the chosen setting to all training rows; return P@k, nDCG@k (per cent) and costs."""
    estimator = method.make(_ranking_settings(method, profile)[chosen["setting"]], profile, seed)
    started = time.monotonic()
    estimator.fit(data.X_train, data.Y_train)
    scores = estimator.decision_function(data.X_test)
    numbers: Numbers = {"work_seconds": time.monotonic() - started}
    for k in TOP:
        numbers[f"precision_at_{k}"] = 100 * precision_at_k(data.Y_test, scores, k)
        numbers[f"ndcg_at_{k}"] = 100 * ndcg_at_k(data.Y_test, scores, k)
    return {**numbers, "peak_gigabytes": _peak_gigabytes()}


def in_fresh_process(work: Callable[..., Numbers], *arguments: Any) -> Numbers:
    """Call a function of a module in a new process, so that its peak memory can be measured."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _settings(method: Method, profile: Profile) -> list[Any]:
    return list(method.settings)[: profile.settings]


def _ranking_settings(method: Method, profile: Profile) -> list[Any]:
    given = method.settings if method.ranking_settings is None else method.ranking_settings
    return list(given)[: profile.settings]


def _size(labels: Any) -> Size:
    return Size(labels.shape[1], int(labels.sum(1).max()))


def _peak_gigabytes() -> float:
    """Return the peak memory of this process, including libraries, in units of 10^9 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, the resource usage of a new process includes its parent's
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    import resource  # not available on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # bytes on macOS
