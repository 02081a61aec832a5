"""What all multi-label classifiers share: the checks, the decision and the score."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.base import BaseEstimator

from sdlgm.errors import DataError
from sdlgm.estimators._checks import EstimatorNotFittedError
from sdlgm.estimators.decisions import apply_threshold

__all__ = ["MultilabelBaseline"]


class MultilabelBaseline(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
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

    def fit(self, X: Any, Y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learn from rows and their labels.

        Parameters
        ----------
        X
            Finite numbers ``(n, D)``, dense or CSR.
        Y
            0 or 1, ``(n, K)``, dense or CSR. If it is CSR, predictions are.
        sample_weight
            Weight of each row, 0 or more, shape ``(n,)``.

        Raises
        ------
        DataError
            If X, Y or weights are not as said.
        """
        rows = _rows(X)
        labels = _labels(Y, rows.shape[0])
        weight = _weights(sample_weight, rows.shape[0])
        self.n_features_in_, self.n_labels_ = rows.shape[1], labels.shape[1]
        self.sparse_labels_ = bool(issparse(Y))
        self._fit(rows, labels, weight)
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

    def score(self, X: Any, Y: Any) -> float:  # noqa: N803
        """Share of the rows whose labels are all right and complete (subset accuracy)."""
        labels = _labels(Y, _rows(X).shape[0])
        predicted = csr_array(self.predict(X))
        if predicted.shape != labels.shape:
            raise DataError(
                f"Y has {labels.shape[1]} labels, but the classifier was fitted on "
                f"{self.n_labels_}."
            )
        wrong = predicted != csr_array(labels)
        return float((wrong.sum(1) == 0).mean())

    def _as_fitted(self, chosen: NDArray[np.int64]) -> Any:
        return csr_array(chosen) if self.sparse_labels_ else chosen

    def _level(self) -> Any:
        return self.threshold

    def _checked(self, X: Any) -> Any:  # noqa: N803
        if not hasattr(self, "n_features_in_"):
            name = type(self).__name__
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit(X, Y) first.")
        rows = _rows(X)
        if rows.shape[1] != self.n_features_in_:
            raise DataError(
                f"X has {rows.shape[1]} features, but the classifier was fitted on "
                f"{self.n_features_in_}."
            )
        return rows


def _rows(values: Any) -> Any:
    table: Any = csr_array(values, dtype=np.float64) if issparse(values) else np.asarray(values)
    if table.ndim != 2 or 0 in table.shape or table.dtype.kind not in "biuf":
        raise DataError(
            f"X must be rows of numbers (n, features), got {table.dtype} of shape {table.shape}."
        )
    finite = np.isfinite(table.data if issparse(table) else table)
    if not finite.all():
        raise DataError(f"X has {int((~finite).sum())} values that are not finite. Drop such rows.")
    if not issparse(table):
        return table.astype(np.float64)
    if max(table.nnz, *table.shape) < 2**31:  # scikit-learn's trees take no other indices
        table.indices, table.indptr = (
            part.astype(np.int32) for part in (table.indices, table.indptr)
        )
    return table


def _labels(values: Any, rows: int) -> Any:
    table = csr_array(values) if issparse(values) else np.asarray(values)
    if table.ndim != 2 or table.shape[0] != rows or table.shape[1] < 1:
        raise DataError(f"Y must be of shape ({rows}, K), a row for each of X, got {table.shape}.")
    found = table.data if issparse(table) else table
    if table.dtype.kind not in "biuf" or not np.isin(found, (0, 1)).all():
        raise DataError("Y must hold 0 and 1 only. For counts there is SDLGMCounter.")
    return table.astype(np.int64)


def _weights(values: Any, rows: int) -> NDArray[np.float64] | None:
    if values is None:
        return None
    weight = np.asarray(values, np.float64)
    if weight.shape != (rows,) or not (weight >= 0).all() or not 0 < weight.sum() < np.inf:
        raise DataError(
            f"sample_weight must be {rows} finite numbers of 0 or more, not all 0, got shape "
            f"{weight.shape}."
        )
    return weight
