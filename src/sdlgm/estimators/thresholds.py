"""From probabilities of labels to sets of labels: a threshold, a minimum and a maximum number.

The first functions are pure and take dense scores ``(n, K)`` of any scale: only their order and
their comparison with the threshold matter. The others work on blocks of probabilities, without a
table of all. Ties are broken in favour of the lower column.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.frames import by_name
from sdlgm.estimators.metrics import dense_labels, macro_f1_harmonic, micro_f1
from sdlgm.estimators.parameters import check_choice, check_integer

__all__ = [
    "ThresholdRule",
    "apply_counts",
    "apply_threshold",
    "best_columns",
    "choose_threshold",
    "class_probabilities",
    "count_probabilities",
    "leading",
    "presence_probabilities",
    "widen",
]

ThresholdRule = Literal["micro", "macro", "per_label", "smoothed"]

CANDIDATES = 100
"""Number of thresholds to try if no grid is given."""


def apply_threshold(
    scores: ArrayLike,
    threshold: float | ArrayLike,
    min_labels: int = 1,
    max_labels: int | None = None,
) -> NDArray[np.int64]:
    """Select between ``min_labels`` and ``max_labels`` labels with scores above the threshold.

    Parameters
    ----------
    scores
        Shape ``(n, K)``, finite.
    threshold
        A number, or one for each label ``(K,)``. A score equal to it is not above it.
    min_labels
        Rows with fewer labels get those of the next highest scores.
    max_labels
        Rows with more labels keep those of the highest scores; ``None`` for no maximum.

    Returns
    -------
    numpy.ndarray
        0 or 1, int64, shape ``(n, K)``.

    Raises
    ------
    DataError
        If scores are not a finite table, or there is not one threshold for each label.
    ConfigError
        If ``0 <= min_labels <= max_labels`` does not hold, or ``min_labels`` exceeds K.

    Examples
    --------
    >>> scores = [[0.9, 0.6, 0.8], [0.1, 0.3, 0.2]]
    >>> apply_threshold(scores, 0.5, min_labels=1, max_labels=2)
    array([[1, 0, 1],
           [0, 1, 0]])
    """
    values = _check_scores(scores)
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
        # Labels above their threshold come first, then by score: with one threshold for each label,
        # a label with a higher score may be below its threshold.
        order = _by_score(values[wrong])
        above = np.take_along_axis(chosen[wrong], order, 1)
        order = np.take_along_axis(order, np.argsort(~above, axis=1, kind="stable"), 1)
        chosen[wrong] = _first(order, np.clip(number[wrong], min_labels, cap))
    return chosen.astype(np.int64)


def apply_counts(scores: ArrayLike, counts: ArrayLike) -> NDArray[np.int64]:
    """Select a given number of labels for each row: those with the highest scores.

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
        If scores are not a finite table, or a count is not an integer from 0 to K.

    Examples
    --------
    >>> apply_counts([[0.9, 0.6, 0.8], [0.1, 0.3, 0.2]], [2, 1])
    array([[1, 0, 1],
           [0, 1, 0]])
    """
    values = _check_scores(scores)
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
    r"""Choose the threshold that maximises an F1 score on held-out rows.

    Parameters
    ----------
    scores
        Shape ``(n, K)``, of rows that the scores were not learned from.
    Y
        Their labels, 0 or 1, shape ``(n, K)``, dense or sparse; NaN where unknown. What is unknown
        does not count. Of two frames, columns are matched by name.
    rule
        ``"micro"``: one threshold with the best :func:`~sdlgm.estimators.metrics.micro_f1`;
        ``"macro"``: one with the best :func:`~sdlgm.estimators.metrics.macro_f1_harmonic`, both of
        the sets that :func:`apply_threshold` returns with these ``min_labels`` and ``max_labels``;
        ``"per_label"``: for each label the threshold with its best F1, regardless of
        ``min_labels`` and ``max_labels``; a label without positive rows gets the ``"micro"``
        threshold. ``"smoothed"``: as ``"per_label"``, but targets are averaged 50/50 with the
        predicted probabilities, so that the thresholds of rare labels vary less.
    grid
        Candidate thresholds. Default: for one threshold, 100 midpoints between neighbouring scores
        that leave a quarter to three times the number of labels in Y above them; for each label,
        all midpoints between neighbouring scores.
    min_labels, max_labels
        See :func:`apply_threshold`.

    Returns
    -------
    float or numpy.ndarray
        A number, or one for each label ``(K,)``; the highest of equally good thresholds.

    Raises
    ------
    DataError
        If scores and labels are not tables of one shape, or the grid is empty or not finite.
    ConfigError
        If the rule is unknown, or ``min_labels`` and ``max_labels`` do not fit.
    """
    values, labels = _check_scores(by_name(Y, scores, "scores")), dense_labels(Y)
    if labels.shape != values.shape:
        raise DataError(f"scores have shape {values.shape}, but Y has {labels.shape}.")
    check_choice("rule", rule, get_args(ThresholdRule))
    _check_bounds(min_labels, max_labels, values.shape[1])
    tried = _grid(values, labels) if grid is None else np.unique(np.asarray(grid, np.float64))
    if tried.ndim != 1 or not len(tried) or not np.isfinite(tried).all():
        raise DataError(f"grid must hold at least one finite threshold, got {grid!r}.")
    metric = macro_f1_harmonic if rule == "macro" else micro_f1
    found = [metric(labels, apply_threshold(values, t, min_labels, max_labels)) for t in tried]
    best = float(tried[_last_best(np.array(found))])
    if rule in ("micro", "macro"):
        return best
    targets = _smoothed(labels, values) if rule == "smoothed" else labels.astype(np.float64)
    grid = None if grid is None else tried
    each = [
        _best_of_label(column[known], target[known], grid) if target[known].any() else best
        for column, target, known in zip(values.T, targets.T, ~np.isnan(targets.T), strict=True)
    ]
    return np.array(each)


def _smoothed(labels: NDArray[Any], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    if probabilities.min() < 0 or probabilities.max() > 1:
        raise DataError(
            "rule='smoothed' needs scores that are probabilities, but they range from "
            f"{probabilities.min():g} to {probabilities.max():g}."
        )
    return (labels + probabilities) / 2


def _best_of_label(
    scores: NDArray[np.float64], target: NDArray[np.float64], grid: NDArray[np.float64] | None
) -> float:
    """Return the highest threshold with the best F1 = 2 TP / (P + T) of one label."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    tried = np.concatenate([ordered[:1] - 1, _midpoints(ordered)]) if grid is None else grid
    below = np.searchsorted(ordered, tried, side="right")
    passed = np.concatenate([[0.0], np.cumsum(target[order])])
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


def _midpoints(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the midpoints between neighbouring distinct values."""
    distinct = np.unique(ordered)
    return (distinct[:-1] + distinct[1:]) / 2


def _last_best(values: NDArray[np.float64]) -> int:
    return len(values) - 1 - int(np.argmax(values[::-1]))


def _by_score(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")


def _first(order: NDArray[np.int64], numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the first ``numbers`` labels of each row's order."""
    chosen = np.zeros(order.shape, bool)
    wanted = np.arange(order.shape[1]) < numbers[:, None]
    np.put_along_axis(chosen, order, wanted, 1)
    return chosen


def _check_scores(scores: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or values.shape[1] < 1:
        raise DataError(f"scores must have shape (n, K), got {values.shape}.")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"scores must be finite, got {values[row, column]} at [{row}, {column}].")
    return values


def _check_bounds(min_labels: int, max_labels: int | None, labels: int) -> int:
    """Return the largest number of labels of a row."""
    check_integer("min_labels", min_labels, low=0)
    check_integer("max_labels", max_labels, low=0, optional=True)
    cap = labels if max_labels is None else min(int(max_labels), labels)
    if min_labels > cap:
        raise ConfigError(
            f"min_labels = {min_labels} exceeds the most labels a row may have, {cap} (max_labels "
            f"= {max_labels}, {labels} labels). Lower min_labels."
        )
    return cap


# --- blocks of probabilities ------------------------------------------------------------------


def presence_probabilities(absent: Tensor) -> Tensor:
    """Return label probabilities ``(b, K)``, the mean over members, from log-absences."""
    return -torch.expm1(absent.double()).mean(0)


def class_probabilities(absent: Tensor) -> Tensor:
    """Return probabilities ``(b, K)`` of one class for each sample: those of labels, normalised."""
    present = presence_probabilities(absent).clamp_min(1e-30)
    return present / present.sum(-1, keepdim=True)


def count_probabilities(absent: Tensor, min_labels: int, max_labels: int) -> Tensor:
    r"""Return the distribution of the number of labels, truncated to ``min_labels..max_labels``.

    The labels of a member are independent given the sample, so that their number is
    Poisson-binomial. Its probabilities are built label by label in ``O(K max_labels)``, in float64.

    Parameters
    ----------
    absent
        Log-probabilities of absence, shape ``(*batch, K)``.

    Returns
    -------
    Tensor
        Shape ``(*batch, max_labels + 1)``.
    """
    absent = absent.double()
    none, one = absent.exp().unsqueeze(-1), -torch.expm1(absent).unsqueeze(-1)
    probs = none.new_zeros(*absent.shape[:-1], max_labels + 1)
    probs[..., 0] = 1
    for label in range(absent.shape[-1]):
        more = probs[..., :-1] * one[..., label, :]
        probs = probs * none[..., label, :]
        probs[..., 1:] += more
    probs[..., :min_labels] = 0
    total = probs.sum(-1, keepdim=True)
    # If the bounds are so far off that the total underflows, the nearer bound has all the mass.
    expected = one.squeeze(-1).sum(-1)
    nearer = torch.where(expected < min_labels, min_labels, max_labels)
    end = torch.nn.functional.one_hot(nearer.long(), max_labels + 1).to(probs)
    return torch.where(total > 1e-250, probs / total.clamp_min(1e-300), end)


def leading(
    proba: NDArray[np.float64], target: NDArray[Any], cap: int
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Narrow a block to its ``cap`` best scores, and as many columns as labels they miss.

    With one threshold and this cap, predictions and missed labels are those of the whole table.
    """
    cap = min(cap, proba.shape[1])
    order = best_columns(proba, cap)
    hits = np.take_along_axis(target, order, 1)
    missed = (np.nansum(target, 1) - np.nansum(hits, 1)).astype(np.int64)
    rest = (np.arange(missed.max(initial=0)) < missed[:, None]).astype(target.dtype)
    best = np.take_along_axis(proba, order, 1)
    return np.hstack([best, np.zeros(rest.shape)]), np.hstack([hits, rest])


def best_columns(proba: NDArray[np.float64], cap: int) -> NDArray[np.int64]:
    """Return the columns of the ``cap`` best scores of each row, the best first, ``(n, cap)``.

    Of equal scores, the lower columns come first.
    """
    width = proba.shape[1]
    if 4 * cap >= width:
        return _by_score(proba)[:, :cap]
    lowest = torch.from_numpy(proba).topk(cap).values[:, -1:].numpy()
    chosen = proba >= lowest
    for row in np.flatnonzero(chosen.sum(1) > cap):  # ties: the lower columns
        ties = np.flatnonzero(proba[row] == lowest[row])
        chosen[row, ties[cap - int((proba[row] > lowest[row]).sum()) :]] = False
    columns = np.nonzero(chosen)[1].reshape(len(proba), cap)
    order = _by_score(np.take_along_axis(proba, columns, 1))
    return np.take_along_axis(columns, order, 1)


def widen(table: NDArray[Any], width: int) -> NDArray[Any]:
    """Append columns of zeros up to a width."""
    return np.pad(table, ((0, 0), (0, width - table.shape[1])))
