"""What all multi-label classifiers share: the checks, the decision and the score."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags

from sdlgm.errors import DataError
from sdlgm.estimators.label_checks import check_labels
from sdlgm.estimators.thresholds import apply_threshold
from sdlgm.estimators.validation import (
    EstimatorNotFittedError,
    validate_rows,
    validate_weights,
)

__all__ = ["MultilabelBaseline", "MultilabelClassifier"]


class MultilabelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """What a classifier can do once it can predict sets of labels."""

    n_features_in_: int
    """Number D of features."""
    n_labels_: int
    """Number K of labels."""
    sparse_labels_: bool
    """Whether the training labels were sparse, as predictions then are."""

    def __sklearn_tags__(self) -> Tags:
        """Say that y is a table of labels, and that X may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        return tags

    @abstractmethod
    def predict(self, X: Any) -> Any:  # noqa: N803
        """Predict labels: 0 or 1, ``(n, K)``, CSR if the training labels were."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Share of the rows whose labels are all right and complete (subset accuracy)."""
        predicted = csr_array(self.predict(X))
        labels = check_labels(y, predicted.shape[0])
        if predicted.shape != labels.shape:
            raise DataError(
                f"Y has {labels.shape[1]} labels, but the classifier was fitted on "
                f"{self.n_labels_}."
            )
        right = np.asarray((predicted != labels).sum(1)).ravel() == 0
        return float(np.average(right, weights=validate_weights(sample_weight, len(right))))

    def _remember(self, labels: Any, given: Any) -> None:
        """Keep what predictions need to know of checked labels, and of y as given."""
        self.n_labels_ = labels.shape[1]
        self.sparse_labels_ = bool(issparse(given))

    def _as_fitted(self, chosen: Any) -> Any:
        """Return a table as the training labels were: CSR or dense."""
        if self.sparse_labels_:
            return csr_array(chosen)
        return chosen.toarray() if issparse(chosen) else chosen

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_labels_"):
            name = type(self).__name__
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit(X, y) first.")


class MultilabelBaseline(MultilabelClassifier):
    """A classifier that scores each label, and takes those above a threshold.

    Parameters
    ----------
    threshold
        A label is taken if its ``predict_proba`` is above it; a number, or one a label ``(K,)``.
    min_labels, max_labels
        Floor and cap of the number of labels of a row, kept by their probabilities; ``max_labels =
        None`` for no cap.
    """

    threshold: Any = 0.5
    min_labels: int = 1
    max_labels: int | None = None

    @abstractmethod
    def _fit(self, X: Any, Y: Any, sample_weight: NDArray[np.float64] | None) -> None:  # noqa: N803
        """Learn from checked data."""

    @abstractmethod
    def _proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return probabilities for checked rows."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learn from rows and their labels.

        Parameters
        ----------
        X
            Finite numbers ``(n, D)``, dense or CSR.
        y
            0 or 1, ``(n, K)``, dense or CSR. If it is CSR, predictions are.
        sample_weight
            Weight of each row, 0 or more, shape ``(n,)``.

        Raises
        ------
        DataError
            If X, y or weights are not as said.
        """
        rows = validate_rows(self, X, reset=True, dtype=np.float64)
        labels = check_labels(y, rows.shape[0]).astype(np.int64)
        if not labels.nnz:
            raise DataError("No sample in Y has any label: there is nothing to learn.")
        weight = None
        if sample_weight is not None:
            weight = validate_weights(sample_weight, rows.shape[0])
            weight = weight / weight.mean()
        self._remember(labels, y)
        self.classes_ = np.arange(self.n_labels_)
        self._fit(rows, self._as_fitted(labels), weight)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each label, one array ``(n, K)``."""
        return self._proba(self._checked(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return scores ``(n, K)`` that labels are ranked by: here the probabilities."""
        return self.predict_proba(X)

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Predict labels: 0 or 1, ``(n, K)``, CSR if the training labels were."""
        chosen = apply_threshold(
            self.predict_proba(X), self._level(), self.min_labels, self.max_labels
        )
        return self._as_fitted(chosen)

    def _level(self) -> Any:
        return self.threshold

    def _checked(self, X: Any) -> Any:  # noqa: N803
        self._check_fitted()
        return validate_rows(self, X, reset=False, dtype=np.float64)
