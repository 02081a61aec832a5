"""Seconds of a whole ``fit`` on 500 rows of 72 features, beside scikit-learn's MLPClassifier.

The case of a search over settings. Rows are the first 500 of Emotions (6 labels) where its files
are there, else random ones of that size.
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
    """How much is measured."""

    rounds: int
    warmup: int
    share: float
    """Share of the default lengths of training."""


PROFILES = {"full": Size(rounds=11, warmup=1, share=1.0), "smoke": Size(2, 0, 0.05)}
LARGER_BATCHES: dict[str, dict[str, Any]] = {
    "classifier": {},
    "classifier, batch 64": {"batch_size": 64, "learning_rate": 6e-3},
    "classifier, batch 128": {"batch_size": 128, "learning_rate": 6e-3},
    "classifier, batch 128, 10 members": {
        "batch_size": 128, "learning_rate": 6e-3, "members": 10
    },
}  # fmt: skip
"""The defaults, and the settings of docs/fit-small.md."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)


def run(options: argparse.Namespace) -> None:
    """Measure, print the ratios, and write the file that was asked for."""
    torch.set_num_threads(1)
    size = PROFILES[options.profile]
    name, rows, labels = _data()

    def length(default: int) -> int:
        return max(1, round(size.share * default))

    def mlp() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has not converged after its 200 epochs
            return MLPClassifier(random_state=0, max_iter=length(200)).fit(rows, labels)

    def classifier(**settings: Any) -> Callable[[], Any]:
        model = SDLGMClassifier(progress=False, epochs=length(60), **settings)
        return lambda: model.fit(rows, labels)

    transformer = SDLGMTransformer(random_state=0, iterations=length(500))
    contenders: dict[str, Callable[[], Any]] = {"MLPClassifier": mlp}
    contenders |= {what: classifier(**settings) for what, settings in LARGER_BATCHES.items()}
    contenders["transformer"] = lambda: transformer.fit(rows)
    first = {}
    for what, contender in contenders.items():
        start = time.perf_counter()
        contender()
        first[what] = time.perf_counter() - start
    wall, cpu = in_turns(contenders, size.rounds, size.warmup)
    rival = "MLPClassifier"
    found = {
        "benchmark": "fit_small",
        "data": f"{name}: {rows.shape[0]} x {rows.shape[1]}, {labels.shape[1]} labels",
        "ratio_default": ratio(wall, "classifier", rival)["median"],
        "ratio_transformer": ratio(wall, "transformer", rival)["median"],
        "contenders": {
            what: {
                "seconds": spread(wall[what]),
                "cpu_seconds": spread(cpu[what]),
                "ratio": ratio(wall, what, rival),
                "cpu_ratio": ratio(cpu, what, rival),
                "first_call_seconds": first[what],
                "settings": LARGER_BATCHES.get(what, {}),
            }
            for what in contenders
        },
        "n_iter": {rival: mlp().n_iter_, "transformer": transformer.n_iter_},
        "settings": {"profile": options.profile, "rounds": size.rounds, "threads": 1},
        "machine": machine(),
    }
    report(options, found)


def _data() -> tuple[str, NDArray[Any], NDArray[Any]]:
    """Return name, rows and labels."""
    try:
        data = load_multilabel("emotions")
    except DataError:
        source = np.random.default_rng(0)
        rows = source.normal(size=(ROWS, 72))
        noise = source.normal(size=(ROWS, 6))
        return "random", rows, (rows @ source.normal(size=(72, 6)) + 4 * noise > 6).astype(int)
    rows = np.concatenate([data.X_train, data.X_test])[:ROWS]
    return "emotions", rows, np.concatenate([data.Y_train, data.Y_test])[:ROWS]
