"""Forests of regression trees (scikit-learn), for counts and for labels."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from sdlgm.baselines.labels import LabelBaseline
from sdlgm.errors import ConfigError
from sdlgm.estimators.counting import BaseCounter
from sdlgm.estimators.parameters import check_integer
from sdlgm.estimators.validation import validate_seed

__all__ = ["ForestCounter", "ForestLabels"]

ForestKind = Literal["random", "extra"]
"""``"random"``: bootstrap samples, best splits; ``"extra"``: all samples, random splits."""


class ForestCounter(BaseCounter):
    """Predict expected counts by a forest of regression trees, the paper's baseline.

    Trees grown for the squared error have no likelihood of counts and keep no budget.

    Parameters
    ----------
    kind
        ``"random"`` (bootstrap samples, best splits) or ``"extra"`` (all samples, random splits).
    n_estimators, max_features, min_samples_leaf, n_jobs
        See scikit-learn's ``RandomForestRegressor`` and ``ExtraTreesRegressor``.
    budget
        See :class:`~sdlgm.estimators.SDLGMCounter`.
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
        budget: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int = 1,
    ) -> None:
        self.kind = kind
        self.n_estimators = n_estimators
        self.max_features = max_features
        self.min_samples_leaf = min_samples_leaf
        self.budget = budget
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Grow the trees on flattened samples."""
        inputs, counts, weights = self._fit_checked(X, y, sample_weight, self.budget)
        self.seed_ = validate_seed(self.random_state)
        self.forest_ = _make_forest(self, self.seed_)
        weighted = {} if sample_weight is None else {"sample_weight": weights.numpy()}
        self.forest_.fit(inputs.flatten(1).numpy(), counts.numpy(), **weighted)
        return self

    def predict_mean(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the mean over the trees, ``(n, K)``."""
        inputs = self._inputs(X)
        means = self.forest_.predict(inputs.flatten(1).numpy())
        return np.asarray(means, np.float64).reshape(len(inputs), self.n_classes_)


class ForestLabels(LabelBaseline):
    """Predict labels by one forest for all labels, or by one forest for each label.

    The trees are regression trees on 0 and 1. Their squared error is half the Gini impurity, summed
    over the labels, so that they equal classification trees, and their means are the shares of
    labels in the leaves, in one array.

    Parameters
    ----------
    kind
        ``"random"`` (bootstrap samples, best splits) or ``"extra"`` (all rows, random splits).
    n_estimators, max_features, min_samples_leaf, n_jobs
        See scikit-learn's ``RandomForestRegressor`` and ``ExtraTreesRegressor``.
    per_label
        Grow a separate forest for each label (binary relevance), which takes K times the work.
    threshold, min_labels, max_labels
        See :class:`LabelBaseline`.
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
        min_labels: int | None = None,
        max_labels: int | None = None,
        random_state: int | np.random.RandomState | None = None,
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
        self.seed_ = validate_seed(self.random_state)
        self.forests_ = []
        for label, part in enumerate(parts):
            forest = _make_forest(self, self.seed_ + label * 1_000_003)
            squeezed = part.ravel() if part.shape[1] == 1 else part
            self.forests_.append(forest.fit(X, squeezed, sample_weight))

    def _proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        parts = [forest.predict(X).reshape(X.shape[0], -1) for forest in self.forests_]
        return np.clip(np.hstack(parts), 0, 1)  # a mean of ones may be 1 + 2e-16


def _make_forest(estimator: ForestCounter | ForestLabels, seed: int) -> Any:
    """Return an unfitted forest of scikit-learn with the estimator's parameters."""
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

    kinds = {"random": RandomForestRegressor, "extra": ExtraTreesRegressor}
    if not isinstance(estimator.kind, str) or estimator.kind not in kinds:
        raise ConfigError(f"kind must be 'random' or 'extra', got {estimator.kind!r}.")
    for name in ("n_estimators", "min_samples_leaf"):
        check_integer(name, getattr(estimator, name))
    return kinds[estimator.kind](
        n_estimators=estimator.n_estimators,
        max_features=estimator.max_features,
        min_samples_leaf=estimator.min_samples_leaf,
        random_state=seed % 2**32,
        n_jobs=estimator.n_jobs,
    )
