"""Windows of telemetry, and the bytes and errors of baselines that send them.

All methods have the same training windows, the same adaptive entropy coder, which starts from the
symbols of the training windows, and, where it helps, the mean and the scale of each window.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.fft import dct, idct
from sklearn.decomposition import PCA, MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning

from paper.telemetry.profiles import LENGTH
from sdlgm.data import Series, sliding_windows

__all__ = [
    "Point",
    "Windows",
    "adaptive_bits",
    "baseline_curves",
    "cut",
    "dictionary",
    "downsample_curve",
    "envelope",
    "lean_omp_curve",
    "lossless",
    "omp_curve",
    "sparse_numbers",
    "subset_bits",
    "transform_curve",
    "zstd_bytes",
]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
MEAN_STEP, SCALE_FLOOR, SCALE_RATIO = 0.25, 0.05, 2**0.5
"""Quantisation of a window's mean and scale: step, smallest scale, ratio of adjacent scales."""


@dataclass(frozen=True)
class Windows:
    """Windows in units of the standard deviation of their metric in training.

    The quantised mean and scale of a window are sent first, as side information.

    Parameters
    ----------
    values
        Shape ``(n, D)``, ordered by metric and time.
    metric
        Index of the metric of each window, shape ``(n,)``.
    """

    values: Array
    metric: Integers

    @property
    def levels(self) -> Integers:
        """Quantised means."""
        return np.round(self.values.mean(1) / MEAN_STEP).astype(np.int64)

    @property
    def classes(self) -> Integers:
        """Quantised logarithms of the standard deviations, from 0."""
        ratio = np.maximum(self.values.std(1) / SCALE_FLOOR, 1)
        return np.round(np.log(ratio) / np.log(SCALE_RATIO)).astype(np.int64)

    @property
    def mean(self) -> Array:
        """Dequantised means, shape ``(n, 1)``."""
        return np.asarray(MEAN_STEP * self.levels[:, None], np.float64)

    @property
    def scale(self) -> Array:
        """Dequantised standard deviations, shape ``(n, 1)``."""
        return np.asarray(SCALE_FLOOR * SCALE_RATIO ** self.classes[:, None], np.float64)

    @property
    def shapes(self) -> Array:
        """Windows, centred and scaled."""
        return (self.values - self.mean) / self.scale

    def side_bits(self, before: Windows) -> Array:
        """Return the bits of mean and scale, coded as changes between windows, shape ``(n,)``."""
        own, past = self._changes(before), before._changes(None)
        return adaptive_bits(past[:, :1], own[:, :1]) + adaptive_bits(past[:, 1:], own[:, 1:])

    def mean_bits(self, before: Windows) -> Array:
        """Return the bits of the mean alone, coded as changes between windows, shape ``(n,)``."""
        return adaptive_bits(before.mean_changes(None)[:, None], self.mean_changes(before)[:, None])

    def mean_changes(self, before: Windows | None) -> Integers:
        """Return the steps from the quantised mean of the window before, shape ``(n,)``."""
        return self._changes(before)[:, 0]

    def _changes(self, before: Windows | None) -> Integers:
        sent = np.stack([self.levels, self.classes], 1)
        last = np.zeros_like(sent)
        for metric in np.unique(self.metric):
            own = np.flatnonzero(self.metric == metric)
            last[own[1:]] = sent[own[:-1]]
            if before is not None:
                known = np.flatnonzero(before.metric == metric)[-1]
                last[own[0]] = before.levels[known], before.classes[known]
        return sent - last


@dataclass(frozen=True)
class Point:
    """Bytes and error of one setting of a method."""

    bytes: float
    """Mean bytes per window, including the side information."""
    error: float
    """Normalised RMSE."""
    setting: str


def cut(series: Iterable[Series], part: str, stride: int) -> Windows:
    """Return the windows of a part (``"train"`` or ``"test"``) of all series."""
    found, metric = [], []
    for number, one in enumerate(series):
        values = one.standard[: one.cut] if part == "train" else one.standard[one.cut :]
        found.append(sliding_windows(values, stride))
        metric += [number] * len(found[-1])
    return Windows(np.concatenate(found), np.array(metric))


def rmse(values: Array, decoded: Array) -> float:
    """Return the root mean squared error over all windows and samples."""
    return float(np.sqrt(np.mean((values - decoded) ** 2)))


def adaptive_bits(
    past: Integers,
    symbols: Integers,
    contexts: tuple[Integers, Integers] | None = None,
    *,
    flat: bool = False,
) -> Array:
    """Return the ideal code length of integers under an adaptive model, in bits.

    Each column has a table of counts for each context. A table starts with the counts of the
    training windows in that context, plus 4 counts with the distribution of all training windows,
    plus 1 count with probabilities proportional to ``1 / (1 + k^2)`` (or uniform), so that every
    symbol is possible. Sender and receiver add each coded window to the counts. An arithmetic coder
    needs only a few bytes more in total.

    Parameters
    ----------
    past, symbols
        Integers of the training and of the test windows, shapes ``(m, d)`` and ``(n, d)``.
    contexts
        A small integer for each training and each test window.
    flat
        Whether the symbols have no order; the single count is then uniform.

    Returns
    -------
    Array
        Bits per test window, shape ``(n,)``.
    """
    low = int(min(past.min(), symbols.min(), 0))
    width = int(max(past.max(), symbols.max())) - low + 1
    columns = np.arange(past.shape[1])
    base = np.ones(width) if flat else 1 / (1.0 + np.arange(low, low + width) ** 2)
    start = np.tile(base / base.sum(), (len(columns), 1))
    np.add.at(start, (columns, past - low), 1)
    known = contexts or (np.zeros(len(past), np.int64), np.zeros(len(symbols), np.int64))
    bits = np.zeros(len(symbols))
    for context in np.unique(known[1]):
        table = start.copy()
        if contexts is not None:
            table = base / base.sum() + 4 * start / start.sum(1, keepdims=True)
            np.add.at(table, (columns, past[known[0] == context] - low), 1)
        total = table.sum(1)
        for index in np.flatnonzero(known[1] == context):
            row = symbols[index] - low
            bits[index] = -np.log2(table[columns, row] / total).sum()
            table[columns, row] += 1
            total += 1
    return bits


def subset_bits(past: Integers, symbols: Integers, contexts: tuple[Integers, Integers]) -> Array:
    """Return the ideal code length of integers that are mostly 0, in bits.

    A window is coded as the number of its nonzero columns (:func:`adaptive_bits`), the set of these
    columns, and their integers. A set ``S`` of ``k`` columns has the probability
    ``prod_S(odds) / e_k(odds)``, where ``e_k`` is the elementary symmetric polynomial and the odds
    are those of the counts so far. A column's integers have the distribution of its counts plus 8
    counts distributed as all columns'. Tables start as the counts on training windows and follow
    the coded data.

    Parameters
    ----------
    past, symbols
        Integers of the training and of the test windows, shapes ``(m, d)`` and ``(n, d)``.
    contexts
        A small integer for each training and each test window, which the number depends on.

    Returns
    -------
    Array
        Bits per test window, shape ``(n,)``.
    """
    number = [np.count_nonzero(part, axis=1) for part in (past, symbols)]
    bits = adaptive_bits(number[0][:, None], number[1][:, None], contexts)
    low = int(min(past.min(), symbols.min()))
    width = int(max(past.max(), symbols.max())) - low + 1
    values = np.zeros((past.shape[1], width))
    np.add.at(values, (past.nonzero()[1], past[past != 0] - low), 1)
    shared = values.sum(0) + 0.1
    shared[-low] = 0
    present, total = np.count_nonzero(past, axis=0) + 0.5, len(past) + 1.0
    for index, row in enumerate(symbols):
        columns = row.nonzero()[0]
        share = np.minimum(present / total, 0.98)
        bits[index] += _set_bits(share / (1 - share), columns)
        for column, place in zip(columns, row[columns] - low, strict=True):
            expected = values[column, place] + 8 * shared[place] / shared.sum()
            bits[index] -= np.log2(expected / (values[column].sum() + 8))
            values[column, place] += 1
            shared[place] += 1
        present[columns] += 1
        total += 1
    return bits


def _set_bits(odds: Array, columns: Integers) -> float:
    """Return ``-log2`` of the probability of a set of columns, given its size."""
    odds = odds / odds.mean()
    sums, logarithm = np.eye(1, len(columns) + 1)[0], 0.0
    for odd in odds:
        sums[1:] += odd * sums[:-1]
        largest = sums.max()
        sums /= largest
        logarithm += np.log2(largest)
    return float(logarithm + np.log2(sums[-1]) - np.log2(odds[columns]).sum())


def zstd_bytes(content: bytes) -> int:
    """Return the size after compression by zstd, level 19."""
    return len(pa.Codec("zstd", compression_level=19).compress(content))


def _quantise(values: Array, step: float | Array, dead: float) -> Integers:
    """Return the nearest multiples of a step, with a dead zone around 0 wider by ``2 dead``."""
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
    """Return bytes and errors of transform coding by principal components or cosines (``fixed``).

    All coefficients (or the first ``components``) are rounded to multiples of a step, with dead
    zones of several widths, and coded adaptively. With ``sends_scale``, the transform is applied to
    the shapes, the scale is the context of the coder, and the side information counts.
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
    """Learn dictionary atoms of norm 1 from shapes, shape ``(atoms, D)``."""
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
    """Return bytes and errors of sparse coding: at most L0 atoms by OMP, rounded coefficients.

    The sender transmits mean and scale, the number of atoms with a nonzero rounded coefficient,
    the subset of these atoms, and the coefficients.
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


def lean_omp_curve(
    train: Windows, test: Windows, atoms: Array, budgets: Iterable[int], steps: Iterable[float]
) -> dict[str, Any]:
    """Return bytes and errors of sparse coding as :func:`omp_curve`, with less to send.

    Only the mean is sent beside the code, and :func:`subset_bits` codes the coefficients: the
    coder of our atoms and amplitudes.
    """
    steps, side, points = tuple(steps), test.mean_bits(train), []
    for budget in budgets:
        codes = [
            sparse_encode(part.values - part.mean, atoms, algorithm="omp", n_nonzero_coefs=budget)
            for part in (train, test)
        ]
        for step in steps:
            past, own = (_quantise(code, step, 0.0) for code in codes)
            bits = subset_bits(past, own, (train.metric, test.metric)) + side
            error = rmse(test.values, test.mean + own * step @ atoms)
            points.append(Point(bits.mean() / 8, error, f"L0 {budget}, step {step:g}"))
    return {"points": [asdict(point) for point in points]}


def downsample_curve(train: Windows, test: Windows, steps: Iterable[float]) -> list[Point]:
    """Return bytes and errors of rounded block means, coded as changes by zstd or the coder."""
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
    """Return the Pareto-optimal points in order of increasing bytes."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.bytes, p.error)):
        if not kept or point.error < kept[-1].error:
            kept.append(point)
    return kept


def bytes_at(points: Iterable[Point], error: float) -> float | None:
    """Return the bytes at an error, interpolated on the envelope; ``None`` outside of it."""
    kept = envelope(points)
    errors = np.array([point.error for point in kept])[::-1]
    if not len(errors) or not errors[0] <= error <= errors[-1]:
        return None
    return float(np.interp(error, errors, np.array([point.bytes for point in kept])[::-1]))


def sparse_numbers(
    train: Windows, test: Windows, seed: int, size: int, budgets: Sequence[int]
) -> dict[str, Any]:
    """Return errors with real coefficients: L0 atoms by OMP, and L0 principal components.

    Parameters
    ----------
    train, test
        Training and test windows.
    seed, size
        Of the learned dictionary.
    budgets
        Numbers L0 of atoms and components.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        atoms = dictionary(train.shapes, size, seed)
    pca = PCA().fit(train.shapes)
    found: dict[str, Any] = {"omp": [], "pca": [], "atoms": atoms.tolist()}
    coefficients = pca.transform(test.shapes)
    for budget in budgets:
        code = sparse_encode(test.shapes, atoms, algorithm="omp", n_nonzero_coefs=budget)
        kept = np.where(np.arange(LENGTH) < budget, coefficients, 0)
        for name, shape in (("omp", code @ atoms), ("pca", pca.inverse_transform(kept))):
            found[name].append(rmse(test.values, test.mean + test.scale * shape))
    return found


def baseline_curves(
    train: Windows,
    past: Windows,
    test: Windows,
    atoms: Array,
    budgets: Sequence[int],
    steps: Sequence[float],
) -> dict[str, Any]:
    """Return points of bytes and error of all baselines."""
    found = {
        "PCA": transform_curve(train, test, steps),
        "PCA, mean and scale sent": transform_curve(train, test, steps, sends_scale=True),
        "DCT": transform_curve(train, test, steps, fixed=True),
        "DCT, mean and scale sent": transform_curve(
            train, test, steps, fixed=True, sends_scale=True
        ),
        "OMP, learned dictionary": omp_curve(past, test, atoms, budgets, steps),
        "means of blocks, rounded": downsample_curve(past, test, steps),
    }
    return {name: [asdict(point) for point in points] for name, points in found.items()}


def lossless(series: Iterable[Series]) -> dict[str, float]:
    """Return bytes per window of the test parts, compressed without loss in one zstd stream."""
    parts = [one.values[one.cut :] for one in series]
    parts = [values[: len(values) // LENGTH * LENGTH] for values in parts]
    windows = sum(map(len, parts)) / LENGTH
    floats = np.concatenate(parts).astype("<f4")
    planes = floats.view(np.uint8).reshape(-1, 4).T
    scaled = []
    for values in parts:  # the smallest number of decimals, up to six, that is exact
        digits = next((d for d in range(6) if np.allclose(values, values.round(d), 1e-9, 1e-9)), 6)
        scaled.append(np.diff(np.round(values * 10**digits).astype("<i8"), prepend=0))
    text = "\n".join(f"{value:.12g}" for value in np.concatenate(parts)).encode()
    return {
        "float32, uncompressed": 256.0,
        "zstd of float32": zstd_bytes(floats.tobytes()) / windows,
        "zstd of float32, byte planes": zstd_bytes(planes.tobytes()) / windows,
        "zstd of decimals as text": zstd_bytes(text) / windows,
        "zstd of changes of scaled decimals": zstd_bytes(np.concatenate(scaled).tobytes())
        / windows,
    }
