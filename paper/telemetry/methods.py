"""Other ways to send windows of telemetry: their bytes and their errors, step by step.

All get what our codes get: the same training windows, entropy coding by one adaptive coder that has
seen the training windows' symbols, and, where it helps, the mean and the scale of each window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.fft import dct, idct
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning, sparse_encode

__all__ = [
    "Point",
    "Windows",
    "adaptive_bits",
    "dictionary",
    "downsample_curve",
    "envelope",
    "omp_curve",
    "transform_curve",
    "zstd_bytes",
]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
MEAN_STEP, SCALE_FLOOR, SCALE_RATIO = 0.25, 0.05, 2**0.5
"""Of what is sent of a window: step of the mean, least scale, ratio of neighbouring scales."""


@dataclass(frozen=True)
class Windows:
    """Windows in units of their metric's training deviation, and what is sent of each in advance.

    Parameters
    ----------
    values
        Shape ``(n, D)``, in the order of metrics and times.
    metric
        Number of the metric of each, shape ``(n,)``.
    """

    values: Array
    metric: Integers

    @property
    def levels(self) -> Integers:
        """Quantised means."""
        return np.round(self.values.mean(1) / MEAN_STEP).astype(np.int64)

    @property
    def classes(self) -> Integers:
        """Quantised logarithms of the deviations, from 0."""
        ratio = np.maximum(self.values.std(1) / SCALE_FLOOR, 1)
        return np.round(np.log(ratio) / np.log(SCALE_RATIO)).astype(np.int64)

    @property
    def mean(self) -> Array:
        """Means as the receiver knows them, shape ``(n, 1)``."""
        return np.asarray(MEAN_STEP * self.levels[:, None], np.float64)

    @property
    def scale(self) -> Array:
        """Deviations as the receiver knows them, shape ``(n, 1)``."""
        return np.asarray(SCALE_FLOOR * SCALE_RATIO ** self.classes[:, None], np.float64)

    @property
    def shapes(self) -> Array:
        """Windows without their mean and scale."""
        return (self.values - self.mean) / self.scale

    def side_bits(self, before: Windows) -> Array:
        """Bits of mean and scale, each as its change since the window before, shape ``(n,)``."""
        own, past = self._changes(before), before._changes(None)
        return adaptive_bits(past[:, :1], own[:, :1]) + adaptive_bits(past[:, 1:], own[:, 1:])

    def _changes(self, before: Windows | None) -> Integers:
        sent = np.stack([self.levels, self.classes], 1)
        last = np.zeros_like(sent)
        for metric in np.unique(self.metric):
            mine = np.flatnonzero(self.metric == metric)
            last[mine[1:]] = sent[mine[:-1]]
            if before is not None:
                known = np.flatnonzero(before.metric == metric)[-1]
                last[mine[0]] = before.levels[known], before.classes[known]
        return sent - last


@dataclass(frozen=True)
class Point:
    """One setting of one method."""

    bytes: float
    """Mean over the windows, what is sent in advance included."""
    error: float
    """Normalised RMSE."""
    setting: str


def rmse(values: Array, decoded: Array) -> float:
    """Root of the mean squared error over all windows and samples."""
    return float(np.sqrt(np.mean((values - decoded) ** 2)))


def adaptive_bits(
    past: Integers,
    symbols: Integers,
    contexts: tuple[Integers, Integers] | None = None,
    *,
    flat: bool = False,
) -> Array:
    """Ideal length, in bits, of integers under counts that receiver and sender both update.

    Each column has a table of its own for each context. A table starts as the counts of the
    training windows in that context, plus 4 of all training windows' law, plus 1 of one that falls
    as ``1 / (1 + k^2)`` (or that is flat), so that nothing is impossible. It counts each window
    that was coded. An arithmetic coder comes within a few bytes of it in all.

    Parameters
    ----------
    past, symbols
        Integers of the training and of the test windows, shapes ``(m, d)`` and ``(n, d)``.
    contexts
        A small number for each window of both.
    flat
        For symbols without an order.

    Returns
    -------
    Array
        Bits of each test window, shape ``(n,)``.
    """
    low = int(min(past.min(), symbols.min(), 0))
    width = int(max(past.max(), symbols.max())) - low + 1
    columns = np.arange(past.shape[1])
    law = np.ones(width) if flat else 1 / (1.0 + np.arange(low, low + width) ** 2)
    start = np.tile(law / law.sum(), (len(columns), 1))
    np.add.at(start, (columns, past - low), 1)
    known = contexts or (np.zeros(len(past), np.int64), np.zeros(len(symbols), np.int64))
    bits = np.zeros(len(symbols))
    for context in np.unique(known[1]):
        table = start.copy()
        if contexts is not None:
            table = law / law.sum() + 4 * start / start.sum(1, keepdims=True)
            np.add.at(table, (columns, past[known[0] == context] - low), 1)
        total = table.sum(1)
        for index in np.flatnonzero(known[1] == context):
            row = symbols[index] - low
            bits[index] = -np.log2(table[columns, row] / total).sum()
            table[columns, row] += 1
            total += 1
    return bits


def zstd_bytes(content: bytes) -> int:
    """Size after zstd at its level 19."""
    return len(pa.Codec("zstd", compression_level=19).compress(content))


def _quantise(values: Array, step: float | Array, dead: float) -> Integers:
    """Nearest multiples of the step, but for a dead zone about 0 that is wider by ``2 dead``."""
    size = np.abs(values) / step
    return (np.sign(values) * np.floor(size + 0.5 - dead)).astype(np.int64)


def transform_curve(
    train: Windows,
    test: Windows,
    steps: Iterable[float],
    *,
    fixed: bool = False,
    sends_scale: bool = False,
    components: int | None = None,
) -> list[Point]:
    """Bytes and errors of transform coding: principal components, or cosines (``fixed``).

    All coefficients (or the first ``components``) are rounded to multiples of a step, with and
    without a wider dead zone, and coded adaptively. If the scale is sent, mean and scale are paid
    for, the transform sees shapes, and the scale is the coder's context.
    """
    inputs = [part.shapes if sends_scale else part.values for part in (train, test)]
    if fixed:
        coefficients = [dct(part, norm="ortho", axis=1) for part in inputs]
    else:
        pca = PCA().fit(inputs[0])
        coefficients = [pca.transform(part) for part in inputs]
    units = [
        part.scale if sends_scale else np.ones((len(part.values), 1)) for part in (train, test)
    ]
    contexts = (train.classes, test.classes) if sends_scale else None
    side = test.side_bits(train) if sends_scale else np.zeros(len(test.values))
    points = []
    for step in steps:
        for dead in (0.0, 0.15, 0.3):
            past, own = (
                _quantise(part[:, :components], step / unit, dead)
                for part, unit in zip(coefficients, units, strict=True)
            )
            found = np.zeros_like(coefficients[1])
            found[:, :components] = own * step / units[1]
            decoded = idct(found, norm="ortho", axis=1) if fixed else pca.inverse_transform(found)
            if sends_scale:
                decoded = test.mean + test.scale * decoded
            bits = adaptive_bits(past, own, contexts) + side
            setting = f"step {step:g}, dead zone {dead:g}"
            points.append(Point(bits.mean() / 8, rmse(test.values, decoded), setting))
    return points


def dictionary(shapes: Array, atoms: int, seed: int) -> Array:
    """Learn atoms of norm 1 from shapes, shape ``(atoms, D)``."""
    learner = MiniBatchDictionaryLearning(
        atoms,
        alpha=1.0,
        max_iter=3,
        batch_size=256,
        fit_algorithm="cd",
        transform_algorithm="omp",
        random_state=seed,
    )
    return np.asarray(learner.fit(shapes).components_)


def omp_curve(
    train: Windows, test: Windows, atoms: Array, budgets: Iterable[int], steps: Iterable[float]
) -> list[Point]:
    """Bytes and errors of sparse coding: at most L0 atoms by OMP, their coefficients rounded.

    Sent are mean and scale, the number of atoms whose coefficient is not rounded to 0, which they
    are (a subset of the dictionary), and the coefficients.
    """
    size = len(atoms)
    log_choose = np.concatenate(
        [[0], np.cumsum(np.log2((size - np.arange(size)) / np.arange(1, size + 1)))]
    )
    side, points = test.side_bits(train), []
    for budget in budgets:
        codes = [
            sparse_encode(part.shapes, atoms, algorithm="omp", n_nonzero_coefs=budget)
            for part in (train, test)
        ]
        for step in steps:
            past, own = (
                _quantise(code, step / part.scale, 0.0)
                for code, part in zip(codes, (train, test), strict=True)
            )
            number = [np.count_nonzero(part, axis=1) for part in (past, own)]
            bits = adaptive_bits(
                number[0][:, None], number[1][:, None], (train.classes, test.classes), flat=True
            )
            bits += log_choose[number[1]] + side
            if own.any() and past.any():
                rows = own.nonzero()[0]
                bits += np.bincount(
                    rows,
                    adaptive_bits(past[past != 0][:, None], own[own != 0][:, None]),
                    minlength=len(own),
                )
            decoded = test.mean + test.scale * ((own * step / test.scale) @ atoms)
            setting = f"L0 {budget}, step {step:g}"
            points.append(Point(bits.mean() / 8, rmse(test.values, decoded), setting))
    return points


def downsample_curve(train: Windows, test: Windows, steps: Iterable[float]) -> list[Point]:
    """Bytes and errors of means over blocks, rounded, as changes: the smaller of zstd and coder."""
    points = []
    for factor in (1, 2, 4, 8, 16, 32, 64):
        blocks = [
            part.values.reshape(len(part.values), -1, factor).mean(-1) for part in (train, test)
        ]
        for step in steps:
            past, own = (_quantise(part, step, 0.0) for part in blocks)
            decoded = np.repeat(own * step, factor, axis=1)
            past, own = (np.diff(part, axis=1, prepend=0) for part in (past, own))
            kind = np.int16 if np.abs(own).max() < 2**15 else np.int32
            packed = zstd_bytes(own.astype(kind).tobytes()) / len(own)
            bits = adaptive_bits(past, own).mean() / 8
            setting = f"means of {factor}, step {step:g}"
            points.append(Point(min(packed, bits), rmse(test.values, decoded), setting))
    return points


def envelope(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other beats in both bytes and error, by rising bytes."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.bytes, p.error)):
        if not kept or point.error < kept[-1].error:
            kept.append(point)
    return kept


def bytes_at(points: Iterable[Point], error: float) -> float | None:
    """Bytes at an error, interpolated between neighbours of the envelope; ``None`` if outside."""
    kept = envelope(points)
    errors = np.array([point.error for point in kept])[::-1]
    if not len(errors) or not errors[0] <= error <= errors[-1]:
        return None
    return float(np.interp(error, errors, np.array([point.bytes for point in kept])[::-1]))
