"""Seconds of ``fit`` on 500 rows of 72 features, compared with scikit-learn's MLPClassifier.

This is the typical size in a search over settings. The rows are the first 500 of Emotions (6
labels) if its files are available, and random otherwise.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from paper.machine import machine
from sklearn.neural_network import MLPClassifier

from benchmarks._rounds import add_profile, in_turns, ratio, report, spread
from sdlgm import SDLGMClassifier, SDLGMTransformer
from sdlgm.data import load_multilabel
from sdlgm.errors import DataError

__all__ = ["add_arguments", "run"]

ROWS = 500


@dataclass(frozen=True)
class Size:
    """The size of the benchmark."""

    rounds: int
    warmup: int
    share: float
    """Factor on the default lengths of training."""


PROFILES = {"full": Size(rounds=11, warmup=1, share=1.0), "smoke": Size(2, 0, 0.05)}
LARGER_BATCHES: dict[str, dict[str, Any]] = {
    "classifier": {},
    "classifier, batch 64": {"batch_size": 64, "learning_rate": 6e-3},
    "classifier, batch 128": {"batch_size": 128, "learning_rate": 6e-3},
}
"""The default settings, and those of docs/fit-small.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)


def run(options: argparse.Namespace) -> None:
    """Measure, print the ratios, and write the results file."""
    torch.set_num_threads(1)
    size = PROFILES[options.profile]
    data, rows, labels = _data()

    def length(default: int) -> int:
        return max(1, round(size.share * default))

    def mlp() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about convergence within 200 epochs
            return MLPClassifier(random_state=0, max_iter=length(200)).fit(rows, labels)

    def classifier(**settings: Any) -> Callable[[], Any]:
        model = SDLGMClassifier(random_state=0, epochs=length(60), accelerator="cpu", **settings)
        return lambda: model.fit(rows, labels)

    # An epoch has 5 batches of 100 rows.
    transformer = SDLGMTransformer(random_state=0, epochs=length(100), accelerator="cpu")
    fits: dict[str, Callable[[], Any]] = {"MLPClassifier": mlp}
    fits |= {name: classifier(**settings) for name, settings in LARGER_BATCHES.items()}
    fits["transformer"] = lambda: transformer.fit(rows)
    first = {}
    for name, call in fits.items():
        start = time.perf_counter()
        call()
        first[name] = time.perf_counter() - start
    wall, cpu = in_turns(fits, size.rounds, size.warmup)
    baseline = "MLPClassifier"
    found = {
        "benchmark": "fit_small",
        "data": f"{data}: {rows.shape[0]} x {rows.shape[1]}, {labels.shape[1]} labels",
        "ratio_default": ratio(wall, "classifier", baseline)["median"],
        "ratio_transformer": ratio(wall, "transformer", baseline)["median"],
        "timed": {
            name: {
                "seconds": spread(wall[name]),
                "cpu_seconds": spread(cpu[name]),
                "ratio": ratio(wall, name, baseline),
                "cpu_ratio": ratio(cpu, name, baseline),
                "first_call_seconds": first[name],
                "settings": LARGER_BATCHES.get(name, {}),
            }
            for name in fits
        },
        "n_iter": {baseline: mlp().n_iter_, "transformer": transformer.n_iter_},
        "settings": {"profile": options.profile, "rounds": size.rounds, "threads": 1},
        "machine": machine(),
    }
    report(options, found)


def _data() -> tuple[str, NDArray[Any], NDArray[Any]]:
    """Return the name of the data, rows and labels."""
    try:
        data = load_multilabel("emotions")
    except DataError:
        source = np.random.default_rng(0)
        rows = source.normal(size=(ROWS, 72))
        noise = source.normal(size=(ROWS, 6))
        return "random", rows, (rows @ source.normal(size=(72, 6)) + 4 * noise > 6).astype(int)
    rows = np.concatenate([data.X_train, data.X_test])[:ROWS]
    return "emotions", rows, np.concatenate([data.Y_train, data.Y_test])[:ROWS]
