"""Classifiers of one class a sample, fitted once for each label, and what others cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import StackingClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _num_samples, has_fit_parameter

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.frames import shown

__all__ = [
    "OnePerLabel",
    "explain_constant",
    "has_probabilities",
    "probabilities",
    "refuse_tables_only",
    "refuse_without_weights",
]


class OnePerLabel(BaseEstimator):  # type: ignore[misc]  # untyped
    """One clone of a classifier for each label, fitted to the rows where the label is known.

    A label that never varies keeps its value; one that is never known is absent.
    """

    def __init__(self, estimator: Any, n_jobs: int | None = None) -> None:
        self.estimator = estimator
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: NDArray[Any], sample_weight: Any = None) -> Self:  # noqa: N803
        """Fit a clone to each column of y that has zeros and ones."""
        self.estimators_ = Parallel(self.n_jobs)(
            delayed(self._fit_label)(X, column, sample_weight) for column in y.T
        )
        return self

    def _fit_label(self, X: Any, column: NDArray[Any], weight: Any) -> Any:  # noqa: N803
        """Return a fitted clone, or the only value of the label."""
        known = np.flatnonzero(column == column)  # not NaN
        if (column[known] == column[known[:1]]).all():
            return float(column[known[0]]) if len(known) else 0.0
        own = {} if weight is None else {"sample_weight": weight[known]}
        return clone(self.estimator).fit(
            _safe_indexing(X, known), column[known].astype(np.int64), **own
        )

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each label, ``(n, K)``."""
        columns = [
            np.full(_num_samples(X), each)
            if isinstance(each, float)
            else _of_presence(each.predict_proba(X), each.classes_)
            for each in self.estimators_
        ]
        return np.stack(columns, 1)


def _of_presence(proba: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the probability of class 1, which may be the only class, or none of them."""
    place = np.flatnonzero(np.asarray(classes) == 1)
    return proba[:, place[0]] if len(place) else np.zeros(len(proba))


def has_probabilities(model: Any) -> bool:
    """Return whether a classifier has ``predict_proba``, at the latest when it is fitted."""
    if isinstance(model, Pipeline):
        return has_probabilities(model.steps[-1][1])
    if isinstance(model, StackingClassifier):  # which asks the last one, once it is fitted
        return model.final_estimator is None or has_probabilities(model.final_estimator)
    return hasattr(model, "predict_proba")


def probabilities(
    model: Any, rows: Any, labels: int, classes: NDArray[Any] | None
) -> NDArray[np.float64]:
    """Return the probabilities ``(n, K)`` of a classifier, in whichever form it gives them.

    Of one class a sample, ``classes`` are all of them; those of no fitted row have probability 0.
    """
    proba = model.predict_proba(rows)
    if isinstance(proba, list):  # one table (n, classes) for each label
        columns = [_of_presence(*pair) for pair in zip(proba, model.classes_, strict=True)]
        return np.stack(columns, 1)
    proba = np.asarray(proba, np.float64)
    if classes is not None and proba.shape[1] < labels:
        known = np.isin(classes, model.classes_)
        proba = np.where(known, proba[:, (known.cumsum() - 1).clip(0)], 0.0)
    if labels == 1 and proba.shape[1] == 2:
        proba = proba[:, 1:]
    if proba.shape[1] != labels:
        raise DataError(
            f"{type(model).__name__} gives probabilities of {proba.shape[1]} labels, not {labels}."
        )
    return proba


def _inner(model: Any) -> Any:
    """Return the classifier that a user passed."""
    return model.estimator if isinstance(model, OnePerLabel) else model


def refuse_tables_only(models: Sequence[Any], why: str) -> None:
    """Raise :class:`ConfigError` for a classifier that takes nothing but whole tables of labels."""
    for model in models:
        if not get_tags(model).target_tags.single_output:
            inner = type(getattr(model, "estimator", model)).__name__
            raise ConfigError(
                f"{type(model).__name__} takes only tables of known labels, but {why}. Pass the "
                f"classifier within it ({inner}), which is then fitted once for each label."
            )


def refuse_without_weights(models: Sequence[Any]) -> None:
    """Raise :class:`ConfigError` for a classifier that takes no weights."""
    for model in map(_inner, models):
        if not has_fit_parameter(model, "sample_weight"):
            raise ConfigError(
                f"{type(model).__name__} takes no sample_weight. Leave the weights out, or pass a "
                "classifier whose fit has them as a parameter (scale X outside of a pipeline)."
            )


def explain_constant(model: Any, y: NDArray[Any], classes: NDArray[Any], error: ValueError) -> None:
    """Raise :class:`DataError` if a classifier may have failed because a label never varies."""
    constant = classes[np.nanmin(y, axis=0) == np.nanmax(y, axis=0)]
    if len(constant) and not isinstance(model, OnePerLabel):
        raise DataError(
            f"{type(model).__name__} cannot be fitted to {len(y)} rows: {error} If the reason is "
            f"that some labels never vary ({shown(constant)}), drop labels of few rows, "
            "use fewer folds, or pass the classifier within it, which is then fitted once for each "
            "label."
        ) from error
