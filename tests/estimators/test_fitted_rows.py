"""Predictions by the members that left rows out are those of the rows of the fit alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sdlgm import load
from sdlgm.errors import DataError, ModelFileError
from sdlgm.estimators import SDLGMClassifier

SETTINGS: dict[str, Any] = {
    "members": 2, "folds": 2, "hidden": (8,), "epochs": 2, "inputs": "standard", "random_state": 0,
}  # fmt: skip
source = np.random.default_rng(0)
X = source.normal(size=(40, 3)).astype(np.float32)
X[X < -0.5] = 0
Y = (X > [0.0, 0.2, -0.2]).astype(int)


@pytest.fixture(scope="module")
def model() -> SDLGMClassifier:
    return SDLGMClassifier(**SETTINGS).fit(X, Y)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (X[:20], "fitted on 40 rows, and X has 20 rows"),
        (X[::-1], "X has other values.*predict_proba"),
        (X + 1, "X has other values"),
        (sp.csr_array(X[::-1]), "X has other values"),
    ],
)
def test_rows_that_are_not_those_of_the_fit_are_refused(
    model: SDLGMClassifier, rows: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        model.predict_left_out(rows)


def test_the_rows_of_the_fit_may_come_in_another_form(model: SDLGMClassifier) -> None:
    found = model.predict_left_out(X)
    assert np.isfinite(found).all()
    for rows in (X.astype(float), np.where(X == 0, -0.0, X), X.tolist(), sp.csr_array(X)):
        np.testing.assert_allclose(model.predict_left_out(rows), found, atol=1e-6)
    sparse = SDLGMClassifier(**SETTINGS).fit(sp.csr_array(X), Y)
    np.testing.assert_allclose(
        sparse.predict_left_out(X), sparse.predict_left_out(sp.coo_array(X)), atol=1e-6
    )


def test_a_saved_classifier_knows_its_rows(model: SDLGMClassifier, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_left_out(X), model.predict_left_out(X))
    with pytest.raises(DataError, match="fitted on 40 rows"):
        loaded.predict_left_out(X[1:])


def test_parameters_that_are_set_after_the_fit_move_no_row_to_another_member(
    model: SDLGMClassifier, tmp_path: Path
) -> None:
    found = model.predict_left_out(X)
    model.save(tmp_path)
    changed = load(tmp_path).set_params(folds=4, members=3, threshold=0.5, calibrated=False)
    np.testing.assert_array_equal(changed.predict_left_out(X), found)


def test_rows_of_weight_0_are_not_rows_of_the_fit() -> None:
    weight = np.repeat([1.0, 0.0], 20)
    model = SDLGMClassifier(**SETTINGS).fit(X, Y, sample_weight=weight)
    assert np.isfinite(model.predict_left_out(X[:20])).all()
    with pytest.raises(DataError, match="fitted on 20 rows, and X has 40 rows"):
        model.predict_left_out(X)


def test_after_a_further_pass_its_rows_are_known() -> None:
    model = SDLGMClassifier(**SETTINGS).partial_fit(X[:20], Y[:20]).partial_fit(X[20:], Y[20:])
    assert np.isfinite(model.predict_left_out(X[20:])).all()
    with pytest.raises(DataError, match="X has other values"):
        model.predict_left_out(X[:20])


def test_rows_of_mixed_columns_are_known() -> None:
    frame = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 0, "high", "low")})
    model = SDLGMClassifier(**SETTINGS, mixed=True).fit(frame, Y)
    assert np.isfinite(model.predict_left_out(frame)).all()
    with pytest.raises(DataError, match="X has other values"):
        model.predict_left_out(frame.assign(b="low"))


def test_a_classifier_of_an_older_version_says_what_it_does_not_know() -> None:
    model = load(Path(__file__).parents[1] / "golden" / "classifier-2")
    with pytest.raises(ModelFileError, match="older version.*predict_proba"):
        model.predict_left_out(np.zeros((4, model.n_features_in_)))
