"""Real-valued rows for the benchmark of vectors, their true neighbours, and what decoding loses."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

from sdlgm import DataConfig
from sdlgm.data import load_data
from sdlgm.errors import SDLGMError

__all__ = ["RANKINGS", "SETS", "Rows", "VectorSet", "explained", "load_set", "recalls"]

Rows = NDArray[np.float32]
NEIGHBOURS = 10
FOUND = (10, 100)
"""Numbers of rows that a search returns."""
RANKINGS = ("l2", "inner_product", "cosine")
SETS = ("words", "mnist", "fashion-mnist", "digits")
QUERIES = 1000


@dataclass(frozen=True)
class VectorSet:
    """Rows to fit, rows to encode and search in, and queries."""

    train: Rows
    base: Rows
    queries: Rows

    def neighbours(self) -> NDArray[np.int64]:
        """Return the nearest base rows of each query by exact Euclidean distance."""
        return _best(_scores(self.base, self.queries, "l2"), NEIGHBOURS)


def load_set(name: str, rows: int | None, held_out: bool) -> VectorSet:
    """Load a set; ``rows`` limits the base rows and the queries.

    With ``held_out``, every other base row is for fitting and the rest is encoded. Otherwise all
    base rows are for both.
    """
    base, queries = _words() if name == "words" else _images(name)
    base, queries = base[:rows], queries[: min(QUERIES, rows or QUERIES)]
    if held_out:
        return VectorSet(base[::2], base[1::2], queries)
    return VectorSet(base, base, queries)


def _words() -> tuple[Rows, Rows]:
    """Return the distinct word vectors of ``wordllama`` with unit norm, in a fixed random order."""
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise SDLGMError(
            "The set 'words' is part of the package wordllama, which is not installed. Install it "
            "with pip install 'sdlgm[vectors]', or choose other --sets."
        )
    file = next(Path(spec.origin).parent.rglob("*.safetensors"))
    values = next(iter(load_file(file).values())).astype(np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    present = norms[:, 0] > 1e-6
    values = np.unique(values[present] / norms[present], axis=0)
    values = values[np.random.default_rng(0).permutation(len(values))]
    return values[QUERIES:], values[:QUERIES]


def _images(name: str) -> tuple[Rows, Rows]:
    """Return training images and test images with values from 0 to 1."""
    if name == "digits":  # needs no network: for tests of this benchmark
        values = (load_digits().data / 16).astype(np.float32)
        return values[200:], values[:200]
    data = load_data(DataConfig(name, binarisation="none"), "gaussian")
    train, test = (part.values.float().numpy() for part in (data.train, data.test))
    maximum = train.max()
    return train / maximum, test / maximum


def explained(rows: Rows, decoded: Rows) -> float:
    """Return the share of the variance of the rows that the decoded rows explain."""
    variance = np.square(rows - rows.mean(0)).sum(dtype=np.float64)
    return float(1 - np.square(rows - decoded).sum(dtype=np.float64) / variance)


def recalls(decoded: Rows, queries: Rows, truth: NDArray[np.int64]) -> dict[str, Any]:
    """Return recall 10@10 and 10@100 of the queries against decoded rows, for each ranking."""
    found: dict[str, Any] = {}
    for ranking in RANKINGS:
        best = _best(_scores(decoded, queries, ranking), min(max(FOUND), len(decoded)))
        found[ranking] = {f"10@{number}": _recall(best[:, :number], truth) for number in FOUND}
    return found


def _scores(rows: Rows, queries: Rows, ranking: str) -> Rows:
    """Return a score of each row for each query, larger for nearer rows."""
    products = queries @ rows.T
    if ranking == "l2":
        return 2 * products - np.square(rows).sum(1)
    if ranking == "cosine":
        return products / np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
    return products


def _best(scores: Rows, number: int) -> NDArray[np.int64]:
    """Return the columns of the largest scores of each row, the largest first."""
    some = np.argpartition(-scores, number - 1, axis=1)[:, :number]
    order = np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable")
    return np.take_along_axis(some, order, 1)


def _recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    hits = (found[:, :, None] == truth[:, None, :]).any(1)
    return float(hits.mean())
