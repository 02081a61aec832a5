"""The methods of classifiers that predict sets of labels with a minimum and a maximum size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from torch import Tensor

from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.frames import warn_of_other_order
from sdlgm.estimators.label_decisions import (
    Block,
    Decision,
    Threshold,
    check_threshold,
    choose_held_out,
    decide,
    decision_of,
    holds_out,
)
from sdlgm.estimators.label_reports import feature_importance, label_table
from sdlgm.estimators.likely_sets import size_probabilities
from sdlgm.estimators.metrics import micro_f1
from sdlgm.estimators.parameters import is_integer
from sdlgm.estimators.set_sizes import SizeCorrection, median_sizes
from sdlgm.estimators.targets import Labels, Targets, is_sets, read_labels, targets_of
from sdlgm.estimators.thresholds import (
    best_columns,
    class_probabilities,
    presence_probabilities,
)
from sdlgm.estimators.validation import EstimatorNotFittedError, as_array, validate_weights

__all__ = ["BaseLabelClassifier", "BudgetedPrediction"]


class BaseLabelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """The methods of all classifiers that predict sets of labels."""

    n_features_in_: int
    """Number D of features."""
    n_labels_: int
    """Number K of labels."""
    sparse_labels_: bool
    """Whether the training labels were sparse; predictions are sparse if they were."""
    classes_: NDArray[Any]
    """The labels: their names, or the numbers of their columns."""
    target_names_in_: NDArray[Any]
    """Names of the labels; only there if y was a frame, or sets of names."""
    min_labels_: int
    """Smallest number of labels of a predicted set."""

    def __sklearn_tags__(self) -> Tags:
        """Declare that y is a table of labels, and that X may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        return tags

    @abstractmethod
    def predict(self, X: Any) -> Any:  # noqa: N803 (scikit-learn's name)
        """Predict labels: 0 or 1, ``(n, K)``, CSR if the training labels were sparse."""

    def predict_sets(self, X: Any) -> list[set[Any]]:  # noqa: N803
        """Predict the set of labels of each row, by their names (``classes_``)."""
        predicted = self.predict(X)
        names = self.classes_.tolist()
        if predicted.ndim == 1:
            return [{name} for name in predicted.tolist()]
        table = sp.csr_array(predicted)
        parts = np.split(table.indices, table.indptr[1:-1])
        return [{names[place] for place in part.tolist()} for part in parts]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """Return the share of rows whose set of labels is exactly right (subset accuracy).

        Labels of y that are unknown (NaN) do not count. If ``y`` of ``fit`` had names and this
        ``y`` is a frame, its columns are found by name, in any order.
        """
        warn_of_other_order(X, y=y, sample_weight=sample_weight)
        predicted = sp.csr_array(self.predict(X))
        read = self._read_labels(y, predicted.shape[0])
        labels = read.table
        wrong = predicted != labels
        if read.unknown is not None:
            wrong = wrong > wrong.multiply(read.unknown)
        right = np.asarray(wrong.sum(1)).ravel() == 0
        return float(np.average(right, weights=validate_weights(sample_weight, len(right))))

    def _read_labels(self, y: Any, samples: int) -> Labels:
        """Return labels like those of ``fit`` as a table, columns in the same order."""
        names = getattr(self, "target_names_in_", None)
        labels = read_labels(y, samples, self.classes_ if is_sets(y) else names)
        if labels.table.shape[1] != self.n_labels_:
            raise DataError(
                f"Y has {labels.table.shape[1]} labels, but the classifier was fitted on "
                f"{self.n_labels_}."
            )
        return labels

    def _set_labels(self, labels: Any, given: Any, names: NDArray[Any] | None) -> None:
        """Set the fitted attributes of checked labels, and of y as it was given."""
        self.n_labels_ = labels.shape[1]
        self.sparse_labels_ = bool(sp.issparse(given))
        self.classes_ = np.arange(self.n_labels_) if names is None else names
        self.__dict__.pop("target_names_in_", None)
        if names is not None:
            self.target_names_in_ = names

    def _set_min_labels(self, min_labels: int | None, numbers: NDArray[np.int64]) -> None:
        """Set the fitted attribute: by default the fewest labels of a training row."""
        self.min_labels_ = int(numbers.min() if min_labels is None else min_labels)

    def _as_fitted(self, chosen: Any) -> Any:
        """Return a table in the format of the training labels: CSR or dense."""
        if self.sparse_labels_:
            return sp.csr_array(chosen)
        return chosen.toarray() if sp.issparse(chosen) else chosen

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_labels_"):
            name = type(self).__name__
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit(X, y) first.")


class BudgetedPrediction(BaseLabelClassifier):
    """Predictions from probabilities of absence: sets, probabilities, numbers of labels.

    A class fits, sets the fitted attributes below, and gives the probabilities
    (:meth:`_absences`).
    """

    max_labels: int | None
    min_labels: int | None
    threshold: Threshold

    max_labels_: int
    """Largest number of labels of a predicted set."""
    multilabel_: bool
    """Whether y was a table of labels rather than one class for each sample."""
    decision_: Decision
    """What :meth:`predict` does: ``"threshold"``, or the sets of a rule."""
    size_correction_: SizeCorrection | None
    """The correction of the distribution of the number of labels."""
    threshold_: float | NDArray[np.float64]
    """A number, or one for each label; 0 where no threshold is used."""
    seed_: int
    """The integer that seeded the fit."""

    @abstractmethod
    def _absences(self, X: Any) -> Iterator[Tensor]:  # noqa: N803
        """Yield log-probabilities of absence ``(members, b, K)`` of the rows, block by block."""

    @neutral()
    def predict(self, X: Any) -> NDArray[Any] | sp.csr_array:  # noqa: N803
        """Predict sets of labels, 0 and 1, shape ``(n, K)``: CSR if fitted on sparse labels.

        If y held one class for each sample: classes, shape ``(n,)``.
        """
        self._check_fitted()
        table = decide(
            self._absences(X),
            self.decision_,
            self.threshold_,
            self.min_labels_,
            self.max_labels_,
            self.size_correction_,
        )
        return self._as_fitted(table) if self.multilabel_ else self.classes_[table.indices]

    @neutral()
    def set_threshold(self, X: Any, y: Any, threshold: Threshold) -> Self:  # noqa: N803
        """Choose the threshold of the fitted classifier on other rows, without a second fit.

        Parameters
        ----------
        X, y
            Rows that the classifier was not fitted on, and their labels. A guarantee then holds
            exactly for rows like them, and loses no rows of the fit.
        threshold
            As the parameter of the class.

        Raises
        ------
        ConfigError
            If y of ``fit`` held one class for each sample, or the threshold is not valid, or the
            level of a guarantee cannot be reached.
        """
        self._check_fitted()
        check_threshold(threshold)
        warn_of_other_order(X, y=y)
        if not self.multilabel_:
            raise ConfigError("One class for each sample has no threshold.")
        proba = self.predict_proba(X)
        self._decide_by(threshold, [(proba, self._read_labels(y, len(proba)).values())], len(proba))
        self.threshold = threshold
        return self

    def label_report(self, X: Any, y: Any) -> Any:  # noqa: N803
        """Return a table with a row for each label, from rows and their labels: a pandas frame.

        Its columns are ``precision``, ``recall``, ``f1`` (NaN where there is nothing to count),
        ``support`` (rows that have the label), ``predicted``, ``expected`` (the sum of the
        probabilities, which is near the support if they are calibrated) and ``threshold``.

        Parameters
        ----------
        X, y
            Rows that the classifier was not fitted on, and their labels; NaN where unknown.
        """
        return label_table(self, X, y)

    def feature_importance(
        self,
        X: Any,  # noqa: N803
        y: Any,
        metric: Callable[[Any, Any], float] = micro_f1,
        repeats: int = 5,
    ) -> Any:
        """Return how much a metric loses if a feature is shuffled among the rows: a pandas frame.

        Its columns are ``importance``, the mean loss, and ``deviation``; the most important feature
        comes first.

        Parameters
        ----------
        X, y
            Dense rows that the classifier was not fitted on, and their labels.
        metric
            Maps labels and predictions, ``(n, K)`` each, to a number of which more is better.
        repeats
            Number of times that each feature is shuffled.
        """
        self._check_fitted()
        return feature_importance(self, X, y, metric, repeats, self.seed_ % 2**32)

    def read_table(self, y: Any, samples: int) -> NDArray[np.float64]:
        """Return labels as ``fit`` read them: 0, 1 and NaN, ``(samples, K)``."""
        if self.multilabel_:
            return self._read_labels(y, samples).values().astype(np.float64)
        classes = np.ravel(as_array(y, "y"))
        return targets_of(classes, samples, self.classes_).table.toarray().astype(np.float64)

    def predict_table(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Return :meth:`predict` as a dense table, ``(n, K)``, also of one class a sample."""
        predicted: Any = self.predict(X)
        if not self.multilabel_:
            return (predicted.reshape(-1, 1) == self.classes_).astype(np.int64)
        return np.asarray(predicted.toarray() if sp.issparse(predicted) else predicted)

    def _set_targets(self, targets: Targets, given: Any) -> None:
        """Set the fitted attributes of labels, but for the bounds of their number."""
        self.multilabel_ = targets.multilabel
        self._set_labels(targets.table, given, targets.names)
        self.classes_ = targets.classes

    def _bound_sets(
        self, targets: Targets, kept: NDArray[np.bool_], fitted: NDArray[np.bool_]
    ) -> None:
        """Set the bounds of the number of labels: those of the fitted rows, or the parameters.

        Raises
        ------
        DataError
            If no fitted row has a label, or a kept one, fitted or not, more than ``max_labels``.
        ConfigError
            If ``min_labels`` exceeds the largest size of a set.
        """
        if not self.multilabel_:
            self.max_labels_ = self.min_labels_ = 1
            return
        most = targets.most_labels(self.max_labels, kept, fitted)
        if not most:
            raise DataError("No sample in Y has any label: there is nothing to learn.")
        # No more than there are: tables of numbers of labels have this many columns.
        self.max_labels_ = min(int(self.max_labels or most), self.n_labels_)
        self._set_min_labels(self.min_labels, targets.numbers(fitted))
        if self.min_labels_ > self.max_labels_:
            raise ConfigError(
                f"min_labels = {self.min_labels} exceeds the most labels a sample may have: "
                f"max_labels = {self.max_labels_} of {self.n_labels_} labels."
            )

    def _widen_sets(
        self, targets: Targets, kept: NDArray[np.bool_], fitted: NDArray[np.bool_]
    ) -> None:
        """Let bounds that no parameter sets also hold for the numbers of labels of fitted rows.

        Raises
        ------
        DataError
            If a kept row has more than ``max_labels``.
        """
        if not self.multilabel_:
            return
        most = targets.most_labels(self.max_labels, kept, fitted)
        self.max_labels_ = min(max(self.max_labels_, self.max_labels or most), self.n_labels_)
        if self.min_labels is None:
            self.min_labels_ = min(self.min_labels_, int(targets.numbers(fitted).min()))

    def _decide_by(self, threshold: Threshold, held_out: Iterable[Block], rows: int) -> None:
        """Set how sets are chosen, from held-out probabilities and labels if it needs them."""
        self.decision_ = decision_of(threshold)
        self.threshold_ = 0.0
        if holds_out(threshold):
            size = rows, self.n_labels_
            self.threshold_ = choose_held_out(
                held_out, threshold, size, self.min_labels_, self.max_labels_, self.seed_
            )
        elif self.decision_ == "threshold":
            self.threshold_ = float(threshold)  # type: ignore[arg-type]  # a number

    @neutral()
    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the probability of each label, one array of shape ``(n, K)``.

        If y held one class for each sample, rows sum to 1.
        """
        return np.concatenate([proba.numpy() for proba in self._proba_blocks(X)])

    @neutral()
    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the natural logarithm of :meth:`predict_proba`; -inf where it is 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @neutral()
    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the log-odds of :meth:`predict_proba`, clipped to probabilities from 1e-12.

        If y held one of two classes for each sample: those of the second, shape ``(n,)``.
        """
        proba = np.clip(self.predict_proba(X), 1e-12, 1 - 1e-12)
        odds = np.log(proba) - np.log1p(-proba)
        return odds[:, 1] if not self.multilabel_ and self.n_labels_ == 2 else odds

    def score(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> float:  # noqa: N803
        """Return the share of rows whose set of labels is exactly right (subset accuracy)."""
        self._check_fitted()
        if self.multilabel_:
            return super().score(X, y, sample_weight)
        from sklearn.metrics import accuracy_score

        return float(accuracy_score(y, self.predict(X), sample_weight=sample_weight))

    @neutral()
    def predict_count_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the distribution of the number of labels, ``0..max_labels_``.

        It is the Poisson-binomial of each member's probabilities, truncated to ``min_labels`` and
        ``max_labels_`` and averaged over the members, and then corrected (``size_correction_``) if
        rows were left out of fits, see :mod:`~sdlgm.estimators.set_sizes`.
        """
        self._check_fitted()
        bounds = self.min_labels_, self.max_labels_
        parts = [
            size_probabilities(absent, *bounds, self.size_correction_)
            for absent in self._absences(X)
        ]
        return np.concatenate(parts)

    @neutral()
    def predict_counts(self, X: Any) -> NDArray[np.int64]:  # noqa: N803
        """Predict the number of labels, shape ``(n,)``: the median of its distribution.

        No other number has a smaller expected error. The most probable number is
        ``predict_count_proba(X).argmax(1)``.
        """
        return median_sizes(self.predict_count_proba(X))

    @neutral()
    def top_k(self, X: Any, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # noqa: N803
        """Return the k most probable labels, best first, and their probabilities: ``(n, k)`` each.

        No array of shape ``(n, K)`` is created.
        """
        self._check_fitted()
        if not is_integer(k) or not 1 <= k <= self.n_labels_:
            raise ConfigError(f"k must be an integer from 1 to {self.n_labels_}, got {k!r}.")
        labels, found = [], []
        for block in self._proba_blocks(X):
            proba = block.numpy()
            labels.append(best_columns(proba, int(k)))
            found.append(np.take_along_axis(proba, labels[-1], 1))
        return np.concatenate(labels), np.concatenate(found)

    def _proba_blocks(self, X: Any) -> Iterator[Tensor]:  # noqa: N803
        """Yield label probabilities ``(b, K)``, block by block."""
        self._check_fitted()
        for absent in self._absences(X):
            if self.multilabel_:
                yield presence_probabilities(absent)
            else:
                yield class_probabilities(absent)
