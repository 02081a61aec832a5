"""How good predicted sets of labels are, and the scores and probabilities they come from.

Labels and predictions are 0 or 1, shape ``(n, K)``, dense or sparse. All of these are shares from 0
to 1, higher is better, but for the three errors at the end, of which lower is better.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from sdlgm.errors import DataError

__all__ = [
    "count_violations",
    "expected_calibration_error",
    "label_count_error",
    "macro_f1_harmonic",
    "macro_f1_mean",
    "micro_f1",
    "ndcg_at_k",
    "precision_at_k",
]


def micro_f1(Y: Any, predicted: Any) -> float:  # noqa: N803
    """Return F1 over all (row, label) pairs: ``2 TP / (2 TP + FP + FN)``; 0 if all are 0."""
    both, true, said = (counts.sum() for counts in _tally(Y, predicted))
    return float(2 * both / max(true + said, 1))


def macro_f1_mean(Y: Any, predicted: Any) -> float:  # noqa: N803
    """Return the mean over the labels of their F1 (scikit-learn's macro-F1).

    It is never above :func:`macro_f1_harmonic`: the harmonic mean is concave. A label that has no
    F1, because nobody has it and nobody is predicted to, counts as 0.
    """
    both, true, said = _tally(Y, predicted)
    return float((2 * both / np.maximum(true + said, 1)).mean())


def macro_f1_harmonic(Y: Any, predicted: Any) -> float:  # noqa: N803
    """Return the harmonic mean of macro precision and macro recall: ``2 P R / (P + R)``.

    P and R are means over the labels, undefined ones counting as 0. This is the macro-F1 of
    Martins & Astudillo 2016, and so that of the published baselines; it is never below
    :func:`macro_f1_mean`, and the two must not be compared.
    """
    both, true, said = _tally(Y, predicted)
    precision, recall = (both / np.maximum(said, 1)).mean(), (both / np.maximum(true, 1)).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def precision_at_k(Y: Any, scores: ArrayLike, k: int) -> float:  # noqa: N803
    """Return the mean share of true labels among the k of the highest scores.

    Of equal scores the lower column comes first. Rows without labels count as 0.
    """
    return float(_in_order(Y, scores, k).mean())


def ndcg_at_k(Y: Any, scores: ArrayLike, k: int) -> float:  # noqa: N803
    r"""Return the mean of :math:`\sum_{l\le k} y_{(l)} / \log_2(1+l)` over its largest value.

    :math:`y_{(l)}` is the label of the l-th highest score, of equal ones that of the lower column
    (scikit-learn takes the higher, or averages); the largest value is that of ``min(k, |y|)``
    labels in front. Rows without labels count as 0.
    """
    gains = 1 / np.log2(np.arange(2, k + 2))
    found = _in_order(Y, scores, k) @ gains
    most = np.concatenate([[0], gains.cumsum()])[np.minimum(_dense(Y).sum(1), k)]
    return float(np.divide(found, most, out=np.zeros(len(found)), where=most > 0).mean())


def expected_calibration_error(Y: Any, probabilities: ArrayLike, bins: int = 15) -> float:  # noqa: N803
    r"""Return how far probabilities are from frequencies: lower is better.

    All (row, label) pairs are put into ``bins`` bins of equal width over [0, 1] by their
    probability: :math:`\sum_b (n_b/n) |\bar y_b - \bar p_b|`. As most labels are absent from most
    rows, most pairs lie in the first bin: a number to compare methods on one set of data by.

    Raises
    ------
    DataError
        If a probability is not in [0, 1].
    """
    truth, values = _dense(Y).ravel(), _scores(Y, probabilities).ravel()
    if values.min() < 0 or values.max() > 1:
        raise DataError(
            f"Probabilities lie in [0, 1], got {values.min():g} to {values.max():g}. Scores of "
            "another scale have no calibration error."
        )
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, truth - values, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))


def label_count_error(Y: Any, numbers: ArrayLike) -> float:  # noqa: N803
    """Return the mean absolute error of the number of labels of a row: lower is better.

    ``numbers`` are those predicted, shape ``(n,)``, whole or expected.
    """
    true = np.asarray(_dense(Y).sum(1))
    guess = np.asarray(numbers, np.float64)
    if guess.shape != true.shape:
        raise DataError(f"Y has {len(true)} rows, but the numbers of labels {guess.shape}.")
    return float(np.abs(true - guess).mean())


def count_violations(
    predicted: Any, min_labels: int = 1, max_labels: int | None = None
) -> tuple[int, int]:
    """Return how many rows have fewer labels than the floor, and how many more than the cap."""
    numbers = np.asarray(predicted.sum(1)).ravel()
    over = 0 if max_labels is None else int((numbers > max_labels).sum())
    return int((numbers < min_labels).sum()), over


def _tally(truth: Any, guess: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return for each label how many rows have it and are said to, have it, are said to.

    A search over thresholds spends its time here: scikit-learn's scores, which the tests compare
    these with, take 50 to 100 times as long.
    """
    shapes = [np.shape(values) for values in (truth, guess)]
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise DataError(
            f"Y and the predictions must have one shape (n, K), got {shapes[0]} and {shapes[1]}."
        )
    if issparse(truth) or issparse(guess):
        true, said = (csr_array(values) for values in (truth, guess))
        both = true.multiply(said)
    else:
        true, said = (np.asarray(values, np.int64) for values in (truth, guess))
        both = true * said
    sums = [np.asarray(counts.sum(0)).ravel() for counts in (both, true, said)]
    return sums[0], sums[1], sums[2]


def _dense(labels: Any) -> NDArray[Any]:
    return np.asarray(labels.toarray() if issparse(labels) else labels)


def _scores(labels: Any, scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    if values.shape != np.shape(labels):
        raise DataError(f"Y has shape {np.shape(labels)}, but the scores {values.shape}.")
    if not np.isfinite(values).all():
        raise DataError("Scores must be finite.")
    return values


def _in_order(truth: Any, scores: ArrayLike, k: int) -> NDArray[Any]:
    """Return the labels of the k highest scores, best first, ``(n, k)``."""
    values = _scores(truth, scores)
    if not 1 <= k <= values.shape[1]:
        raise DataError(f"k must lie from 1 to the number of labels, {values.shape[1]}, got {k!r}.")
    top = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(_dense(truth), top, 1)
