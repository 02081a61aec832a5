"""From scores of labels to sets of labels: a threshold, a floor and a cap.

All functions are pure and take dense scores ``(n, K)``, of any scale: only their order and their
place beside the threshold count. Of equal scores that of the lower column comes first.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.metrics import macro_f1_harmonic, micro_f1

__all__ = ["ThresholdRule", "apply_counts", "apply_threshold", "choose_threshold"]

ThresholdRule = Literal["micro", "macro", "per_label", "smoothed"]

CANDIDATES = 100
"""Thresholds that are tried where no grid is given."""


def apply_threshold(
    scores: ArrayLike,
    threshold: float | ArrayLike,
    min_labels: int = 1,
    max_labels: int | None = None,
) -> NDArray[np.int64]:
    """Take the labels whose score is above the threshold, at least and at most so many.

    Parameters
    ----------
    scores
        Shape ``(n, K)``, finite.
    threshold
        A number, or one a label ``(K,)``. A score that is equal to it is not above it.
    min_labels
        Rows with fewer labels get those of the next highest scores.
    max_labels
        Rows with more labels keep those of the highest scores; ``None`` for no cap.

    Returns
    -------
    numpy.ndarray
        0 or 1, int64, shape ``(n, K)``.

    Raises
    ------
    DataError
        If scores are no finite table, or the thresholds are not one a label.
    ConfigError
        If ``0 <= min_labels <= max_labels`` does not hold, or ``min_labels`` exceeds K.

    Examples
    --------
    >>> scores = [[0.9, 0.6, 0.8], [0.1, 0.3, 0.2]]
    >>> apply_threshold(scores, 0.5, min_labels=1, max_labels=2)
    array([[1, 0, 1],
           [0, 1, 0]])
    """
    values = _table(scores)
    cap = _check_bounds(min_labels, max_labels, values.shape[1])
    level = np.asarray(threshold, np.float64)
    if level.shape not in ((), (values.shape[1],)) or np.isnan(level).any():
        raise DataError(
            f"threshold must be a number, or one for each of the {values.shape[1]} labels, got "
            f"{threshold!r}."
        )
    chosen = values > level
    number = chosen.sum(1)
    wrong = np.flatnonzero((number < min_labels) | (number > cap))
    if len(wrong):
        # What is above the threshold goes before what is not, and each by its score: with one
        # threshold a label a higher score need not be chosen.
        order = _by_score(values[wrong])
        above = np.take_along_axis(chosen[wrong], order, 1)
        order = np.take_along_axis(order, np.argsort(~above, axis=1, kind="stable"), 1)
        chosen[wrong] = _first(order, np.clip(number[wrong], min_labels, cap))
    return chosen.astype(np.int64)


def apply_counts(scores: ArrayLike, counts: ArrayLike) -> NDArray[np.int64]:
    """Take as many labels of the highest scores as each row is said to have.

    Parameters
    ----------
    scores
        Shape ``(n, K)``, finite.
    counts
        Integers from 0 to K, shape ``(n,)`` or one for all rows.

    Returns
    -------
    numpy.ndarray
        0 or 1, int64, shape ``(n, K)``.

    Raises
    ------
    DataError
        If scores are no finite table, or a count is no integer from 0 to K.

    Examples
    --------
    >>> apply_counts([[0.9, 0.6, 0.8], [0.1, 0.3, 0.2]], [2, 1])
    array([[1, 0, 1],
           [0, 1, 0]])
    """
    values = _table(scores)
    numbers = np.asarray(counts)
    if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (len(values),)):
        raise DataError(
            f"counts must be integers, one for each of the {len(values)} rows of scores, got "
            f"{numbers.dtype} of shape {numbers.shape}."
        )
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) > values.shape[1]:
        raise DataError(
            f"counts must lie from 0 to the number of labels, {values.shape[1]}, got "
            f"{numbers.min()} to {numbers.max()}."
        )
    return _first(_by_score(values), np.broadcast_to(numbers, len(values))).astype(np.int64)


def choose_threshold(
    scores: ArrayLike,
    Y: Any,  # noqa: N803 (scikit-learn's name)
    rule: ThresholdRule = "micro",
    grid: ArrayLike | None = None,
    min_labels: int = 1,
    max_labels: int | None = None,
) -> float | NDArray[np.float64]:
    r"""Choose the threshold that maximises an F1 on held-out scores.

    Parameters
    ----------
    scores
        Shape ``(n, K)``, of rows that the scores were not learned from.
    Y
        Their labels, 0 or 1, shape ``(n, K)``, dense or sparse.
    rule
        ``"micro"``: one threshold for the best :func:`~sdlgm.estimators.metrics.micro_f1`;
        ``"macro"``: one for the best :func:`~sdlgm.estimators.metrics.macro_f1_harmonic`, both of
        the sets that :func:`apply_threshold` makes with this floor and cap; ``"per_label"``: for
        each label the threshold of its own best F1, before the floor and the cap. A label that no
        row has gets the ``"micro"`` threshold. ``"smoothed"``: the same of truths that are halfway
        between the labels and the scores, which must be probabilities: of rare labels, whose own
        F1 says little, the expected one has half a say.
    grid
        Thresholds to choose from. Default: for one threshold, 100 places between neighbouring
        scores, such that from a quarter to the triple of the labels in Y lie above them; for each
        label, all places between neighbouring scores.
    min_labels, max_labels
        As of :func:`apply_threshold`.

    Returns
    -------
    float or numpy.ndarray
        A number, or one a label ``(K,)``. Of equally good thresholds the highest is taken.

    Raises
    ------
    DataError
        If scores and labels are no tables of one shape, or the grid is empty or not finite.
    ConfigError
        If the rule is unknown, or floor and cap do not fit.
    """
    values, labels = _table(scores), _dense(Y)
    if labels.shape != values.shape:
        raise DataError(f"scores have shape {values.shape}, but Y has {labels.shape}.")
    if rule not in get_args(ThresholdRule):
        raise ConfigError(
            f"rule must be one of {', '.join(map(repr, get_args(ThresholdRule)))}, got {rule!r}."
        )
    _check_bounds(min_labels, max_labels, values.shape[1])
    tried = _grid(values, labels) if grid is None else np.unique(np.asarray(grid, np.float64))
    if tried.ndim != 1 or not len(tried) or not np.isfinite(tried).all():
        raise DataError(f"grid must hold at least one finite threshold, got {grid!r}.")
    metric = macro_f1_harmonic if rule == "macro" else micro_f1
    found = [metric(labels, apply_threshold(values, t, min_labels, max_labels)) for t in tried]
    one = float(tried[_last_best(np.array(found))])
    if rule in ("micro", "macro"):
        return one
    truths = labels.astype(np.float64)
    if rule == "smoothed":
        if values.min() < 0 or values.max() > 1:
            raise DataError(
                "rule='smoothed' takes scores for probabilities, but they go from "
                f"{values.min():g} to {values.max():g}."
            )
        truths = (truths + values) / 2
    each = [
        _best_of_label(column, truth, None if grid is None else tried) if truth.any() else one
        for column, truth in zip(values.T, truths.T, strict=True)
    ]
    return np.array(each)


def _best_of_label(
    scores: NDArray[np.float64], truth: NDArray[np.float64], grid: NDArray[np.float64] | None
) -> float:
    """Return the highest threshold of the best F1 = 2 TP / (P + T) of one label."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    tried = np.concatenate([ordered[:1] - 1, _between(ordered)]) if grid is None else grid
    below = np.searchsorted(ordered, tried, side="right")
    passed = np.concatenate([[0.0], np.cumsum(truth[order])])
    right = passed[-1] - passed[below]
    return float(tried[_last_best(2 * right / (len(scores) - below + passed[-1]))])


def _grid(scores: NDArray[np.float64], labels: NDArray[Any]) -> NDArray[np.float64]:
    ordered = np.sort(scores, axis=None)
    true = max(int((labels > 0).sum()), 1)
    above = np.unique(np.linspace(true / 4, 3 * true, CANDIDATES).astype(np.int64))
    place = len(ordered) - above[(above > 0) & (above < len(ordered))]
    if not len(place):
        return ordered[:1] - 1
    return np.unique((ordered[place - 1] + ordered[place]) / 2)


def _between(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the middles between neighbouring values that differ."""
    distinct = np.unique(ordered)
    return (distinct[:-1] + distinct[1:]) / 2


def _last_best(values: NDArray[np.float64]) -> int:
    return len(values) - 1 - int(np.argmax(values[::-1]))


def _by_score(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")


def _first(order: NDArray[np.int64], numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the first so many labels of each row's order."""
    chosen = np.zeros(order.shape, bool)
    wanted = np.arange(order.shape[1]) < numbers[:, None]
    np.put_along_axis(chosen, order, wanted, 1)
    return chosen


def _table(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or values.shape[1] < 1:
        raise DataError(f"scores must have shape (n, K), got {values.shape}.")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"scores must be finite, got {values[row, column]} at [{row}, {column}].")
    return values


def _dense(labels: Any) -> NDArray[Any]:
    values = np.asarray(labels.toarray() if issparse(labels) else labels)
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise DataError("Y must hold 0 and 1 only.")
    return values


def _check_bounds(low: int, high: int | None, labels: int) -> int:
    """Return the cap, ``labels`` for none."""
    for name, value in (("min_labels", low), ("max_labels", high)):
        if value is None and name == "max_labels":
            continue
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < 0:  # type: ignore[operator]
            raise ConfigError(f"{name} must be an integer of 0 or more, got {value!r}.")
    cap = labels if high is None else min(int(high), labels)
    if low > cap:
        raise ConfigError(
            f"min_labels = {low} exceeds what a row may have, {cap} (max_labels = {high}, "
            f"{labels} labels). Lower min_labels."
        )
    return cap
