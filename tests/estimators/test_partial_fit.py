"""Classifiers of label sets that are fitted to rows which come in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sdlgm.errors import ConfigError, DataError, SDLGMWarning
from sdlgm.estimators import SDLGMClassifier
from sdlgm.estimators.label_fitting import member_rows

SETTINGS: dict[str, Any] = {
    "members": 2, "folds": 2, "hidden": (16,), "dropout": 0.0, "input_dropout": 0.0,
    "learning_rate": 1e-2, "batch_size": 10, "inputs": "standard", "random_state": 0,
}  # fmt: skip
source = np.random.default_rng(0)
X = source.normal(size=(120, 3))
Y = (X > [0.0, 0.2, -0.2]).astype(int)
PARTS = [slice(0, 60), slice(60, 120)]


def new(**settings: Any) -> SDLGMClassifier:
    return SDLGMClassifier(**SETTINGS | settings)


def in_parts(model: SDLGMClassifier, passes: int = 1) -> SDLGMClassifier:
    for _ in range(passes):
        for part in PARTS:
            model.partial_fit(X[part], Y[part])
    return model


def test_passes_over_parts_teach_what_a_fit_teaches() -> None:
    model = in_parts(new(), passes=10)
    assert model.n_iter_ == len(model.history_) == 20
    assert model.history_[-1]["loss"] < 0.5 * model.history_[0]["loss"]
    assert model.score(X, Y) > 0.8


def test_the_same_calls_give_the_same_classifier_and_each_changes_it() -> None:
    one, two = in_parts(new()), in_parts(new())
    proba = one.predict_proba(X)
    np.testing.assert_array_equal(proba, two.predict_proba(X))
    assert (one.partial_fit(X[:60], Y[:60]).predict_proba(X) != proba).all()
    np.testing.assert_array_equal(two.predict_proba(X), proba)


def test_a_fit_can_be_continued_and_keeps_its_scaling() -> None:
    model = new(epochs=3).fit(X, Y)
    shift, seed = model.network_.scaling.shift, model.seed_
    model.partial_fit(X[:60] + 1, Y[:60])
    assert model.network_.scaling.shift is not None
    np.testing.assert_array_equal(model.network_.scaling.shift, shift)
    assert (model.n_iter_, model.seed_) == (4, seed)


def test_rows_that_come_again_are_left_out_by_the_same_members_in_another_order() -> None:
    model = in_parts(new())
    first, later = member_rows(model, 60), member_rows(model, 60, first_epoch=4)
    assert (first.held == later.held).all()
    assert (first.batch(0) != later.batch(0)).any()


def test_the_optimiser_continues_where_it_was() -> None:
    model = in_parts(new())
    before = model.network_.optimiser_state["state"][0]["step"]
    model.partial_fit(X[:60], Y[:60])
    assert model.network_.optimiser_state["state"][0]["step"] == 1.5 * before
    assert model.fit(X[:20], Y[:20]).network_.optimiser_state == {}


def test_labels_may_be_named_before_they_come() -> None:
    sets = [["a"] if row[0] else ["b"] for row in Y]
    model = new().partial_fit(X[:60], sets[:60], classes=["a", "b", "c"])
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.max_labels_ == 1
    model.partial_fit(X[60:], [["a", "c"]] * 60)
    assert (model.max_labels_, model.min_labels_) == (2, 1)
    with pytest.raises(DataError, match="unknown labels 'd'"):
        model.partial_fit(X[60:], [["d"]] * 60)
    one = new(threshold=0.5, folds=0).partial_fit(
        X[:60], np.array(["x", "y"] * 30), ["z", "y", "x"]
    )
    assert one.classes_.tolist() == ["x", "y", "z"]
    assert one.partial_fit(X[60:], np.array(["z"] * 60)).predict_proba(X).shape == (120, 3)
    with pytest.raises(DataError, match=r"unknown classes 'w'\. Known are 'x', 'y', 'z'"):
        one.partial_fit(X[60:], np.array(["w"] * 60))
    with pytest.raises(DataError, match="y has 3 labels, but the classifier knows 4"):
        new().partial_fit(X, Y, classes=range(4))


@pytest.mark.parametrize("weights", [False, True])
def test_rows_without_labels_lower_the_smallest_size_of_a_set(weights: bool) -> None:
    none = np.zeros_like(Y[60:])
    given = np.ones(60)
    if weights:  # a weight of 0 equals leaving the row out
        none[0, 0], given[0] = 1, 0
    model = new().partial_fit(X[:60], Y[:60] | [1, 0, 0])
    assert model.min_labels_ == 1
    largest = model.max_labels_
    model.partial_fit(X[60:], none, sample_weight=given)
    assert (model.min_labels_, model.max_labels_) == (0, largest)


def test_frames_are_encoded_as_by_the_first_part() -> None:
    frame = pd.DataFrame({"a": X[:, 0], "kind": ["p", "q"] * 60})
    model = new(mixed=True).partial_fit(frame[:60], Y[:60])
    with pytest.warns(SDLGMWarning, match="1 new in column 'kind', such as 'r'"):
        model.partial_fit(frame[60:].assign(kind="r"), Y[60:])
    assert model.get_feature_names().tolist() == ["a", "kind=p", "kind=q"]


def test_a_call_that_fails_changes_nothing() -> None:
    model = in_parts(new(max_labels=3))
    before, proba = dict(vars(model)), model.predict_proba(X)
    bad = X[:60].copy()
    bad[3, 1] = np.nan
    for x, y in ((bad, Y[:60]), (X[:60], Y[:60, :2]), (X[:1], Y[:1])):
        with pytest.raises((DataError, ConfigError)):
            model.partial_fit(x, y)
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())
    np.testing.assert_array_equal(model.predict_proba(X), proba)
    fresh = new()
    with pytest.raises(DataError):
        fresh.partial_fit(bad, Y[:60])
    assert not [name for name in vars(fresh) if name.endswith("_")]


def test_what_needs_all_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match="'balanced' needs all rows"):
        new(class_weight="balanced").partial_fit(X, Y)
    model = in_parts(new())
    with pytest.raises(ConfigError, match="members = 3, but the classifier was fitted with 2"):
        model.set_params(members=3).partial_fit(X, Y)


def test_a_saved_classifier_continues(tmp_path: Path) -> None:
    in_parts(new()).save(tmp_path / "model")
    model = SDLGMClassifier.load(tmp_path / "model").partial_fit(X, Y)
    assert model.n_iter_ == 3


def test_classes_of_later_calls_are_those_of_the_first() -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 2)), np.tile([[1, 0], [0, 1]], (10, 1))
    model = SDLGMClassifier(members=2, folds=2, hidden=(4,), random_state=0)
    model.partial_fit(x, y, classes=range(2)).partial_fit(x, y, classes=[1, 0])
    with pytest.raises(ConfigError, match="classes are 0, 1, 2, but the classifier was fitted on"):
        model.partial_fit(x, y, classes=range(3))
    with pytest.raises(DataError, match="classes has a label more than once: 0, 0"):
        SDLGMClassifier().partial_fit(x, y, classes=[0, 0])
