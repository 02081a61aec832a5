"""Inputs of every kind, routed weights, pipelines, searches and pickles."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators import SDLGMClassifier, SDLGMCounter

SETTINGS = {"hidden": (8,), "epochs": 3, "batch_size": 16, "random_state": 0}
ESTIMATORS = {
    "classifier": SDLGMClassifier(members=2, folds=2, mixed=False, **SETTINGS),
    "counter": SDLGMCounter(**SETTINGS),
}
FORMATS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": np.ndarray.tolist,
    "pandas": lambda x: pd.DataFrame(x, columns=list("abcde")),
    "torch": torch.from_numpy,
    "objects": lambda x: x.astype(object),
    **{name: getattr(sp, name) for name in ("csr_matrix", "csr_array", "csc_matrix", "coo_array")},
    **{name: getattr(sp, name) for name in ("lil_array", "dok_array", "bsr_array", "dia_matrix")},
}
both = pytest.mark.parametrize("name", ESTIMATORS)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(0)
    x = source.normal(size=(70, 5))
    x[x < 0] = 0
    y = (x[:, :3] + 0.1 * source.normal(size=(70, 3)) > 0.2).astype(int)
    y[y.sum(1) == 0, 0] = 1
    return x, y


def not_centred(name: str) -> Any:
    """Return an estimator that does not centre its inputs, since "standard" leaves sparse ones."""
    model = clone(ESTIMATORS[name])
    return model.set_params(inputs="none") if name == "classifier" else model


@pytest.fixture(scope="module")
def expected(data: Any) -> dict[str, np.ndarray]:
    """Probabilities by estimators that get an array."""
    x, y = data
    return {name: not_centred(name).fit(x, y).predict_proba(x) for name in ESTIMATORS}


@both
@pytest.mark.parametrize("kind", FORMATS)
def test_inputs_of_every_kind_give_the_same_predictions(
    name: str, kind: str, data: Any, expected: dict[str, np.ndarray]
) -> None:
    x, y = data
    model, given = not_centred(name), FORMATS[kind](x)
    found = model.fit(given, y).predict_proba(given)
    np.testing.assert_array_equal(found, expected[name])
    assert model.n_features_in_ == 5


@both
def test_frames_of_polars_keep_their_names(name: str, data: Any) -> None:
    polars = pytest.importorskip("polars")
    x, y = data
    frame = polars.DataFrame(x, schema=list("abcde"))
    labels = pd.DataFrame(y, columns=["red", "green", "blue"])
    model = clone(ESTIMATORS[name]).fit(frame, labels)
    expected = clone(model).fit(x, y).predict_proba(x)
    np.testing.assert_array_equal(model.predict_proba(frame), expected)
    assert list(model.feature_names_in_) == list("abcde")
    if name == "classifier":
        assert list(model.classes_) == ["red", "green", "blue"]
    with pytest.raises(DataError, match="feature names should match"):
        model.predict(frame.rename({"a": "z"}))


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.coo_array, torch.from_numpy, pd.DataFrame])
def test_labels_of_every_kind_give_the_same_predictions(make: Any, data: Any) -> None:
    x, y = data
    expected = clone(ESTIMATORS["classifier"]).fit(x, y)
    model = clone(expected).fit(x, make(y))
    np.testing.assert_array_equal(model.predict_proba(x), expected.predict_proba(x))
    assert model.score(x, make(y)) == expected.score(x, y)


def test_one_class_for_each_sample_is_learned(data: Any) -> None:
    x, y = data
    names = np.array(["red", "green", "blue"])[y.argmax(1)]
    longer = SETTINGS | {"epochs": 60, "learning_rate": 0.01, "dropout": 0.0, "input_dropout": 0.0}
    model = SDLGMClassifier(members=2, folds=2, **longer)
    model.fit(x, names)
    assert list(model.classes_) == ["blue", "green", "red"]
    assert not model.multilabel_
    proba = model.predict_proba(x)
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_array_equal(model.predict(x), model.classes_[proba.argmax(1)])
    assert model.score(x, names) == (model.predict(x) == names).mean() > 0.8
    assert (model.predict_counts(x) == 1).all()
    table = model.fit(x, y)
    assert table.multilabel_
    assert table.predict(x).shape == y.shape


@both
def test_a_weight_of_zero_equals_leaving_the_sample_out(name: str, data: Any) -> None:
    x, y = data
    weight = np.r_[np.full(50, 2.0), np.zeros(20)]
    model = clone(ESTIMATORS[name]).fit(x, y, sample_weight=weight)
    fewer = clone(model).fit(x[:50], y[:50])
    np.testing.assert_array_equal(model.predict_proba(x), fewer.predict_proba(x))
    weight[0] = 50.0
    heavy = clone(model).fit(x, y, sample_weight=weight).predict_proba(x)
    assert (heavy != model.predict_proba(x)).any()
    share = np.average((model.predict(x) == y).all(1), weights=weight)
    assert model.score(x, y, sample_weight=weight) == pytest.approx(share)


@both
def test_sample_weights_are_routed_through_pipelines(name: str, data: Any) -> None:
    x, y = data
    weight = np.random.default_rng(1).random(70)
    with config_context(enable_metadata_routing=True):
        model = clone(ESTIMATORS[name])
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        grid = {model.__class__.__name__.lower() + "__epochs": [1, 3]}
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        search = GridSearchCV(make_pipeline(scaler, model), grid, cv=2)
        search.fit(x, y, sample_weight=weight)
        best = clone(search.best_estimator_).fit(x, y, sample_weight=weight)
    np.testing.assert_array_equal(search.predict_proba(x), best.predict_proba(x))
    without = clone(search.best_estimator_).fit(x, y)
    assert (without.predict_proba(x) != best.predict_proba(x)).any()


@both
def test_several_jobs_give_the_same_scores(name: str, data: Any) -> None:
    one, two = (cross_val_score(ESTIMATORS[name], *data, cv=2, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one, two)


@both
def test_it_works_behind_a_column_transformer(name: str, data: Any) -> None:
    x, y = data
    frame = pd.DataFrame(x, columns=list("abcde")).assign(kind=np.where(x[:, 0] > 0, "p", "q"))
    columns = make_column_transformer(
        (StandardScaler(), list("abcde")), (OneHotEncoder(), ["kind"]), sparse_threshold=0
    )
    piped = make_pipeline(columns.set_output(transform="default"), clone(ESTIMATORS[name]))
    assert piped.fit(frame, y).predict(frame).shape == y.shape
    assert piped[-1].n_features_in_ == 7


@both
def test_fitted_estimators_can_be_pickled(name: str, data: Any) -> None:
    x, y = data
    model = clone(ESTIMATORS[name]).fit(x, y)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    for copy in (pickle.loads(pickle.dumps(model)), joblib.load(file)):  # noqa: S301
        np.testing.assert_array_equal(copy.predict_proba(x), model.predict_proba(x))


@pytest.mark.parametrize("scoring", ["f1_micro", "average_precision", "roc_auc", "accuracy"])
def test_scorers_accept_dense_and_sparse_labels(scoring: str, data: Any) -> None:
    x, y = data
    scores = cross_val_score(ESTIMATORS["classifier"], x, y, cv=2, scoring=scoring)
    assert np.isfinite(scores).all()
    if scoring in ("f1_micro", "accuracy"):
        scorer, labels = get_scorer(scoring), sp.csr_array(y)
        dense = clone(ESTIMATORS["classifier"]).fit(x, y)
        sparse = clone(dense).fit(x, labels)
        assert sp.issparse(sparse.predict(x))
        assert scorer(sparse, x, labels) == scorer(dense, x, y)


@both
def test_random_state_follows_the_conventions_of_scikit_learn(name: str, data: Any) -> None:
    x, y = data

    def proba(state: Any) -> np.ndarray:
        return clone(ESTIMATORS[name]).set_params(random_state=state).fit(x, y).predict_proba(x)

    np.testing.assert_array_equal(proba(3), proba(np.int64(3)))
    first = proba(np.random.RandomState(3))
    np.testing.assert_array_equal(first, proba(np.random.RandomState(3)))
    fresh = clone(ESTIMATORS[name]).set_params(random_state=None).fit(x, y)
    np.testing.assert_array_equal(fresh.predict_proba(x), proba(fresh.seed_))
    assert (proba(None) != fresh.predict_proba(x)).any()
    with pytest.raises(ConfigError, match="random_state must be"):
        proba("seed")


@both
def test_a_single_row_is_predicted_as_in_a_batch(name: str, data: Any) -> None:
    x, y = data
    model = clone(ESTIMATORS[name]).fit(x, y)
    alone = np.concatenate([model.predict_proba(row[None]) for row in x])
    np.testing.assert_allclose(alone, model.predict_proba(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, np.nan]] * 4, r"first \(nan\) at \[0, 1\]: NaN and inf"),
        (pd.DataFrame({"a": ["x"] * 4}), "X has text in column 'a', the first 'x'.*OneHotEncoder"),
        ([[1.0], [1.0, 2.0]], "inhomogeneous"),
        (np.full((4, 2), 1e200), r"first \(inf, or a number"),
        (torch.ones(4, 2).to_sparse(), "Sparse tensors are not accepted"),
        (np.ma.masked_equal([[1, 9], [1, 2]] * 2, 9), r"first \(nan\) at \[0, 1\]: NaN and inf"),
        (np.ones((4, 2), complex), "Complex data not supported$"),
    ],
)
@both
def test_bad_inputs_are_refused(name: str, x: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        clone(ESTIMATORS[name]).fit(x, np.eye(4, dtype=int))


def test_columns_in_another_order_are_refused_with_the_cure() -> None:
    frame = pd.DataFrame(np.eye(4), columns=list("abcd"))
    model = clone(ESTIMATORS["counter"]).fit(frame, np.eye(4, dtype=int))
    with pytest.raises(DataError, match=r"same order.*X\[estimator.feature_names_in_\]"):
        model.predict(frame[["b", "a", "c", "d"]])


@both
def test_an_invalid_sparse_table_is_refused(name: str) -> None:
    table = sp.csr_array(np.eye(4))
    table.indices[2] = 9
    with pytest.raises(DataError, match="not a valid sparse table"):
        clone(ESTIMATORS[name]).fit(table, np.eye(4, dtype=int))
