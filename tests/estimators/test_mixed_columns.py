"""Frames with categories and missing values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy.sparse import csr_array
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import OneHotEncoder

from helpers import no_warning
from sdlgm import load
from sdlgm.errors import ConfigError, DataError, ModelFileError, SDLGMWarning
from sdlgm.estimators import BudgetedClassifier, RecallAtLeast, SDLGMClassifier
from sdlgm.estimators.label_fitting import member_rows
from sdlgm.estimators.mixed_columns import MixedColumns, MixedTable, read_mixed
from sdlgm.estimators.packing import pack, unpack
from sdlgm.export import export_classifier

SETTINGS: dict[str, Any] = {
    "mixed": True, "members": 2, "folds": 2, "epochs": 15, "hidden": (16,), "dropout": 0.0,
    "learning_rate": 2e-2, "input_dropout": 0.0, "random_state": 0,
}  # fmt: skip


def table(n: int = 60) -> pd.DataFrame:
    """Two columns of numbers, one with gaps; a truth value; text with a rare level and gaps."""
    source = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": source.normal(40, 9, n),
            "income": source.normal(size=n),
            "member": source.random(n) < 0.5,
            "colour": source.choice(["red", "green", "blue"], n),
            "size": pd.Categorical(source.choice(["large", "small"], n)),
        }
    )
    frame.loc[::7, "age"] = np.nan
    frame.loc[4:5, "colour"] = "mauve"
    frame.loc[6:12, "colour"] = None
    return frame


def labels(frame: pd.DataFrame) -> np.ndarray:
    return np.stack([frame.colour == "red", frame.member, frame.age > 40], 1).astype(int)


FRAME, LABELS = table(), labels(table())
NAMES = [
    "age", "income", "member", "age=missing", "colour=blue", "colour=green", "colour=missing",
    "colour=red", "colour=rare", "size=large", "size=small",
]  # fmt: skip


def fit(x: Any = FRAME, y: Any = LABELS, **settings: Any) -> SDLGMClassifier:
    return SDLGMClassifier(**SETTINGS | settings).fit(x, y)


def learned(frame: Any, mixed: Any = True) -> tuple[MixedColumns, MixedTable]:
    found = read_mixed(SDLGMClassifier(), frame, mixed)
    assert found is not None
    return MixedColumns.learn(found, np.ones(found.shape[0], bool)), found


# --- what networks read -----------------------------------------------------------------------


def test_the_numbers_are_those_of_transformers_of_scikit_learn() -> None:
    numbers, texts = ["age", "income", "member"], ["colour", "size"]
    own = FRAME.assign(size=FRAME["size"].astype(str), member=FRAME.member.astype(float))
    own = own.assign(colour=own.colour.fillna("missing").astype(object))
    encoder = OneHotEncoder(
        min_frequency=5, max_categories=100, handle_unknown="infrequent_if_exist"
    )
    reference = ColumnTransformer(
        [
            ("numbers", SimpleImputer(strategy="median", add_indicator=True), numbers),
            ("texts", encoder, texts),
        ],
        sparse_threshold=0,
    ).fit(own)
    columns, found = learned(FRAME)
    np.testing.assert_array_equal(columns(found), reference.transform(own))
    later = FRAME.assign(colour=["red", "pink"] * 30)
    with pytest.warns(SDLGMWarning, match=r"1 new in column 'colour', such as 'pink' \(30 rows\)"):
        ours = columns.read(fit(), later)
    theirs = reference.transform(own.assign(colour=later.colour.astype(object)))
    np.testing.assert_array_equal(ours, theirs)


def test_columns_keep_their_names() -> None:
    model = fit()
    assert model.get_feature_names().tolist() == NAMES
    assert model.n_features_in_ == 5
    assert model.feature_names_in_.tolist() == list(FRAME)
    assert model.feature_importance(FRAME, LABELS, repeats=1).index.isin(list(FRAME)).all()
    assert fit(FRAME[["income"]], LABELS).get_feature_names().tolist() == ["income"]


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas])
def test_other_frames_are_read_as_those_of_pandas_are(convert: Any) -> None:
    expected, found = learned(FRAME)
    columns, other = learned(convert(FRAME))
    np.testing.assert_array_equal(columns(other), expected(found))
    assert columns.encoded_names() == tuple(NAMES)


def test_whole_numbers_and_truth_values_are_the_same_levels_with_and_without_gaps() -> None:
    columns, found = learned(pd.DataFrame({"k": pd.Categorical([1, 2] * 5)}))
    same = pd.DataFrame({"k": [1.0, 2.0] * 5}).astype(object)
    with no_warning():
        read = read_mixed(SDLGMClassifier(), pd.DataFrame({"k": pd.Categorical(same.k)}), True)
        assert read is not None
        np.testing.assert_array_equal(columns(read), columns(found))
    flags, found = learned(
        pd.DataFrame({"b": pd.array([True, False, None] * 4, "boolean")}), "auto"
    )
    assert flags.encoded_names() == ("b", "b=missing")
    assert flags(found)[:3].tolist() == [[1, 0], [0, 0], [0.5, 1]]


def test_texts_that_equal_the_marks_of_missing_and_rare_levels_are_levels_of_their_own(
    tmp_path: Path,
) -> None:
    texts = ["missing", None, "rare", "'rare'", "red"]
    frame = pd.DataFrame({"meat": texts * 6 + ["odd"]})
    columns, found = learned(frame)
    names = ["''rare''", "'missing'", "'rare'", "missing", "red", "rare"]
    assert columns.encoded_names() == tuple(f"meat={name}" for name in names)
    marked = [names[place] for place in columns(found)[:5].argmax(1)]
    assert marked == ["'missing'", "missing", "'rare'", "''rare''", "red"]
    model = fit(frame, np.eye(6, dtype=int)[[0, 1, 2, 3, 4] * 6 + [5]], epochs=1)
    model.save(tmp_path / "model")
    with no_warning():
        proba = load(tmp_path / "model").predict_proba(frame)
    np.testing.assert_array_equal(proba, model.predict_proba(frame))
    assert len(np.unique(proba, axis=0)) == 6


def test_an_array_with_missing_values_is_read_if_it_is_said() -> None:
    x = FRAME[["age", "income"]].to_numpy()
    assert fit(x).get_feature_names().tolist() == ["x0", "x1", "x0=missing"]
    with pytest.raises(DataError, match="SimpleImputer"):
        fit(x, mixed="auto")
    objects = fit(FRAME.to_numpy())
    assert objects.predict(FRAME.to_numpy()[:4]).shape == (4, 3)


def test_the_scaling_suits_the_numbers_not_the_marks() -> None:
    many = table(800)
    assert fit(many, labels(many), epochs=1).inputs_ == "bins"
    assert fit(FRAME[["colour", "size"]], epochs=1).inputs_ == "standard"
    zeros = FRAME.assign(income=0.0, age=[1.0] + 59 * [0.0])[["age", "income", "colour"]]
    with pytest.warns(SDLGMWarning, match="income"):
        assert fit(zeros, epochs=1).inputs_ == "standard"


# --- fitting and predicting -------------------------------------------------------------------


def test_a_classifier_learns_from_categories_and_gaps() -> None:
    model = fit(epochs=60, members=4)
    assert model.score(FRAME, LABELS) > 0.8


def test_an_automatic_choice_is_said_once_and_numbers_change_nothing() -> None:
    with pytest.warns(SDLGMWarning) as said:
        model = fit(mixed="auto")
    assert len(said) == 1
    assert str(said[0].message).startswith(
        "X is encoded: 3 of 5 columns hold numbers; the classifier reads categories ('colour', "
        "'size') as 7 columns of 0 and 1 and missing numbers ('age') as the median and a mark."
    )
    assert said[0].filename == __file__
    with no_warning():
        np.testing.assert_array_equal(model.predict_proba(FRAME), fit().predict_proba(FRAME))
        plain = fit(FRAME[["income", "member"]], mixed="auto")
    assert plain.columns_ is None


def test_unknown_levels_are_said_once_in_each_prediction() -> None:
    model = fit()
    with pytest.warns(SDLGMWarning) as said:
        proba = model.predict_proba(FRAME.assign(colour="pink", income=np.nan))
    assert len(said) == 1
    text = str(said[0].message)
    assert "60 missing in column 'income'; 1 new in column 'colour', such as 'pink'" in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rare = model.predict_proba(FRAME.assign(colour="mauve", income=np.nan))
    np.testing.assert_array_equal(proba, rare)


@pytest.mark.filterwarnings("ignore:X. 1 of 7 columns")
def test_cross_validation_learns_columns_on_training_folds_only() -> None:
    frame = FRAME.assign(colour=["early"] * 30 + ["late"] * 30)
    with pytest.warns(SDLGMWarning, match="such as 'late'"):
        cross_val_predict(SDLGMClassifier(**SETTINGS), frame, LABELS, cv=2)


def test_rows_without_weight_and_rows_of_a_promise_teach_no_levels() -> None:
    weight = np.where(FRAME.colour == "mauve", 0.0, 1.0)
    with no_warning():
        kept = SDLGMClassifier(**SETTINGS).fit(FRAME, LABELS, sample_weight=weight)
    assert "colour=rare" not in kept.get_feature_names()
    own = FRAME.assign(income=np.arange(60.0))
    promise = RecallAtLeast(0.1, confidence=None)
    model = fit(own, threshold=promise, folds=2, inputs="standard")
    members = member_rows(model, 60)
    fitted = members.fitted
    assert fitted.sum() == 30
    assert model.columns_.medians[1] == np.median(own.income[fitted])
    expected = own.income[fitted].mean()
    np.testing.assert_allclose(model.network_.scaling.shift[1], expected)


def test_any_classifier_of_a_list_may_read_a_frame() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = BudgetedClassifier(SDLGMClassifier(**SETTINGS), folds=2, random_state=0)
        assert model.fit(FRAME, LABELS).predict(FRAME).shape == LABELS.shape


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": [f"row {k}" for k in range(60)]}, "60 different values.*TfidfVectorizer"),
        ({"age": pd.date_range("2020-01-01", periods=60)}, "X has dates or times"),
        ({"colour": [pd.Timestamp("2020-01-01")] * 60}, "X has dates or times"),
        ({"age": np.inf}, "infinite value in column 'age', row 0"),
        ({"age": 1j}, "complex numbers in column 'age'"),
        ({"colour": [[1, 2]] * 60}, "X has a list in column 'colour'"),
    ],
)
def test_columns_that_are_neither_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit(FRAME.assign(**change))


def test_what_does_not_fit_the_parameter_is_refused() -> None:
    with pytest.raises(DataError, match="X has text in column 'colour'"):
        fit(mixed=False)
    with pytest.raises(ConfigError, match="mixed must be 'auto', True or False"):
        fit(mixed="yes")
    with pytest.raises(ConfigError, match="Sparse rows hold only numbers"):
        fit(csr_array(np.eye(60)))


def test_later_frames_need_the_columns_of_the_first() -> None:
    model = fit()
    with pytest.raises(DataError, match="Feature names"):
        model.predict(FRAME.rename(columns={"age": "years"}))
    with pytest.raises(DataError, match="X has 'old' in column 'age', row 0.*numbers there"):
        model.predict(FRAME.assign(age="old"))
    with pytest.raises(DataError, match="at least one of each"):
        model.predict(FRAME[:0])
    with pytest.raises(DataError, match=r"in fit. Those of X\[estimator.feature_names_in_\] are"):
        model.predict(FRAME[FRAME.columns[::-1]])


@pytest.mark.parametrize("table", [FRAME, FRAME[["income", "member"]] * 1.0])
def test_columns_without_names_of_text_keep_their_order(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    width = table.shape[1]
    for names in (pd.RangeIndex(width), pd.MultiIndex.from_product([["a"], range(width)])):
        frame = table.set_axis(names, axis=1)
        fit(frame, epochs=1).save(tmp_path / str(type(names)))
        model = SDLGMClassifier.load(tmp_path / str(type(names)))
        with pytest.raises(DataError, match="X has the columns .*in this order"):
            model.predict(frame[frame.columns[::-1]])
        same = [frame, table.to_numpy(), frame.set_axis(map(str, frame.columns), axis=1)]
        if isinstance(names, pd.RangeIndex):
            same.append(frame.set_axis(names + 1, axis=1))  # their places in another frame
        for other in same:
            np.testing.assert_array_equal(model.predict(other), model.predict(frame))


def test_rows_with_gaps_are_told_of_the_parameter() -> None:
    rows = np.where(np.eye(60) > 0, np.nan, 1.0)
    for mixed in (False, "auto"):
        with pytest.raises(DataError, match="fills in NaN in dense rows with mixed=True"):
            fit(rows, mixed=mixed)


# --- files ------------------------------------------------------------------------------------


def test_a_saved_classifier_reads_the_same_frames(tmp_path: Path) -> None:
    model = fit()
    model.save(tmp_path / "model")
    loaded = SDLGMClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(FRAME), model.predict_proba(FRAME))
    assert loaded.get_feature_names().tolist() == NAMES
    assert loaded.columns_.describe() == model.columns_.describe()


@pytest.mark.parametrize(
    "change",
    [
        {"medians": np.zeros(4)},
        {"medians": np.full(5, np.nan)},
        {"gaps": np.ones(5)},
        {"gaps": np.ones(5, bool)},
        {"levels": (None,) * 5},
        {"rare": (None,) * 4},
        {"levels": (None, None, None, np.array([1, 2]), np.array(["1", "2"]))},
        {"names": np.array(["a"])},
        {"other": 1},
    ],
)
def test_damaged_columns_of_a_file_are_refused(change: dict[str, Any]) -> None:
    columns, _ = learned(FRAME)
    tensors: dict[str, Any] = {}
    restored = unpack(pack(columns, "columns", tensors), tensors)
    assert restored.encoded_names() == tuple(NAMES)
    with pytest.raises(ModelFileError, match="mixed columns"):
        MixedColumns.restore({**vars(columns), **change})


def test_onnx_refuses_mixed_columns(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mixed columns cannot be exported.*ColumnTransformer"):
        export_classifier(fit(), tmp_path / "model.onnx")
