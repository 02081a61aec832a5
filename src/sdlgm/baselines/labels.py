"""Constants and networks that multi-label classifiers are compared with."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.parameters import check_integer, check_number, check_widths, is_integer, plain
from sdlgm.estimators.set_prediction import BaseLabelClassifier
from sdlgm.estimators.targets import read_labels
from sdlgm.estimators.thresholds import apply_counts, apply_threshold
from sdlgm.estimators.validation import (
    validate_rows,
    validate_seed,
    validate_weights,
)

__all__ = ["ConstantLabels", "LabelBaseline", "MLPLabels"]


class LabelBaseline(BaseLabelClassifier):
    """A classifier that scores each label and predicts those above a threshold.

    Parameters
    ----------
    threshold
        A label is predicted if its ``predict_proba`` is above it; a number, or one for each label
        ``(K,)``.
    min_labels, max_labels
        Smallest and largest number of labels of a row, see
        :func:`~sdlgm.estimators.thresholds.apply_threshold`. ``min_labels=None``: the fewest labels
        of a training row.
    """

    threshold: Any = 0.5
    min_labels: int | None = None
    max_labels: int | None = None

    @abstractmethod
    def _fit(self, X: Any, Y: Any, sample_weight: NDArray[np.float64] | None) -> None:  # noqa: N803
        """Learn from checked data."""

    @abstractmethod
    def _proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return probabilities for checked rows."""

    @neutral()
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Learn from rows and their labels.

        Parameters
        ----------
        X
            Finite numbers ``(n, D)``, dense or CSR.
        y
            0 or 1, ``(n, K)``, dense, CSR or a frame; or a list or set of names for each row.
            Predictions are CSR if y is, otherwise dense.
        sample_weight
            Weight of each row, 0 or more, shape ``(n,)``.

        Raises
        ------
        DataError
            If X, y or the weights are not as described.
        """
        rows = validate_rows(self, X, reset=True, dtype=np.float64)
        table, names, unknown = read_labels(y, rows.shape[0])
        if unknown is not None:
            raise DataError(
                f"{type(self).__name__} takes no unknown labels (NaN). Use SDLGMClassifier or "
                "BudgetedClassifier, or leave out these rows."
            )
        labels = table.astype(np.int64)
        if not labels.nnz:
            raise DataError("No sample in Y has any label: there is nothing to learn.")
        weight, numbers = None, np.diff(labels.indptr)
        if sample_weight is not None:
            weight = validate_weights(sample_weight, rows.shape[0])
            numbers = numbers[weight > 0]
            weight = weight / weight.mean()
        check_integer("min_labels", self.min_labels, low=0, optional=True)
        self._set_labels(labels, y, names)
        self._set_min_labels(self.min_labels, numbers)
        self._fit(rows, self._as_fitted(labels), weight)
        return self

    @neutral()
    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each label, one array ``(n, K)``."""
        return self._proba(self._checked(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return scores ``(n, K)`` that rank the labels: here the probabilities."""
        return self.predict_proba(X)

    @neutral()
    def predict(self, X: Any) -> Any:  # noqa: N803
        """Predict labels: 0 or 1, ``(n, K)``, CSR if the training labels were sparse."""
        chosen = apply_threshold(
            self.predict_proba(X), self._level(), self.min_labels_, self.max_labels
        )
        return self._as_fitted(chosen)

    def _level(self) -> Any:
        return self.threshold

    def _checked(self, X: Any) -> Any:  # noqa: N803
        self._check_fitted()
        return validate_rows(self, X, reset=False, dtype=np.float64)


class ConstantLabels(LabelBaseline):
    """Predict the labels that are most frequent in training for every row.

    Parameters
    ----------
    number
        Number of labels, or ``"all"``.
    """

    def __init__(self, number: int | Literal["all"] = 1) -> None:
        self.number = number

    def _fit(self, X: Any, Y: Any, sample_weight: NDArray[np.float64] | None) -> None:  # noqa: N803
        number = self.number
        if number != "all" and not (is_integer(number) and 1 <= number <= self.n_labels_):
            raise ConfigError(
                f"number must lie from 1 to the number of labels, {self.n_labels_}, or be 'all', "
                f"got {self.number!r}."
            )
        weight = np.ones(Y.shape[0]) if sample_weight is None else sample_weight
        self.frequency_ = np.asarray(Y.T @ weight).ravel() / weight.sum()

    def _proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        return np.tile(self.frequency_, (X.shape[0], 1))

    def predict(self, X: Any) -> Any:  # noqa: N803
        """Predict the most frequent labels for every row."""
        number = self.n_labels_ if self.number == "all" else self.number
        return self._as_fitted(apply_counts(self.predict_proba(X), number))


class MLPLabels(LabelBaseline):
    """Average the probabilities of networks fitted by binary cross-entropy (scikit-learn).

    Inputs should have one scale, such as z-scores.

    Parameters
    ----------
    hidden, alpha, epochs, batch_size, learning_rate
        Widths of the hidden layers, strength of the L2 penalty, and settings of Adam:
        ``hidden_layer_sizes``, ``alpha``, ``max_iter``, ``batch_size`` and ``learning_rate_init``
        of ``MLPClassifier``.
    members
        Number of networks, with different initial weights.
    threshold, min_labels, max_labels
        See :class:`LabelBaseline`.
    random_state
        Source of initial weights and order.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (256,),
        *,
        alpha: float = 1.0,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        members: int = 3,
        threshold: Any = 0.5,
        min_labels: int | None = None,
        max_labels: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.hidden = hidden
        self.alpha = alpha
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.members = members
        self.threshold = threshold
        self.min_labels = min_labels
        self.max_labels = max_labels
        self.random_state = random_state

    def _fit(self, X: Any, Y: Any, sample_weight: NDArray[np.float64] | None) -> None:  # noqa: N803
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        for name in ("members", "epochs", "batch_size"):
            check_integer(name, getattr(self, name))
        check_widths("hidden", self.hidden)
        check_number("alpha", self.alpha)
        check_number("learning_rate", self.learning_rate, "positive")
        self.seed_ = validate_seed(self.random_state)
        weighted = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.networks_ = []
        for member in range(self.members):
            network = MLPClassifier(
                plain(tuple(self.hidden)),
                alpha=self.alpha,
                max_iter=self.epochs,
                batch_size=min(self.batch_size, X.shape[0]),
                learning_rate_init=self.learning_rate,
                random_state=(self.seed_ + member * 1_000_003) % 2**32,
                tol=0,
                n_iter_no_change=self.epochs,
            )
            with warnings.catch_warnings():
                # The number of epochs is a setting here, not a limit.
                warnings.simplefilter("ignore", ConvergenceWarning)
                self.networks_.append(network.fit(X, Y, **weighted))

    def _proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        mean = np.mean([network.predict_proba(X) for network in self.networks_], axis=0)
        # For a single label, scikit-learn returns the probabilities of 0 and of 1.
        return mean[:, 1:] if self.n_labels_ == 1 else mean
