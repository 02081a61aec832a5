"""Ctrl-C during a fit: the current step is completed, and the estimator is not fitted."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from sdlgm.errors import DataError, TrainingError
from sdlgm.estimators import BudgetedClassifier, SDLGMClassifier, SDLGMCounter, SDLGMTransformer
from sdlgm.estimators.network_training import NetworkTask
from sdlgm.inference.linear import AdditiveSearch

X = np.random.default_rng(0).normal(size=(60, 4))
Y = (X[:, :3] > 0).astype(int)
SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 20, "progress": False, "hidden": (8,)}
ESTIMATORS = {
    "counter": lambda: SDLGMCounter(random_state=0, **SETTINGS),
    "classifier": lambda: SDLGMClassifier(random_state=0, members=5, **SETTINGS),
}


def stop_at(step: int, number: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Send a signal in the middle of a step; return the list of completed steps."""
    take, completed = NetworkTask.step, []

    def interrupted(self: NetworkTask, at: int) -> Any:
        if at == step:
            signal.raise_signal(number)
        term = take(self, at)
        completed.append(at)
        return term

    monkeypatch.setattr(NetworkTask, "step", interrupted)
    return completed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("fitted_before", [False, True])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_an_interrupted_fit_leaves_the_estimator_unfitted(
    kind: str, fitted_before: bool, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ESTIMATORS[kind]()
    if fitted_before:
        model.fit(X, Y)
    with monkeypatch.context() as patch:
        completed = stop_at(2, number, patch)
        with pytest.raises(KeyboardInterrupt, match=r"Stopped at step 3 of \d+. Nothing is kept"):
            model.fit(X, Y)
    assert completed == [0, 1, 2]
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        model.predict(X)
    assert model.fit(X, Y).predict(X).shape == Y.shape


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_fit_that_fails_leaves_the_estimator_unfitted(kind: str) -> None:
    model = ESTIMATORS[kind]().fit(X, Y)
    with pytest.raises(TrainingError):
        model.set_params(learning_rate=1e30, epochs=20).fit(X, Y)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        model.predict(X)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_ctrl_c_during_the_turns_of_search_leaves_the_transformer_unfitted(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, calls = AdditiveSearch.__call__, []

    def interrupted(self: AdditiveSearch, *args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return search(self, *args, **options)

    model = SDLGMTransformer(12, 4, turns=5, epochs=1, random_state=0)
    with monkeypatch.context() as patch:
        patch.setattr(AdditiveSearch, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            getattr(model, method)(X)
    assert len(calls) == 3
    with pytest.raises(NotFittedError):
        model.transform(X)
    codes = getattr(model, method)(X).transform(X)
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(AdditiveSearch, "__call__", interrupted)
        for _ in range(2):
            model.transform(X)
        with pytest.raises(KeyboardInterrupt):
            model.transform(X)
    assert np.array_equal(model.transform(X), codes)


def wrong_later(kind: str) -> tuple[Any, Any, Any]:
    """Return an estimator, rows of another width, and what is wrong with them."""
    if kind == "budgeted":
        return BudgetedClassifier(LogisticRegression(), folds=2), X[:, :2], 2 * Y
    return ESTIMATORS[kind](), X[:, :2], 0.5 * Y


@pytest.mark.parametrize("kind", [*ESTIMATORS, "budgeted"])
def test_data_that_are_refused_leave_the_fit_before(kind: str) -> None:
    model, rows, wrong = wrong_later(kind)
    before = model.fit(X, Y).predict(X)
    with pytest.raises(DataError):
        model.fit(rows, wrong)
    np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("fitted_before", [False, True])
def test_classifiers_that_fail_leave_no_mixture_of_two_fits(fitted_before: bool) -> None:
    model = BudgetedClassifier(LogisticRegression(), folds=2, random_state=0)
    if fitted_before:
        model.fit(X, Y)
    with pytest.raises(ValueError, match="NaN"):
        model.fit(np.full((60, 2), np.nan), Y)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_an_interrupted_classifier_of_others_is_not_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BudgetedClassifier(ESTIMATORS["classifier"](), folds=2, random_state=0).fit(X, Y)
    with monkeypatch.context() as patch:
        stop_at(2, signal.SIGINT, patch)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y[:, ::-1])
    with pytest.raises(NotFittedError):
        model.predict(X)
