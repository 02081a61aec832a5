"""Trees, networks and constants that multi-label classifiers are compared with."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sdlgm.baselines.forests import ForestKind, make_forest
from sdlgm.errors import ConfigError
from sdlgm.estimators.multilabel import MultilabelBaseline
from sdlgm.estimators.thresholds import apply_counts

__all__ = ["ConstantLabels", "ForestLabels", "MLPLabels"]


class ConstantLabels(MultilabelBaseline):
    """Predict the same for every row: the labels that are most frequent in training.

    Parameters
    ----------
    number
        How many, or ``"all"``.
    """

    def __init__(self, number: int | Literal["all"] = 1) -> None:
        self.number = number

    def _fit(self, X: Any, Y: Any, sample_weight: NDArray[np.float64] | None) -> None:  # noqa: N803
        whole = isinstance(self.number, int) and not isinstance(self.number, bool)
        if self.number != "all" and not (whole and 1 <= self.number <= self.n_labels_):
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


class ForestLabels(MultilabelBaseline):
    """A forest of trees for all labels at once, or one a label (scikit-learn).

    Regression trees on 0 and 1: their squared error is half the Gini impurity, summed over the
    labels, so that they are the classification trees, and their means the shares of labels in the
    leaves, in one array.

    Parameters
    ----------
    kind
        ``"random"`` (bootstrap, best splits) or ``"extra"`` (all rows, random splits).
    n_estimators, max_features, min_samples_leaf, n_jobs
        Of scikit-learn's forests.
    per_label
        Grow a forest for each label alone (binary relevance): K times the work.
    threshold, min_labels, max_labels
        Decision: see :class:`MultilabelBaseline`.
    random_state
        Source of samples and splits.
    """

    def __init__(
        self,
        kind: ForestKind = "random",
        *,
        n_estimators: int = 300,
        max_features: float | Literal["sqrt", "log2"] = "sqrt",
        min_samples_leaf: int = 1,
        per_label: bool = False,
        threshold: Any = 0.5,
        min_labels: int = 1,
        max_labels: int | None = None,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.kind = kind
        self.n_estimators = n_estimators
        self.max_features = max_features
        self.min_samples_leaf = min_samples_leaf
        self.per_label = per_label
        self.threshold = threshold
        self.min_labels = min_labels
        self.max_labels = max_labels
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _fit(self, X: Any, Y: Any, sample_weight: NDArray[np.float64] | None) -> None:  # noqa: N803
        target = np.asarray(Y.todense() if self.sparse_labels_ else Y, np.float64)
        parts = np.split(target, target.shape[1], axis=1) if self.per_label else [target]
        self.forests_ = []
        for label, part in enumerate(parts):
            forest = make_forest(
                self.kind,
                n_estimators=self.n_estimators,
                max_features=self.max_features,
                min_samples_leaf=self.min_samples_leaf,
                random_state=(self.random_state + label * 1_000_003) % 2**32,
                n_jobs=self.n_jobs,
            )
            squeezed = part.ravel() if part.shape[1] == 1 else part
            self.forests_.append(forest.fit(X, squeezed, sample_weight))

    def _proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        parts = [forest.predict(X).reshape(X.shape[0], -1) for forest in self.forests_]
        return np.clip(np.hstack(parts), 0, 1)  # a mean of ones may be 1 + 2e-16


class MLPLabels(MultilabelBaseline):
    """Networks under the binary cross-entropy (scikit-learn), their probabilities averaged.

    Inputs should be on one scale, such as z-scores.

    Parameters
    ----------
    hidden, alpha, epochs, batch_size, learning_rate
        Widths of the hidden layers, strength of the L2 penalty, and length and pace of Adam:
        ``hidden_layer_sizes``, ``alpha``, ``max_iter``, ``batch_size`` and ``learning_rate_init``
        of ``MLPClassifier``.
    members
        Networks, of different initial weights.
    threshold, min_labels, max_labels
        Decision: see :class:`MultilabelBaseline`.
    random_state
        Source of weights and order.
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
        min_labels: int = 1,
        max_labels: int | None = None,
        random_state: int = 0,
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

        if not isinstance(self.members, int) or self.members < 1:
            raise ConfigError(f"members must be a positive integer, got {self.members!r}.")
        weighted = {} if sample_weight is None else {"sample_weight": sample_weight}
        self.networks_ = []
        for member in range(self.members):
            network = MLPClassifier(
                self.hidden,
                alpha=self.alpha,
                max_iter=self.epochs,
                batch_size=min(self.batch_size, X.shape[0]),
                learning_rate_init=self.learning_rate,
                random_state=(self.random_state + member * 1_000_003) % 2**32,
                tol=0,
                n_iter_no_change=self.epochs,
            )
            with warnings.catch_warnings():
                # The number of epochs is a setting here, not a limit.
                warnings.simplefilter("ignore", ConvergenceWarning)
                self.networks_.append(network.fit(X, Y, **weighted))

    def _proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        mean = np.mean([network.predict_proba(X) for network in self.networks_], axis=0)
        # Of a single label scikit-learn gives the chances of 0 and of 1.
        return mean[:, 1:] if self.n_labels_ == 1 else mean
