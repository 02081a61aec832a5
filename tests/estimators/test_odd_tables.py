"""Tables as people have them: other orders, other types, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from helpers import no_warning
from sdlgm.errors import ConfigError, DataError, ModelFileError, SDLGMWarning
from sdlgm.estimators import BudgetedClassifier, RecallAtLeast, SDLGMClassifier, SDLGMCounter

SETTINGS: dict[str, Any] = {
    "members": 2,
    "folds": 2,
    "epochs": 1,
    "hidden": (4,),
    "random_state": 0,
}
SOURCE = np.random.default_rng(0)
X = SOURCE.normal(size=(40, 3))
Y = (X > 0.1).astype(int)


def classifier(**values: Any) -> SDLGMClassifier:
    return SDLGMClassifier(**{**SETTINGS, **values})


# --- order ------------------------------------------------------------------------------------


def test_rows_that_an_index_pairs_otherwise_are_warned_about() -> None:
    rows, labels = pd.DataFrame(X), pd.DataFrame(Y)
    other = labels.iloc[::-1]
    message = r"same index in another order.*y\.loc\[X\.index\]"
    model = classifier()
    fits: list[Any] = [model, BudgetedClassifier(LogisticRegression(), folds=2)]
    fits.append(SDLGMCounter(encoder="mlp", hidden=(4,), epochs=1, random_state=0))
    for each in fits:
        with pytest.warns(SDLGMWarning, match=message):
            each.fit(rows, other)
        with pytest.warns(SDLGMWarning, match=message):
            each.score(rows, other)
    for method in ("partial_fit", "label_report", "feature_importance"):
        with pytest.warns(SDLGMWarning, match=message):
            getattr(model, method)(rows, other)
    with pytest.warns(SDLGMWarning, match=message):
        model.set_threshold(rows, other, "micro")
    with pytest.warns(SDLGMWarning, match="X and sample_weight"):
        model.fit(rows, labels, pd.Series(np.ones(40)).iloc[::-1])


def test_indices_that_do_not_pair_rows_say_nothing() -> None:
    rows, labels = pd.DataFrame(X), pd.DataFrame(Y)
    with no_warning():
        classifier().fit(rows, labels.set_axis(range(1, 41)))
        classifier().fit(rows.iloc[::-1], labels.iloc[::-1])


def test_weights_of_labels_are_found_by_name() -> None:
    labels = pd.DataFrame(Y, columns=["a", "b", "c"])
    weights = pd.DataFrame(SOURCE.random((40, 3)) + 0.1, columns=["a", "b", "c"])
    model = classifier().fit(X, labels, weights)
    other = classifier().fit(X, labels, weights[["c", "a", "b"]])
    sparse = classifier().fit(X, labels, sp.csr_array(weights.to_numpy()))
    for same in (other, sparse):
        np.testing.assert_array_equal(same.predict_proba(X), model.predict_proba(X))
    with pytest.raises(DataError, match="sample_weight lacks 'c'"):
        classifier().fit(X, labels, weights[["a", "b"]])


def test_weights_of_a_column_of_pandas_belong_to_its_index() -> None:
    labels = pd.DataFrame(Y, columns=["a", "b", "c"])
    expected = classifier(class_weight={"c": 3, "a": 1, "b": 2}).fit(X, labels).predict_proba(X)
    for weights in (pd.Series([3, 1, 2], index=["c", "a", "b"]), pd.Series([1, 2, 3])):
        model = classifier(class_weight=weights).fit(X, labels)
        np.testing.assert_array_equal(model.predict_proba(X), expected)
    with pytest.raises(ConfigError, match="has the key 'd'"):
        classifier(class_weight=pd.Series([3], index=["d"])).fit(X, labels)


# --- types ------------------------------------------------------------------------------------


def test_stored_zeros_of_sparse_rows_do_not_matter() -> None:
    rows = sp.random_array((40, 30), density=0.05, format="csr", rng=SOURCE)
    stored = rows.copy()
    stored.data[::2] = 0
    plain = stored.copy()
    plain.eliminate_zeros()
    np.testing.assert_array_equal(
        classifier().fit(stored, Y).predict_proba(stored),
        classifier().fit(plain, Y).predict_proba(plain),
    )
    assert stored.nnz > plain.nnz


@pytest.mark.parametrize("model", [classifier(), BudgetedClassifier(LogisticRegression())])
def test_frames_that_are_not_computed_are_refused_with_a_cure(model: Any) -> None:
    frame = pl.DataFrame(X, schema=["a", "b", "c"])
    with pytest.raises(DataError, match=r"X is a LazyFrame.*X\.collect\(\)"):
        model.fit(frame.lazy(), Y)
    with pytest.raises(DataError, match=r"Y is a LazyFrame.*Y\.collect\(\)"):
        model.fit(X, frame.lazy())


def test_a_column_that_numpy_cannot_hold_is_named() -> None:
    frame = pl.DataFrame({"a": X[:, 0]}).with_columns(b=pl.lit(1).cast(pl.Int128))
    for mixed in (True, False):
        with pytest.raises(DataError, match="Int128 in column 'b'.*Cast"):
            classifier(mixed=mixed).fit(frame, Y)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.arange(40) + 2**60, "the integer 1152921504606846977 in column 'b', row 1"),
        (pd.array([2**60, None] * 20, "Int64"), "missing values and integers beyond 2.53 .* 'b'"),
        (np.full(40, 1e300), r"X has 1e\+300 in column 'b', row 0"),
        (pd.period_range("2020-01-01", periods=40, freq="D"), "dates or times .period.*'b'"),
    ],
)
def test_what_double_precision_would_change_is_refused_in_mixed_tables(
    column: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        classifier(mixed=True).fit(pd.DataFrame({"a": X[:, 0], "b": column}), Y)


def test_weights_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="sample_weight must hold numbers"):
        classifier().fit(X, Y, ["heavy"] * 40)


@pytest.mark.parametrize("kind", [pl.DataFrame, pa.table])
def test_features_of_any_frame_are_shuffled_by_name(kind: Any) -> None:
    columns = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]}
    frame = pd.DataFrame(columns)
    model = classifier().fit(frame, Y)
    expected = model.feature_importance(frame, Y, repeats=1)
    with no_warning():
        found = model.feature_importance(kind(columns), Y, repeats=1)
    pd.testing.assert_frame_equal(found, expected)


# --- labels -----------------------------------------------------------------------------------


def test_rows_may_all_be_without_names() -> None:
    names = [["a"] if row[0] else [] for row in Y]
    model = classifier().fit(X, names)
    assert model.score(X, [[]] * 40) == np.mean([not tags for tags in model.predict_sets(X)])
    assert model.label_report(X, [[]] * 40).support.tolist() == [0]
    with pytest.raises(DataError, match="No sample in Y has any label"):
        classifier().fit(X, [[]] * 40)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([{10**20}] * 40, "the name 100000000000000000000. Names may not be beyond 64 bits"),
        ([["a\0"], ["a"]] * 20, "null character"),
        (pd.DataFrame(Y, columns=["a\0", "a", "b"]), "Y has the name .*null character"),
        (sp.coo_array(Y[:, 0]), r"sparse, of shape \(40,\)"),
        (np.where(Y[:, :1] > 0, np.nan, 0), r"y\[\d+\] is missing.*csr_array"),
    ],
)
def test_labels_that_cannot_be_read_are_explained(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        classifier().fit(X, y)


def test_a_table_of_one_label_may_have_unknown_ones_and_a_promise() -> None:
    table = np.where(X[:, 2:] > 1, np.nan, Y[:, :1])
    promise = RecallAtLeast(0.1, confidence=None)
    model = classifier(threshold=promise).fit(X, sp.csr_array(table))
    assert model.predict(X).shape == (40, 1)
    with pytest.raises(ConfigError, match=r"table of one label as scipy\.sparse\.csr_array"):
        classifier(threshold=promise).fit(X, Y[:, :1])


def test_other_rows_need_the_labels_of_the_fit() -> None:
    model = classifier().fit(X, Y)
    for use in (
        lambda y: model.score(X, y),
        lambda y: model.set_threshold(X, y, "micro"),
        lambda y: model.label_report(X, y),
        lambda y: model.feature_importance(X, y),
    ):
        with pytest.raises(DataError, match="Y has 2 labels, but the classifier was fitted on 3"):
            use(Y[:, :2])
    single = classifier().fit(X, Y[:, 0])
    with pytest.raises(DataError, match="unknown classes 2"):
        single.label_report(X, 2 * Y[:, 0])


# --- texts ------------------------------------------------------------------------------------


def test_rows_of_texts_that_are_no_texts_are_named() -> None:
    model = BudgetedClassifier(LogisticRegression(), folds=2)
    with pytest.raises(DataError, match=r"X\[0\] is None, not a text"):
        model.fit([None, *["a word"] * 39], Y)
    model = classifier().fit(X, Y)
    with pytest.raises(ConfigError, match="features are columns"):
        model.feature_importance(["a word"] * 40, Y)


# --- files ------------------------------------------------------------------------------------


def test_a_drawn_seed_is_saved_as_the_integer_that_it_was(tmp_path: Path) -> None:
    model = classifier(random_state=np.random.RandomState(0)).fit(X, Y)
    with pytest.raises(ModelFileError, match=r"set_params\(random_state=estimator\.seed_\)"):
        model.save(tmp_path / "model")
    model.set_params(random_state=model.seed_).save(tmp_path / "model")
    again = SDLGMClassifier.load(tmp_path / "model").fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
