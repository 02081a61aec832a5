"""The methods of all estimators that count the objects of each class in a sample."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, TargetTags
from torch import Tensor

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.frames import warn_of_other_order
from sdlgm.estimators.parameters import check_integer
from sdlgm.estimators.targets import check_counts
from sdlgm.estimators.validation import (
    EstimatorNotFittedError,
    check_same_shape,
    validate_samples,
    validate_weights,
)
from sdlgm.limits import MAX_BUDGET

__all__ = ["TOTALS_AT_ONCE", "BaseCounter", "check_totals"]

MOST_TOTALS = 2**27
"""Most probabilities of sums that are returned at once: 1 GiB."""
TOTALS_AT_ONCE = 2**22
"""Probabilities of sums that are computed at a time: 16 MiB in an array."""


class BaseCounter(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The methods of all counters: fit counts, predict them, and score the predictions."""

    def __sklearn_tags__(self) -> Tags:
        """Declare that y is a table of counts, and that X may be rows, sparse or not, or images.

        A counter has no ``estimator_type``: a classifier of scikit-learn would predict one class
        for each column, and a regressor real numbers.
        """
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        tags.target_tags = TargetTags(
            required=True, two_d_labels=True, multi_output=True, single_output=False
        )
        return tags

    @abstractmethod
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803 (scikit-learn's)
        """Learn from samples, their counts and weights."""

    @abstractmethod
    def predict_mean(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict expected counts, shape ``(n, K)``, which minimise the expected squared error."""

    def predict(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Predict whole counts, shape ``(n, K)``: the expected counts, rounded."""
        return np.rint(self.predict_mean(X)).astype(np.int64)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Return the share of samples for which :meth:`predict` gets all K counts right.

        If ``y`` of ``fit`` and this ``y`` are frames, columns are found by name, in any order.
        """
        warn_of_other_order(X, y=y, sample_weight=sample_weight)
        predicted = self.predict(X)
        names = getattr(self, "target_names_in_", None)
        counts, _ = check_counts(y, len(predicted), None, names)
        if counts.shape != predicted.shape:
            raise DataError(
                f"y has {counts.shape[1]} columns, but the counter was fitted on counts of "
                f"{predicted.shape[1]} classes."
            )
        weights = validate_weights(sample_weight, len(predicted))
        return float(np.average((predicted == counts.numpy()).all(1), weights=weights))

    def _fit_checked(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any,
        budget: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Check the training data, and set the fitted attributes that predictions need.

        Samples of weight 0 are dropped; the returned weights have a mean of 1.
        """
        check_integer("budget", budget, optional=True)
        if budget is not None and budget > MAX_BUDGET:
            raise ConfigError(
                f"The budget may be up to {MAX_BUDGET:,}, but budget is {budget:,}. Count in "
                "larger units."
            )
        warn_of_other_order(X, y=y, sample_weight=sample_weight)
        inputs = validate_samples(self, X, reset=True)
        weights = validate_weights(sample_weight, len(inputs))
        counts, names = check_counts(y, len(inputs), budget)
        self.__dict__.pop("target_names_in_", None)
        if names is not None:
            self.target_names_in_ = names
        _refuse_large_sums(counts, weights)
        kept = torch.from_numpy(weights > 0)
        inputs, counts = inputs[kept], counts[kept]
        weights = weights[weights > 0]
        self.budget_ = int(budget or max(1, int(counts.sum(1).max())))
        self.sample_shape_ = tuple(inputs.shape[1:])
        self.n_classes_ = counts.shape[1]
        return inputs, counts, torch.from_numpy(weights / weights.mean()).float()

    def _inputs(self, X: Any, column_width: int | None = None) -> Tensor:  # noqa: N803
        """Check samples to predict for."""
        if not hasattr(self, "sample_shape_"):
            name = type(self).__name__
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit(X, y) first.")
        inputs = validate_samples(self, X, reset=False)
        check_same_shape(inputs, self.sample_shape_, column_width)
        return inputs


def check_totals(rows: int, sums: int) -> None:
    """Raise :class:`ConfigError` if the probabilities of the sums of some rows are too many."""
    if rows * sums > MOST_TOTALS:
        raise ConfigError(
            f"predict_total would return {rows:,} rows of {sums:,} probabilities, one for each sum "
            f"from 0, which take {rows * sums * 8 / 1e9:.1f} GB. Predict up to "
            f"{MOST_TOTALS // sums:,} rows at a time, or count in larger units."
        )


def _refuse_large_sums(counts: Tensor, weights: NDArray[np.float64]) -> None:
    """Raise :class:`DataError` for the row with the largest sum, if it exceeds all budgets.

    Rows of weight 0 do not count.
    """
    sums = counts.double().sum(1).numpy() * (weights > 0)
    row = int(sums.argmax())
    if sums[row] > MAX_BUDGET:
        raise DataError(
            f"The counts of y[{row}] sum to {sums[row]:,.0f}, but a budget may be up to "
            f"{MAX_BUDGET:,}. Count in larger units."
        )
