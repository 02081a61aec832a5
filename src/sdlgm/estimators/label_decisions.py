"""How probabilities become sets: by a threshold, or as the sets that are best under the model.

A threshold is given, or chosen by a rule or a guarantee. Classifiers call these functions with
their parameter ``threshold``; the parts are in
:mod:`~sdlgm.estimators.thresholds`, :mod:`~sdlgm.estimators.guarantees` and
:mod:`~sdlgm.estimators.likely_sets`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.errors import ConfigError
from sdlgm.estimators.guarantees import Guarantee, RankedLabels, choose_guaranteed
from sdlgm.estimators.likely_sets import SetRule, likely_sets
from sdlgm.estimators.parameters import is_real
from sdlgm.estimators.set_sizes import SizeCorrection
from sdlgm.estimators.thresholds import (
    ThresholdRule,
    apply_threshold,
    best_columns,
    choose_threshold,
    leading,
    presence_probabilities,
    widen,
)

__all__ = [
    "Decision",
    "Threshold",
    "check_threshold",
    "choose_held_out",
    "decide",
    "decision_of",
    "holds_out",
    "is_split",
    "leaves_out",
    "refuse_guarantee_of_classes",
]

Threshold: TypeAlias = float | ThresholdRule | SetRule | Guarantee
"""What the parameter ``threshold`` of a classifier may be."""
Decision = Literal["threshold", "counts", "f1"]
"""What a fitted classifier does with probabilities."""
Block: TypeAlias = tuple[NDArray[np.float64], NDArray[Any]]
"""Probabilities and labels of some held-out rows, ``(b, K)`` each."""

MAX_PROBABILITIES = 100_000_000
"""Most held-out probabilities that are kept for a rule that needs all of them."""


def check_threshold(threshold: Any) -> None:
    """Raise :class:`ConfigError` unless it is a number, a rule or a guarantee."""
    if isinstance(threshold, Guarantee):
        return
    if isinstance(threshold, str):
        rules = (*get_args(ThresholdRule), *get_args(SetRule))
        if threshold not in rules:
            raise ConfigError(
                f"threshold must be a number, a guarantee such as RecallAtLeast(0.9), or one of "
                f"{', '.join(map(repr, rules))}, got {threshold!r}."
            )
    elif not is_real(threshold) or not 0 <= threshold <= 1:
        raise ConfigError(
            f"threshold must lie from 0 to 1, or be a rule or a guarantee, got {threshold!r}."
        )


def decision_of(threshold: Threshold) -> Decision:
    """Return what a classifier with this parameter does with probabilities."""
    return threshold if threshold in ("counts", "f1") else "threshold"


def is_split(threshold: Threshold) -> bool:
    """Return whether the threshold is a guarantee that has one fold of the rows for itself."""
    return isinstance(threshold, Guarantee) and threshold.held_out == "split"


def refuse_guarantee_of_classes(threshold: Threshold, multilabel: bool) -> None:
    """Raise :class:`ConfigError` for a guarantee about one class for each sample."""
    if isinstance(threshold, Guarantee) and not multilabel:
        raise ConfigError(
            f"{type(threshold).__name__} is a promise about sets of labels, but y holds one class "
            "for each sample. Pass a list or set of names for each sample, or a table of two or "
            "more labels; a table of one label as scipy.sparse.csr_array(y)."
        )


def holds_out(threshold: Threshold) -> bool:
    """Return whether the threshold is chosen on held-out rows."""
    return decision_of(threshold) == "threshold" and not is_real(threshold)


def leaves_out(threshold: Threshold, calibrated: bool) -> bool:
    """Return whether members leave out rows: for the threshold, or to correct sizes of sets."""
    return holds_out(threshold) or (calibrated and decision_of(threshold) == "counts")


def choose_held_out(
    blocks: Iterable[Block],
    threshold: Threshold,
    size: tuple[int, int],
    min_labels: int,
    max_labels: int,
    seed: int = 0,
) -> float | NDArray[np.float64]:
    """Choose the threshold on held-out rows, which come block by block.

    Parameters
    ----------
    blocks
        Probabilities of rows that they were not learned from, and their labels; NaN where unknown.
    threshold
        A rule or a guarantee.
    size
        Number of held-out rows, and number K of labels.
    min_labels, max_labels
        Smallest and largest size of a set.
    seed
        Seed of the order in which a guarantee looks at the rows.

    Raises
    ------
    ConfigError
        If the rule needs more probabilities at once than ``MAX_PROBABILITIES``, or the level of a
        guarantee cannot be reached.
    """
    if isinstance(threshold, Guarantee):
        ranked = [RankedLabels(*block, min_labels, max_labels) for block in blocks]
        return choose_guaranteed(RankedLabels.joined(ranked), None, threshold, seed=seed)
    if threshold != "micro" and size[0] * size[1] > MAX_PROBABILITIES:
        raise ConfigError(
            f"threshold={threshold!r} needs {size[0]} x {size[1]} probabilities at once. Use "
            "'micro', a guarantee or a number."
        )
    scores, targets = [], []
    for proba, target in blocks:
        narrow = threshold == "micro"
        score, truth = leading(proba, target, max_labels) if narrow else (proba, target)
        scores.append(score)
        targets.append(truth)
    width = max(part.shape[1] for part in scores)
    return choose_threshold(
        np.concatenate([widen(part, width) for part in scores]),
        np.concatenate([widen(part, width) for part in targets]),
        threshold,  # type: ignore[arg-type]  # a rule
        min_labels=min_labels,
        max_labels=max_labels,
    )


def decide(
    absences: Iterator[Tensor],
    decision: Decision,
    threshold: float | NDArray[np.float64],
    min_labels: int,
    max_labels: int,
    correction: SizeCorrection | None = None,
) -> sp.csr_array:
    """Return the sets of rows, 0 and 1, from log-absences ``(members, b, K)``, block by block.

    ``correction`` is that of the distribution of the number of labels.
    """
    parts = []
    for absent in absences:
        if decision == "threshold":
            proba = presence_probabilities(absent)
            parts.append(threshold_sets(proba, threshold, min_labels, max_labels))
        else:
            sets = likely_sets(absent, decision, min_labels, max_labels, correction)
            parts.append(sp.csr_array(sets))
    return sp.csr_array(sp.vstack(parts))


def threshold_sets(
    proba: Tensor, threshold: float | NDArray[np.float64], min_labels: int, max_labels: int
) -> sp.csr_array:
    """Apply a threshold to probabilities ``(b, K)``; return sets of labels, 0 and 1."""
    if np.ndim(threshold):
        return sp.csr_array(apply_threshold(proba.numpy(), threshold, min_labels, max_labels))
    # With one threshold, only the max_labels highest scores of a row can be selected.
    scores = proba.numpy()
    best = best_columns(scores, min(max_labels, proba.shape[1]))
    leading_scores = np.take_along_axis(scores, best, 1)
    chosen = apply_threshold(leading_scores, threshold, min_labels, max_labels)
    row, place = np.nonzero(chosen)
    columns = best[row, place]
    ones = np.ones(len(row), np.int64)
    return sp.csr_array((ones, (row, columns)), shape=tuple(proba.shape))
