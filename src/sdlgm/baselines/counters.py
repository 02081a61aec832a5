"""What :class:`SDLGMCounter` is compared with, in the same grammar."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sdlgm.baselines.forests import ForestKind, make_forest
from sdlgm.errors import ConfigError
from sdlgm.estimators.counter_base import Counter, NetworkCounter
from sdlgm.objectives.counts import Head, PoissonHead, SoftmaxHead

__all__ = ["ConstantCounter", "ForestCounter", "PoissonCounter", "SoftmaxCounter"]


class ConstantCounter(Counter):
    """Predict the same for every sample: the mean counts of the training data.

    Parameters
    ----------
    max_count
        As of :class:`SDLGMCounter`.
    """

    def __init__(self, max_count: int | None = None) -> None:
        self.max_count = max_count

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Take the means of y; X is only checked."""
        _, counts, weights = self._fit_checked(X, y, sample_weight, self.max_count)
        values, weight = counts.numpy(), weights.double().numpy()
        self.mean_ = np.average(values, axis=0, weights=weight)
        self.presence_ = np.average(values > 0, axis=0, weights=weight)
        totals = np.bincount(values.sum(1), weight, minlength=self.max_count_ + 1)
        self.total_ = totals / weight.sum()
        return self

    def predict_mean(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the mean counts of the training data, ``(n, K)``."""
        return self._repeat(X, "mean_")

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the training samples' share with at least one, ``(n, K)``."""
        return self._repeat(X, "presence_")

    def predict_total(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the training samples' law of the sum, ``(n, L0 + 1)``."""
        return self._repeat(X, "total_")

    def _repeat(self, X: Any, name: str) -> NDArray[np.float64]:  # noqa: N803
        number = len(self._inputs(X))
        return np.tile(getattr(self, name), (number, 1))


class ForestCounter(Counter):
    """A forest of regression trees (scikit-learn), the paper's baseline.

    It predicts expected counts only: trees grown for the squared error have no likelihood of
    counts, and keep no budget.

    Parameters
    ----------
    kind
        ``"random"`` (bootstrap, best splits) or ``"extra"`` (all samples, random splits).
    n_estimators, max_features, min_samples_leaf, n_jobs
        Of scikit-learn's ``RandomForestRegressor`` and ``ExtraTreesRegressor``.
    max_count
        As of :class:`SDLGMCounter`.
    random_state
        Source of samples and splits.
    """

    def __init__(
        self,
        kind: ForestKind = "random",
        *,
        n_estimators: int = 100,
        max_features: float | Literal["sqrt", "log2"] = 1.0,
        min_samples_leaf: int = 1,
        max_count: int | None = None,
        random_state: int = 0,
        n_jobs: int = 1,
    ) -> None:
        self.kind = kind
        self.n_estimators = n_estimators
        self.max_features = max_features
        self.min_samples_leaf = min_samples_leaf
        self.max_count = max_count
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Grow the trees on flattened samples."""
        inputs, counts, weights = self._fit_checked(X, y, sample_weight, self.max_count)
        self.forest_ = make_forest(
            self.kind,
            n_estimators=self.n_estimators,
            max_features=self.max_features,
            min_samples_leaf=self.min_samples_leaf,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
        )
        weighted = {} if sample_weight is None else {"sample_weight": weights.numpy()}
        self.forest_.fit(inputs.flatten(1).numpy(), counts.numpy(), **weighted)
        return self

    def predict_mean(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the mean over the trees, ``(n, K)``."""
        inputs = self._inputs(X)
        means = self.forest_.predict(inputs.flatten(1).numpy())
        return np.asarray(means, np.float64).reshape(len(inputs), self.n_classes_)


class _IndependentCounter(NetworkCounter):
    """A network whose classes know nothing of each other, and nothing of columns."""

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.encoder == "columns":
            raise ConfigError(
                f"{type(self).__name__} has one output a class and no slots for columns: use "
                "encoder='mlp' or 'conv'."
            )


class PoissonCounter(_IndependentCounter):
    """A network with an independent Poisson count for each class: no budget.

    Parameters are those of :class:`SDLGMCounter` but for ``slots``. In ``predict_total`` the last
    entry holds the budget and all that is over it.
    """

    def _make_head(self, features: int, budget: int) -> Head:
        return PoissonHead(features, budget)


class SoftmaxCounter(_IndependentCounter):
    """A network with an independent softmax over the counts ``0..L0`` for each class.

    Parameters are those of :class:`SDLGMCounter` but for ``slots``. In ``predict_total`` the last
    entry holds the budget and all that is over it.
    """

    def _make_head(self, features: int, budget: int) -> Head:
        return SoftmaxHead(features, budget)
