"""The classifiers that are compared, each with its defaults and one rule for thresholds."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, StandardScaler

from sdlgm.estimators import BudgetedClassifier, SDLGMClassifier

__all__ = ["METHODS", "available"]

Maker = Callable[[int, int, bool, float], Any]
"""Makes a classifier from a seed, a maximum of labels, whether X is sparse, and a scale of size."""


def _ours(seed: int, most: int, sparse: bool, scale: float) -> Any:
    return _network(scale).set_params(max_labels=most, random_state=seed)


def _network(scale: float) -> SDLGMClassifier:
    """Return the classifier with its defaults, or with fewer epochs."""
    return SDLGMClassifier() if scale == 1 else SDLGMClassifier(epochs=_scaled(60, scale))


def _trees(scale: float) -> ExtraTreesClassifier:
    return ExtraTreesClassifier(_scaled(300, scale))


def _logistic(sparse: bool) -> Any:
    scaler = MaxAbsScaler() if sparse else StandardScaler()
    return make_pipeline(scaler, LogisticRegression(max_iter=1000))


def _wrapped(make: Callable[[bool, float], Any]) -> Maker:
    """Give a classifier the same bounds, thresholds and calibration as ours."""

    def maker(seed: int, most: int, sparse: bool, scale: float) -> Any:
        return BudgetedClassifier(make(sparse, scale), max_labels=most, random_state=seed)

    return maker


def _scaled(number: int, scale: float) -> int:
    return max(2, round(number * scale))


class TolerantLogistic(LogisticRegression):  # type: ignore[misc]  # untyped
    """A logistic regression that also takes labels which never vary, as chains meet them."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:  # noqa: N803
        """Fit, or predict the only value from then on."""
        if len(np.unique(y)) > 1:
            return super().fit(X, y, sample_weight)
        self.classes_ = np.array([0, 1])
        self.coef_ = np.zeros((1, X.shape[1]))
        self.intercept_ = np.array([20.0 if y[0] else -20.0])
        return self


def _chain(sparse: bool, scale: float) -> Any:
    scaler = MaxAbsScaler() if sparse else StandardScaler()
    return make_pipeline(
        scaler, ClassifierChain(TolerantLogistic(max_iter=1000), order="random", cv=3)
    )


def _mlp(sparse: bool, scale: float) -> Any:
    scaler = MaxAbsScaler() if sparse else StandardScaler()
    # No early stopping: it looks at the share of sets that are exactly right, often 0.
    return make_pipeline(scaler, MLPClassifier((128,), max_iter=_scaled(200, scale)))


def _lightgbm(sparse: bool, scale: float) -> Any:
    kind = importlib.import_module("lightgbm").LGBMClassifier
    return kind(n_estimators=_scaled(100, scale), verbose=-1, n_jobs=1)


def _catboost(sparse: bool, scale: float) -> Any:
    kind = importlib.import_module("catboost").CatBoostClassifier
    model = kind(
        iterations=_scaled(300, scale), verbose=0, thread_count=1, allow_writing_files=False
    )
    return (
        make_pipeline(FunctionTransformer(sp.csr_matrix, accept_sparse=True), model)
        if sparse
        else model
    )


def _tabpfn(sparse: bool, scale: float) -> Any:
    return importlib.import_module("tabpfn").TabPFNClassifier()


METHODS: dict[str, Maker] = {
    "sdlgm": _ours,
    "sdlgm + extra trees": _wrapped(lambda sparse, scale: [_network(scale), _trees(scale)]),
    "extra trees": _wrapped(lambda sparse, scale: _trees(scale)),
    "random forest": _wrapped(lambda sparse, scale: RandomForestClassifier(_scaled(300, scale))),
    "logistic": _wrapped(lambda sparse, scale: _logistic(sparse)),
    "chain": _wrapped(_chain),
    "mlp": _wrapped(_mlp),
    "lightgbm": _wrapped(_lightgbm),
    "catboost": _wrapped(_catboost),
    "tabpfn": _wrapped(_tabpfn),
}
"""Names, in the order of the table."""
_PACKAGES = ("lightgbm", "catboost", "tabpfn")


def available() -> list[str]:
    """Return the methods whose packages are installed."""
    return [
        name
        for name in METHODS
        if name not in _PACKAGES or importlib.util.find_spec(name) is not None
    ]
