"""Samples per second of ``transform``, orthogonal matching pursuit, PCA and onnxruntime.

All encode the same test rows with the same number of features. The error is the mean squared error
of a value after decoding. Matching pursuit is timed with the two numbers of atoms whose errors are
closest to that of the codes, from above and from below.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from paper.machine import machine
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning, SparseCoder

from benchmarks._rounds import add_profile, in_turns, ratio, report, spread
from sdlgm import DataConfig, SDLGMTransformer
from sdlgm.data import load_data
from sdlgm.errors import DataError
from sdlgm.export import dense_codes, export_run, open_session

__all__ = ["add_arguments", "run"]

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Size:
    """The size of the benchmark."""

    data: tuple[str, ...]
    """Data sets; the first one with available files is used."""
    train: int
    """Number of training rows."""
    features: int
    budget: int
    epochs: int
    batches: dict[int, int]
    """Batch sizes, and rounds of each."""
    atoms: tuple[int, ...]
    """Numbers of atoms of matching pursuit."""


PROFILES = {
    "full": Size(
        ("mnist", "digits"),
        20_000,
        200,
        40,
        50,
        {1: 200, 256: 15, 8192: 5},
        (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40),
    ),
    "smoke": Size(("digits",), 300, 16, 4, 7, {1: 3, 64: 2}, (1, 2, 4)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)
    parser.add_argument(
        "--model",
        type=Path,
        default=None,
        help="Folder of the trained model. It is loaded if it exists, and written otherwise.",
    )


def run(options: argparse.Namespace) -> None:
    """Measure, print the numbers, and write the results file."""
    torch.set_num_threads(1)
    size = PROFILES[options.profile]
    name, train, test = _data(size)
    model, seconds = _model(size, train, options.model)
    codes = model.transform(test)
    active = float((codes > 0).sum(1).mean())
    model_error = _error(test, model.inverse_transform(codes))
    _say(f"{name}: {active:.1f} active features, error {model_error:.5f}")
    start = time.perf_counter()
    learner = MiniBatchDictionaryLearning(
        size.features, batch_size=256, max_iter=5, transform_algorithm="omp", random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dictionary = learner.fit(train).components_
    learning = time.perf_counter() - start
    curve: list[dict[str, Any]] = []
    for atoms in size.atoms:
        coder = _coder(dictionary, atoms)
        start = time.perf_counter()
        with warnings.catch_warnings():  # some rows need fewer atoms
            warnings.simplefilter("ignore")
            found = coder.transform(test)
        rate = len(test) / (time.perf_counter() - start)
        error = _error(test, found @ dictionary)
        curve.append({"atoms": atoms, "error": error, "samples_per_second": rate})
        _say(f"matching pursuit, {atoms} atoms: error {error:.5f}, {rate:.0f} samples per second")
    worse = [p["atoms"] for p in curve if p["error"] >= model_error]
    better = [p["atoms"] for p in curve if p["error"] < model_error]
    chosen = {
        "omp_next_above": max(worse, default=None),
        "omp_next_below": min(better, default=None),
    }
    chosen |= {"omp_mean_active": max(1, round(active)), "omp_budget": size.budget}
    pca = PCA(max(1, round(active)), random_state=0).fit(train)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        session = open_session(export_run(Path(folder) / "model", Path(folder) / "model.onnx"))
    exported = session.run(None, {"x": test})
    same = (dense_codes(exported[0], exported[1], size.features) == codes).all(1).mean()
    encoders: dict[str, Callable[[Rows], Any]] = {
        "sdlgm": model.transform,
        "onnxruntime": lambda x: session.run(None, {"x": x}),
        "pca": pca.transform,
    }
    errors = {"sdlgm": model_error, "pca": _error(test, pca.inverse_transform(pca.transform(test)))}
    for label, number in chosen.items():
        if number is not None:
            coder = _coder(dictionary, number)
            encoders[label] = coder.transform
            errors[label] = _error(test, coder.transform(test) @ dictionary)
    found = {
        "benchmark": "encode",
        "data": f"{name}: {len(train)} training rows, {len(test)} test rows to encode",
        "error": "mean squared error of a value, test rows",
        "active_features_mean": active,
        "errors": errors,
        "atoms": chosen,
        "omp_curve": curve,
        "onnx_identical_codes": float(same),
        "training_seconds": {"sdlgm": seconds, "dictionary": learning},
        "batches": {
            str(batch): _timed(encoders, test[:batch], rounds)
            for batch, rounds in size.batches.items()
        },
        "settings": {"profile": options.profile, "threads": 1, "model": model.get_params()},
        "machine": machine(),
    }
    report(options, found)


def _timed(encoders: dict[str, Callable[[Rows], Any]], rows: Rows, rounds: int) -> dict[str, Any]:
    _say(f"batches of {len(rows)} rows")
    calls = {name: (lambda f=encoder: f(rows)) for name, encoder in encoders.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wall, cpu = in_turns(calls, rounds, max(1, rounds // 10))
    return {
        name: {
            "samples_per_second": len(rows) / spread(wall[name])["median"],
            "seconds": spread(wall[name]),
            "times_slower_than_sdlgm": ratio(wall, name, "sdlgm"),
            "cpu_times_slower": spread(cpu[name])["median"]
            / max(spread(cpu["sdlgm"])["median"], 1e-9),
        }
        for name in encoders
    }


def _data(size: Size) -> tuple[str, Rows, Rows]:
    """Return name, training rows and test rows, scaled from 0 to 1."""
    for name in size.data:
        try:
            data = load_data(DataConfig(name, binarisation="none"), "gaussian")
        except DataError:
            if name == size.data[-1]:
                raise
            continue
        break
    train, test = (part.values.float().numpy() for part in (data.train, data.test))
    maximum = train.max()
    return name, train[: size.train] / maximum, test[: max(size.batches)] / maximum


def _model(size: Size, train: Rows, folder: Path | None) -> tuple[SDLGMTransformer, float | None]:
    """Return the model, and the seconds of its training unless it was loaded."""
    if folder is not None and folder.exists():
        return SDLGMTransformer.load(folder), None
    model = SDLGMTransformer(
        size.features,
        size.budget,
        likelihood="bernoulli",
        epochs=size.epochs,
        random_state=0,
        accelerator="cpu",
        progress=True,
    )
    start = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - start
    if folder is not None:
        model.save(folder)
    return model, seconds


def _coder(dictionary: NDArray[np.float64], atoms: int) -> SparseCoder:
    return SparseCoder(
        dictionary, transform_algorithm="omp", transform_n_nonzero_coefs=atoms, n_jobs=None
    )


def _error(rows: Rows, decoded: NDArray[Any]) -> float:
    value = float(np.square(rows - decoded).mean(dtype=np.float64))
    if not math.isfinite(value):
        raise DataError("The decoded values of an encoder are not finite.")
    return value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
