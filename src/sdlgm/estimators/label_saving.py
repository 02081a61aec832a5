"""Checks of the fitted attributes of a saved classifier that sets of labels are made with."""

from __future__ import annotations

from typing import get_args

import numpy as np

from sdlgm.errors import ModelFileError
from sdlgm.estimators.label_decisions import Decision
from sdlgm.estimators.saving import require_integer
from sdlgm.estimators.set_prediction import BudgetedPrediction
from sdlgm.estimators.set_sizes import SizeCorrection

__all__ = ["check_label_attributes"]


def check_label_attributes(classifier: BudgetedPrediction, where: str) -> None:
    """Check the labels, the bounds of sets and the threshold of a file; complete an older file.

    Raises
    ------
    ModelFileError
        If one is missing, of another type, or does not fit the number of labels.
    """
    require_integer(classifier, "n_labels_", where, low=1)
    require_integer(classifier, "max_labels_", where)
    classifier.max_labels_ = min(classifier.max_labels_, classifier.n_labels_)
    if not hasattr(classifier, "decision_"):  # in older files
        classifier.decision_ = "threshold"
    if not hasattr(classifier, "min_labels_"):  # in files of 0.1, whose parameter was never None
        multilabel = classifier.multilabel_
        classifier.min_labels_ = int(classifier.min_labels or 0) if multilabel else 1
    require_integer(classifier, "min_labels_", where)
    if not (_flags_fit(classifier) and _labels_fit(classifier) and _sizes_fit(classifier)):
        raise ModelFileError(
            f"{where} is damaged: threshold_, classes_, min_labels or size_correction_ do not fit "
            f"{classifier.n_labels_} labels."
        )


def _flags_fit(classifier: BudgetedPrediction) -> bool:
    decision: object = classifier.decision_
    return (
        isinstance(classifier.multilabel_, bool)
        and isinstance(classifier.sparse_labels_, bool)
        and isinstance(decision, str)
        and decision in get_args(Decision)
    )


def _sizes_fit(classifier: BudgetedPrediction) -> bool:
    values: object = getattr(classifier, "size_correction_", None)  # older files have none
    bounds = classifier.min_labels_, classifier.max_labels_
    classifier.size_correction_ = SizeCorrection.restore(values, *bounds)
    return values is None or classifier.size_correction_ is not None


def _labels_fit(classifier: BudgetedPrediction) -> bool:
    threshold, classes = np.asarray(classifier.threshold_), np.asarray(classifier.classes_)
    labels = (classifier.n_labels_,)
    return bool(
        threshold.dtype.kind in "fiu"
        and threshold.shape in ((), labels)
        and not np.isnan(threshold).any()
        and classes.shape == labels
        and classifier.min_labels_ <= classifier.n_labels_
    )
