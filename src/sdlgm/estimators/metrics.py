"""Metrics of predicted sets of labels, and of their scores and probabilities.

Labels and predictions are 0 or 1, shape ``(n, K)``, dense or sparse. All metrics lie in [0, 1] and
higher is better, except for the last three, which are errors.

Labels may be NaN, or missing in a frame, where they are unknown: these pairs of a row and a label
do not count. In rankings they are left out, and numbers of labels are compared in rows that are
known altogether.

Of two frames, columns are matched by name. Other values than 0, 1 and NaN are errors
(:class:`~sdlgm.errors.DataError`), and so are tables of different shapes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from sdlgm.errors import DataError
from sdlgm.estimators.frames import by_name, is_missing
from sdlgm.estimators.parameters import is_integer

__all__ = [
    "count_violations",
    "dense_labels",
    "expected_calibration_error",
    "label_count_error",
    "macro_f1_harmonic",
    "macro_f1_mean",
    "micro_f1",
    "ndcg_at_k",
    "precision_at_k",
    "propensities",
    "psp_at_k",
    "recall_at_k",
]


def micro_f1(Y: Any, predicted: Any) -> float:  # noqa: N803
    """Return F1 over all (row, label) pairs: ``2 TP / (2 TP + FP + FN)``; 0 if all are 0."""
    both, true, said = (counts.sum() for counts in _tally(Y, predicted))
    return float(2 * both / max(true + said, 1))


def macro_f1_mean(Y: Any, predicted: Any) -> float:  # noqa: N803
    """Return the mean over the labels of their F1 (scikit-learn's macro-F1).

    It is at most :func:`macro_f1_harmonic`, since the harmonic mean is concave. A label that is
    neither present nor predicted in any row counts as 0.
    """
    both, true, said = _tally(Y, predicted)
    return float((2 * both / np.maximum(true + said, 1)).mean())


def macro_f1_harmonic(Y: Any, predicted: Any) -> float:  # noqa: N803
    """Return the harmonic mean of macro precision and macro recall: ``2 P R / (P + R)``.

    P and R are means over the labels, with undefined values as 0. This is the macro-F1 of Martins &
    Astudillo 2016, and therefore of the published baselines. It is at least
    :func:`macro_f1_mean`; do not compare one with the other.
    """
    both, true, said = _tally(Y, predicted)
    precision, recall = (both / np.maximum(said, 1)).mean(), (both / np.maximum(true, 1)).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def precision_at_k(Y: Any, scores: ArrayLike, k: int) -> float:  # noqa: N803
    """Return the mean share of true labels among the k labels with the highest scores.

    Ties are broken in favour of the lower column. Rows without labels count as 0.
    """
    return float(_in_order(Y, scores, k).mean())


def ndcg_at_k(Y: Any, scores: ArrayLike, k: int) -> float:  # noqa: N803
    r"""Return the mean of :math:`\sum_{l\le k} y_{(l)} / \log_2(1+l)` divided by its maximum.

    :math:`y_{(l)}` is the label with the l-th highest score; ties are broken in favour of the lower
    column (scikit-learn takes the higher, or averages). The maximum is reached with
    ``min(k, |y|)`` true labels in front. Rows without labels count as 0.
    """
    gains = 1 / np.log2(np.arange(2, k + 2))
    found = _in_order(Y, scores, k) @ gains
    true = np.nansum(dense_labels(Y), axis=1).astype(np.int64)
    most = np.concatenate([[0], gains.cumsum()])[np.minimum(true, k)]
    return float(np.divide(found, most, out=np.zeros(len(found)), where=most > 0).mean())


def recall_at_k(Y: Any, scores: ArrayLike, k: int) -> float:  # noqa: N803
    """Return the mean share of a row's labels among the k labels with the highest scores.

    Rows without labels do not count; the result is NaN if there are no others.
    """
    true = np.nansum(dense_labels(Y), axis=1)
    found = _in_order(Y, scores, k).sum(1)[true > 0]
    return float((found / true[true > 0]).mean()) if len(found) else float("nan")


def propensities(Y: Any, a: float = 0.55, b: float = 1.5) -> NDArray[np.float64]:  # noqa: N803
    r"""Return the probability that a label which applies was noted, by its frequency, ``(K,)``.

    For a label with :math:`n_k` of n training rows,

    .. math:: p_k = \frac{1}{1 + c\, (n_k + b)^{-a}}, \quad c = (\log n - 1) (b + 1)^a

    (Jain et al., "Extreme multi-label loss functions for recommendation, tagging, ranking and other
    missing label applications", KDD 2016, whose values for most sets are the defaults).

    Parameters
    ----------
    Y
        Training labels, ``(n, K)``; unknown labels count as absent.
    a, b
        Constants of the data set.
    """
    table = _binary(Y, "Y")
    numbers = np.asarray(_known(csr_array(table)).sum(0)).ravel()
    scale = (np.log(table.shape[0]) - 1) * (b + 1) ** a
    return np.asarray(1 / (1 + scale * (numbers + b) ** -a), np.float64)


def psp_at_k(
    Y: Any,  # noqa: N803
    scores: ArrayLike,
    k: int,
    propensity: ArrayLike,
) -> float:
    """Return the propensity-scored precision at k, as a share of the best that is possible.

    A true label counts 1 over its propensity (:func:`propensities` of the training labels), so that
    rare labels, which are missed most often, count more. It is the sum over all rows divided by
    that of the best ranking, as in the published tables.
    """
    gains = 1 / np.asarray(propensity, np.float64)
    truth, values = dense_labels(Y), _scores(Y, scores)
    if gains.shape != (values.shape[1],) or not (gains >= 1).all():
        raise DataError(
            f"propensity must hold one number between 0 and 1 for each of the {values.shape[1]} "
            "labels."
        )
    worth = np.nan_to_num(truth) * gains
    found = np.take_along_axis(worth, _best(truth, values, k), 1).sum()
    most = -np.sort(-worth, axis=1)[:, :k].sum()
    return float(found / most) if most else 0.0


def expected_calibration_error(Y: Any, probabilities: ArrayLike, bins: int = 15) -> float:  # noqa: N803
    r"""Return the expected calibration error over all (row, label) pairs: lower is better.

    Pairs are assigned to ``bins`` bins of equal width over [0, 1] by their probability:
    :math:`\sum_b (n_b/n) |\bar y_b - \bar p_b|`. As most labels are absent from most rows, most
    pairs lie in the first bin; the error compares methods on the same data only. It is NaN if no
    label is known.

    Raises
    ------
    DataError
        If a probability is not in [0, 1].
    """
    truth, values = dense_labels(Y).ravel(), _scores(Y, probabilities).ravel()
    truth, values = truth[truth == truth], values[truth == truth]
    if not len(values):
        return float("nan")
    if values.min() < 0 or values.max() > 1:
        raise DataError(
            f"Probabilities must lie in [0, 1], got {values.min():g} to {values.max():g}. The "
            "calibration error is not defined for other scores."
        )
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, truth - values, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))


def label_count_error(Y: Any, numbers: ArrayLike) -> float:  # noqa: N803
    """Return the mean absolute error of the number of labels of a row: lower is better.

    ``numbers`` are the predicted numbers, whole or expected, shape ``(n,)``.
    """
    true = np.asarray(dense_labels(Y).sum(1))
    guess = np.asarray(numbers, np.float64)
    if guess.shape != true.shape:
        raise DataError(f"Y has {len(true)} rows, but numbers has shape {guess.shape}.")
    known = true == true
    return float(np.abs(true - guess)[known].mean()) if known.any() else float("nan")


def count_violations(
    predicted: Any, min_labels: int = 1, max_labels: int | None = None
) -> tuple[int, int]:
    """Return the numbers of rows with too few and with too many labels."""
    numbers = np.asarray(_binary(predicted, "The predictions").sum(1)).ravel()
    over = 0 if max_labels is None else int((numbers > max_labels).sum())
    return int((numbers < min_labels).sum()), over


def _known(table: csr_array) -> csr_array:
    """Return labels with 0 where they are unknown."""
    return csr_array((np.nan_to_num(table.data), table.indices, table.indptr), shape=table.shape)


def _unknown(table: csr_array) -> csr_array:
    """Return 1 where labels are unknown, else 0."""
    gaps = (table.data != table.data).astype(np.int64)
    return csr_array((gaps, table.indices, table.indptr), shape=table.shape)


def _added_up(table: Any) -> csr_array:
    """Return a sparse table of any format as CSR with one value for each place."""
    found = csr_array(table)
    if not found.has_canonical_format:
        found = found.copy()
        found.sum_duplicates()
    return found


def _tally(truth: Any, guess: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return for each label the numbers of true positives, of positives, and of predictions.

    The search for a threshold spends its time here; scikit-learn's scores, which give the same
    values, take 50 to 100 times as long.
    """
    guess = by_name(truth, guess, "predicted")
    truth, guess = _binary(truth, "Y"), _binary(guess, "The predictions", gaps=False)
    if truth.shape != guess.shape:
        raise DataError(
            f"Y and the predictions must have one shape (n, K), got {truth.shape} and "
            f"{guess.shape}."
        )
    if issparse(truth) or issparse(guess):
        true, said = csr_array(truth), csr_array(guess).astype(np.int64)
        unknown = _unknown(true)
        if unknown.data.any():
            true, said = _known(true), said - said.multiply(unknown)
        both = true.multiply(said)
    else:
        known = truth == truth
        true = np.where(known, truth, 0).astype(np.int64)
        said = guess.astype(np.int64) * known
        both = true * said
    sums = [np.asarray(counts.sum(0)).ravel() for counts in (both, true, said)]
    return sums[0], sums[1], sums[2]


def _binary(labels: Any, what: str, *, gaps: bool = True) -> Any:
    """Return a table of 0 and 1, and with ``gaps`` of NaN, as an array or sparse.

    Raises
    ------
    DataError
        If it is no such table.
    """
    table = _added_up(labels) if issparse(labels) else np.asarray(labels)
    if len(table.shape) != 2:
        raise DataError(
            f"{what} must be a table (n, K) of 0 and 1, got shape {table.shape}. "
            "MultiLabelBinarizer makes one of sets or lists of names."
        )
    values: Any = table.data if issparse(table) else table
    if values.dtype.kind not in "biufO":
        raise DataError(f"{what} must hold 0 and 1, got values of type {values.dtype}.")
    if values.dtype == object:
        table = values = _numbers(table, what)
    if values.dtype.kind == "f":
        wrong: Any = (values != 0) & (values != 1)
        if gaps:
            wrong &= values == values
    elif values.size and (values.min() < 0 or values.max() > 1):
        wrong = (values < 0) | (values > 1)
    else:
        return table
    if wrong.any():
        raise DataError(
            f"{what} must hold 0 and 1 only, but {int(wrong.sum())} values are others, the first "
            f"{values[wrong][0]}. Probabilities become 0 and 1 by a threshold."
        )
    return table


def _numbers(table: NDArray[Any], what: str) -> NDArray[np.float64]:
    """Return objects as numbers, and what is missing as NaN."""
    gaps = np.frompyfunc(is_missing, 1, 1)(table).astype(bool)
    try:
        return np.where(gaps, np.nan, table).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must hold 0 and 1: {error}.") from None


def dense_labels(labels: Any) -> NDArray[Any]:
    """Return labels in any form as an array of 0, 1 and, where they are unknown, NaN.

    Raises
    ------
    DataError
        If they are anything else.
    """
    table = _binary(labels, "Y")
    return np.asarray(table.toarray() if issparse(table) else table)


def _scores(labels: Any, scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(by_name(labels, scores, "scores"), np.float64)
    if not values.size:
        raise DataError(f"There are no scores: their shape is {values.shape}.")
    if values.shape != np.shape(labels):
        raise DataError(f"Y has shape {np.shape(labels)}, but the scores {values.shape}.")
    if not np.isfinite(values).all():
        raise DataError("Scores must be finite.")
    return values


def _in_order(truth: Any, scores: ArrayLike, k: int) -> NDArray[Any]:
    """Return the labels of the k highest scores, best first, ``(n, k)``."""
    labels = dense_labels(truth)
    order = _best(labels, _scores(truth, scores), k)
    return np.take_along_axis(np.nan_to_num(labels), order, 1)


def _best(labels: NDArray[Any], values: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the columns of the k highest scores of known labels, best first, ``(n, k)``."""
    if not is_integer(k) or not 1 <= k <= values.shape[1]:
        raise DataError(
            f"k must be an integer from 1 to the number of labels, {values.shape[1]}, got {k!r}."
        )
    return np.argsort(np.where(labels == labels, -values, np.inf), axis=1, kind="stable")[:, :k]
