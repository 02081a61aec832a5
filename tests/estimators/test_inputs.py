"""What estimators accept, and what they say about what they do not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch

from helpers import no_warning
from sdlgm.baselines import (
    ConstantCounter,
    ConstantLabels,
    ForestLabels,
    LinearLabels,
    MLPLabels,
    PoissonCounter,
)
from sdlgm.errors import ConfigError, DataError, SDLGMWarning
from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer

CLASSIFIER: dict[str, Any] = {
    "hidden": (16,), "members": 2, "folds": 2, "epochs": 40, "random_state": 0,
    "learning_rate": 1e-2, "dropout": 0.0, "input_dropout": 0.0, "inputs": "standard",
}  # fmt: skip
COUNTER: dict[str, Any] = {"hidden": (16,), "epochs": 5, "batch_size": 20, "random_state": 0}
NAMES = ("red", "green", "blue")


def rows(n: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Labels that rows determine, a tenth of them empty."""
    source = np.random.default_rng(0)
    y = source.integers(0, 2, (n, 3))
    y[:: n // 9] = 0
    return 3 * y + 0.1 * source.normal(size=(n, 3)), y


def as_sets(y: np.ndarray) -> list[list[str]]:
    return [[name for name, there in zip(NAMES, row, strict=True) if there] for row in y]


FRAMES = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}


def frame(kind: str, y: np.ndarray, names: tuple[str, ...] = NAMES) -> Any:
    return FRAMES[kind]({name: y[:, place] for place, name in enumerate(names)})


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("make", [lambda: SDLGMClassifier(**CLASSIFIER), LinearLabels])
def test_scores_find_labels_by_their_names(make: Any, kind: str) -> None:
    x, y = rows()
    model = make().fit(x, frame(kind, y))
    assert model.classes_.tolist() == list(NAMES)
    expected = model.score(x, y)
    assert expected > 0.8
    order = [2, 0, 1]
    permuted = frame(kind, y[:, order], tuple(NAMES[place] for place in order))
    assert model.score(x, permuted) == expected
    with pytest.raises(DataError, match="Y lacks 'blue' and has the unknown 'pink'"):
        model.score(x, frame(kind, y, ("red", "green", "pink")))
    with pytest.raises(DataError, match="Y lacks 'red'"):
        model.score(x, frame(kind, y[:, 1:], NAMES[1:]))


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("make", [lambda: SDLGMCounter(**COUNTER), ConstantCounter])
def test_scores_find_classes_of_counts_by_their_names(make: Any, kind: str) -> None:
    x, y = rows()
    y = y * [1, 2, 3]
    model = make().fit(x, frame(kind, y))
    assert model.target_names_in_.tolist() == list(NAMES)
    order = [1, 2, 0]
    permuted = frame(kind, y[:, order], tuple(NAMES[place] for place in order))
    assert model.score(x, permuted) == model.score(x, y)
    with pytest.raises(DataError, match="y lacks 'blue'"):
        model.score(x, frame(kind, y[:, :2], NAMES[:2]))


@pytest.mark.parametrize(
    "model",
    [SDLGMCounter(**COUNTER), ConstantCounter(), PoissonCounter(**COUNTER, budget=3)],
    ids=lambda model: type(model).__name__,
)
def test_scores_of_counters_do_not_broadcast(model: Any) -> None:
    x, y = rows()
    model.fit(x, y)
    for wrong in (y[:, :1], np.hstack([y, y])):
        with pytest.raises(DataError, match="the counter was fitted on counts of 3 classes"):
            model.score(x, wrong)
    with pytest.raises(DataError, match=r"one column for each class, got \(90,\)"):
        model.score(x, y[:, 0])


def test_names_of_targets_are_saved(tmp_path: Path) -> None:
    x, y = rows()
    for model in (SDLGMClassifier(**CLASSIFIER), SDLGMCounter(**COUNTER)):
        folder = tmp_path / type(model).__name__
        model.fit(x, frame("pandas", y)).save(folder)
        loaded = type(model).load(folder)
        assert loaded.target_names_in_.tolist() == list(NAMES)
        assert loaded.score(x, frame("pandas", y[:, ::-1], NAMES[::-1])) == model.score(x, y)
        model.fit(x, y)
        assert not hasattr(model, "target_names_in_")


def test_names_that_are_integers_are_kept() -> None:
    x, y = rows()
    table = pd.DataFrame(y, columns=[3, 1, 2])
    model = SDLGMClassifier(**CLASSIFIER).fit(x, table)
    assert model.classes_.tolist() == [3, 1, 2]
    assert model.score(x, table[[1, 2, 3]]) == model.score(x, y)


@pytest.mark.parametrize("place", ["X", "y"])
def test_repeated_names_are_named(place: str) -> None:
    x, y = rows()
    table = pd.DataFrame(x if place == "X" else y, columns=["a", "b", "a"])
    given = (table, y) if place == "X" else (x, table)
    for model in (SDLGMClassifier(**CLASSIFIER), SDLGMCounter(**COUNTER), LinearLabels()):
        with pytest.raises(DataError, match=f"(?i){place} has several columns named 'a'"):
            model.fit(*given)


# --- sets of labels ---------------------------------------------------------------------------

SETS: dict[str, Any] = {
    "lists": lambda sets: sets,
    "sets": lambda sets: [set(row) for row in sets],
    "tuples": lambda sets: tuple(map(tuple, sets)),
    "objects": lambda sets: np.array([*sets, None], object)[:-1],
    "pandas": pd.Series,
    "polars": pl.Series,
    "pyarrow": pa.array,
}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("make", [lambda: SDLGMClassifier(**CLASSIFIER), LinearLabels])
def test_sets_of_names_are_labels(make: Any, kind: str) -> None:
    x, y = rows()
    given = SETS[kind](as_sets(y))
    model = make().fit(x, given)
    assert model.classes_.tolist() == sorted(NAMES)
    sorted_y = y[:, np.argsort(NAMES)]
    same = make().fit(x, sorted_y)
    np.testing.assert_array_equal(model.predict(x), same.predict(x))
    assert model.score(x, given) == same.score(x, sorted_y) > 0.8
    predicted = model.predict_sets(x)
    assert predicted == [
        {name for name, there in zip(sorted(NAMES), row, strict=True) if there}
        for row in model.predict(x)
    ]
    with pytest.raises(DataError, match="y has the unknown labels 'pink'"):
        model.score(x[:2], [["pink"], ["red"]])


def test_sets_may_hold_integers_and_saved_models_know_the_names(tmp_path: Path) -> None:
    x, y = rows()
    model = SDLGMClassifier(**CLASSIFIER).fit(x, [set(np.flatnonzero(row) + 7) for row in y])
    assert model.classes_.tolist() == [7, 8, 9]
    model.save(tmp_path / "m")
    assert SDLGMClassifier.load(tmp_path / "m").predict_sets(x) == model.predict_sets(x)
    sparse = SDLGMClassifier(**CLASSIFIER).fit(x, sp.csr_array(y))
    assert sparse.predict_sets(x[:5]) == [
        {place - 7 for place in row} for row in model.predict_sets(x[:5])
    ]


def test_one_class_for_each_sample_is_a_set_of_one() -> None:
    x, y = rows()
    model = SDLGMClassifier(**CLASSIFIER).fit(x, np.array(NAMES)[y.argmax(1)])
    assert model.predict_sets(x) == [{name} for name in model.predict(x)]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[1, 0], [1]] * 45, "The rows of y must have one length.*in sets, such as"),
        ([["red"], None] * 45, r"y\[1\] is None, not a list or set of labels. Use \[\]"),
        ([["red"], "blue"] * 45, r"y\[1\] is 'blue', not a list or set"),
        ([["red"], [1.5]] * 45, r"y\[1\] holds 1.5"),
        ([{"red"}, {1}] * 45, "labels that are text and labels that are numbers"),
        ([["0", "1"], ["1", "1"]] * 45, "the texts '0' and '1' only"),
        ([set(), set()] * 45, "nothing to learn"),
        ([[3, 5]] * 90, r"other values, the first \(3\).*come in sets"),
        ([["red"]] * 4, "X has 90 samples and Y has 4 rows"),
        (np.array([["red", "blue"]] * 90), "values of type.*a list or set of names"),
        (
            pd.DataFrame({"red": ["yes"] * 90, "blue": [1] * 90}),
            "Y must hold numbers, but column 'red' has 'yes' in row 0",
        ),
        (np.full((90, 2), np.datetime64("2020-01-01")), "values of type datetime64"),
    ],
)
def test_wrong_labels_are_explained(y: Any, message: str) -> None:
    for model in (SDLGMClassifier(**CLASSIFIER), LinearLabels()):
        with pytest.raises(DataError, match=message):
            model.fit(rows()[0], y)


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">i8", "g", ">u2", "?", "O", "i1"])
def test_targets_may_be_numbers_of_any_type(dtype: str) -> None:
    x, y = rows()
    given = y.astype(dtype)
    expected = SDLGMClassifier(**CLASSIFIER).fit(x, y)
    model = SDLGMClassifier(**CLASSIFIER).fit(x, given)
    np.testing.assert_array_equal(model.predict_proba(x), expected.predict_proba(x))
    assert model.score(x, given) == expected.score(x, y)
    assert LinearLabels().fit(x, given).score(x, given) > 0.8
    counter, same = (SDLGMCounter(**COUNTER).fit(x, t) for t in (y, given))
    np.testing.assert_array_equal(counter.predict_mean(x), same.predict_mean(x))


@pytest.mark.parametrize("dtype", ["f2", ">f8", ">i4", "g", "i1", ">f4"])
def test_inputs_may_be_numbers_of_any_type(dtype: str) -> None:
    x = np.rint(rows()[0])
    given = x.astype(dtype)
    expected = SDLGMClassifier(**CLASSIFIER).fit(x, rows()[1]).predict_proba(x)
    model = SDLGMClassifier(**CLASSIFIER).fit(given, rows()[1])
    np.testing.assert_array_equal(model.predict_proba(given), expected)
    counters = [SDLGMCounter(**COUNTER).fit(t, rows()[1]).predict_mean(t) for t in (x, given)]
    np.testing.assert_array_equal(*counters)


def test_joined_texts_are_warned_about() -> None:
    x, y = rows()
    joined = ["|".join(row) or "none" for row in as_sets(y)]
    with pytest.warns(SDLGMWarning, match=r"joined by '\|'.*text.split\('\|'\) for text in y"):
        SDLGMClassifier(**CLASSIFIER).fit(x, joined)
    with pytest.warns(SDLGMWarning, match="90 different texts in 90 rows"):
        SDLGMClassifier(**CLASSIFIER).fit(x, [f"text {place}" for place in range(90)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SDLGMClassifier(**CLASSIFIER).fit(x, np.array(["New York, NY", "a", "b"])[y.argmax(1)])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["a", None, "b"] * 30, r"y\[1\] is missing \(None\)"),
        (np.array(["a", np.nan, "b"] * 30, object), r"y\[1\] is missing \(nan\)"),
        (pd.Series(["a", pd.NA, "b"] * 30, dtype="string"), r"y\[1\] is missing \(<NA>\)"),
        ([b"a", b"b", b"b"] * 30, "y holds bytes. Turn them into text"),
        (np.array(["a", b"x", "b"] * 30, object), r"y\[1\] is b'x'"),
        (pd.date_range("2026", periods=90), r"y holds times .*y.astype\(str\)"),
        (np.arange(90).astype("m8[s]"), "y holds times"),
    ],
)
def test_classes_that_cannot_be_compared_or_saved_are_refused(classes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SDLGMClassifier(**CLASSIFIER).fit(rows()[0], classes)


def test_counts_beyond_the_largest_budget_are_refused_before_fitting() -> None:
    x, y = rows()
    with pytest.raises(DataError, match=r"y\[\d+\] sum to \d,000,000,000, but .* up to 16,777"):
        SDLGMCounter(**COUNTER).fit(x, y.astype(np.int64) * 10**9)
    with pytest.raises(ConfigError, match=r"but budget is 1,000,000,000\. Count in larger"):
        SDLGMCounter(budget=10**9, **COUNTER).fit(x, y)


# --- columns of X -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["Oslo"] * 90, "X has text in column 'c', the first 'Oslo'.*OneHotEncoder"),
        (
            np.array(["2020-01-01", "2021-01-01"] * 45, "M8[us]"),
            r"X has dates or times \(.*\) in column 'c'.*total_seconds",
        ),
        (np.array([0.5, np.nan] * 45), r"\(nan\) at \[1, 2\], column 'c'.*SimpleImputer"),
    ],
)
def test_a_column_without_numbers_is_named(kind: str, column: Any, message: str) -> None:
    x, y = rows()
    table = FRAMES[kind]({"a": x[:, 0], "b": x[:, 1], "c": column})
    models = (
        SDLGMClassifier(mixed=False, **CLASSIFIER),
        SDLGMCounter(**COUNTER),
        SDLGMTransformer(12, 4, epochs=1),
        LinearLabels(),
    )
    for model in models:
        with pytest.raises(DataError, match=message):
            model.fit(table, y)
    good = FRAMES[kind]({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2]})
    fitted = LinearLabels().fit(good, y)
    with pytest.raises(DataError, match=message):
        fitted.predict(table)


@pytest.mark.parametrize("kind", FRAMES)
def test_a_column_of_lists_is_named_with_a_cure(kind: str) -> None:
    lists = np.arange(30.0).reshape(10, 3).tolist()
    table = FRAMES[kind]({"a": np.arange(10.0), "embedding": lists})
    for x, where in ((table, "column 'embedding'"), (pd.Series(lists), "an array")):
        with pytest.raises(DataError, match=rf"X has lists in {where}.*numpy\.stack"):
            SDLGMTransformer(12, 4).fit(x)


@pytest.mark.parametrize("column", ["M8[us]", "m8[s]", "M8[ns]"])
def test_a_table_of_times_is_refused(column: str) -> None:
    times = np.arange(180).reshape(90, 2).astype("i8").astype(column)
    tables = [times, pd.DataFrame(times, columns=["a", "b"])]
    if column != "M8[ns]":  # which numpy turns into integers
        tables.append(times.astype(object).tolist())
    for x in tables:
        with pytest.raises(DataError, match="X has dates or times"):
            SDLGMClassifier(**CLASSIFIER).fit(x, rows()[1])
    with pytest.raises(DataError, match="X has dates or times"):
        SDLGMCounter(**COUNTER).fit(times, rows()[1])


def test_sentences_are_refused_with_a_cure() -> None:
    with pytest.raises(DataError, match="X has text in an array.*TfidfVectorizer"):
        SDLGMClassifier(**CLASSIFIER).fit(["one sentence", "another"] * 45, rows()[1])


def test_frames_of_pyarrow_are_tables() -> None:
    x, y = rows()
    model = SDLGMClassifier(**CLASSIFIER).fit(frame("pyarrow", x), frame("pyarrow", y))
    assert model.feature_names_in_.tolist() == list(NAMES)
    same = SDLGMClassifier(**CLASSIFIER).fit(x, y)
    np.testing.assert_array_equal(model.predict_proba(frame("pyarrow", x)), same.predict_proba(x))
    counter = SDLGMCounter(**COUNTER).fit(frame("pyarrow", x), frame("pyarrow", y))
    assert counter.predict(frame("pyarrow", x)).shape == (90, 3)


# --- fewest labels ----------------------------------------------------------------------------


def makers() -> list[Any]:
    return [
        SDLGMClassifier(**CLASSIFIER),
        LinearLabels(),
        ForestLabels(n_estimators=10, random_state=0),
        MLPLabels((8,), epochs=5, members=1, random_state=0),
    ]


@pytest.mark.parametrize("model", makers(), ids=lambda model: type(model).__name__)
def test_rows_without_labels_in_training_allow_empty_predictions(model: Any) -> None:
    x, y = rows()
    model.fit(x, y)
    assert model.min_labels_ == 0
    assert np.asarray(model.predict(-np.ones((3, 3)))).sum() == 0 or y[0].sum() == 0
    some = y.any(1)
    assert model.fit(x[some], y[some]).min_labels_ == 1
    assert np.asarray(model.predict(np.zeros((3, 3)))).sum(1).min() >= 1
    weight = some.astype(float)
    assert model.fit(x, y, sample_weight=weight).min_labels_ == 1
    assert model.set_params(min_labels=2).fit(x, y).min_labels_ == 2
    assert np.asarray(model.predict(x)).sum(1).min() >= 2


def test_no_label_is_forced_onto_rows_without_one() -> None:
    x, y = rows()
    model = SDLGMClassifier(**CLASSIFIER).fit(x, y)
    forced = SDLGMClassifier(**CLASSIFIER, min_labels=1).fit(x, y)
    assert model.score(x, y) > forced.score(x, y) + 0.05


# --- weights of classes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({"pink": 2.0}, "the key 'pink', which is none of the 3 labels 'red', 'green', 'blue'"),
        ({3: 2.0}, "the key 3, which is none"),
        ({True: 2.0}, "the key True"),
        ({"red": "2"}, "finite numbers of 0 or more"),
        ({"red": -1}, "finite numbers of 0 or more"),
        ({"red": 0}, "a positive number for each"),
        ([1, 2], "one number for each of the 3 labels"),
        ("uniform", "'balanced', a dictionary or one number"),
    ],
)
def test_wrong_weights_of_labels_are_refused(weight: Any, message: str) -> None:
    x, y = rows()
    with pytest.raises(ConfigError, match=message):
        SDLGMClassifier(**CLASSIFIER, class_weight=weight).fit(x, frame("pandas", y))


def test_a_weight_belongs_to_the_label_of_its_name() -> None:
    x, y = rows()

    def weights(class_weight: Any, columns: list[Any]) -> list[float]:
        from sdlgm.estimators.parameters import label_weights

        found = label_weights(class_weight, sp.csr_array(y), np.array(columns))
        assert found is not None
        return found.tolist()

    assert weights({1: 5.0}, [1, 2, 3]) == [5, 1, 1]
    assert weights({np.int64(1): np.float32(5.0)}, [0, 1, 2]) == [1, 5, 1]
    assert weights({"green": 5, 2: 3}, list(NAMES)) == [1, 5, 3]
    table = pd.DataFrame(y, columns=[1, 2, 3])
    model = SDLGMClassifier(**CLASSIFIER, class_weight={1: 9.0}).fit(x, table)
    same = SDLGMClassifier(**CLASSIFIER, class_weight=[9.0, 1, 1]).fit(x, y)
    np.testing.assert_array_equal(model.predict_proba(x), same.predict_proba(x))


def test_weights_of_classes_are_strict_too() -> None:
    x, y = rows()
    classes = np.array(NAMES)[y.argmax(1)]
    with pytest.raises(ConfigError, match="the key 'pink'"):
        SDLGMClassifier(**CLASSIFIER, class_weight={"pink": 2}).fit(x, classes)
    weighted = SDLGMClassifier(**CLASSIFIER, class_weight={"red": 3.0}).fit(x, classes)
    listed = SDLGMClassifier(**CLASSIFIER, class_weight=[1.0, 1.0, 3.0]).fit(x, classes)
    np.testing.assert_array_equal(weighted.predict_proba(x), listed.predict_proba(x))


@pytest.mark.parametrize("weight", [{0: 2.0}, {np.int64(2): np.float64(2.0)}, {"red": 2, 1: 3}])
def test_what_fits_also_saves(weight: Any, tmp_path: Path) -> None:
    x, y = rows()
    model = SDLGMClassifier(**CLASSIFIER, class_weight=weight).fit(x, frame("pandas", y))
    model.save(tmp_path / "m")
    loaded = SDLGMClassifier.load(tmp_path / "m")
    assert loaded.class_weight == weight
    np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))


# --- parameters -------------------------------------------------------------------------------

WRONG: list[tuple[Any, str, Any]] = [
    (kind, name, value)
    for kind, names in (
        (SDLGMClassifier, ("variant", "budget", "max_labels", "min_labels", "threshold", "inputs",
                           "bins", "latent_features", "elbo_weight", "hidden", "activation",
                           "normalisation", "dropout", "input_dropout", "members", "folds",
                           "epochs", "batch_size", "learning_rate", "weight_decay", "patience",
                           "random_state", "temperature", "calibrated", "progress")),
        (SDLGMCounter, ("encoder", "tied", "image_columns", "budget", "hidden", "channels",
                        "epochs", "batch_size", "learning_rate", "weight_decay", "shift",
                        "test_orders", "test_shift", "validation_fraction", "patience",
                        "random_state", "shuffle_columns", "progress")),
        (SDLGMTransformer, ("n_components", "budget", "groups", "likelihood", "encoder_hidden",
                            "sparsity_hidden", "activation", "epochs", "batch_size",
                            "learning_rate", "kl_warmup", "code", "max_active", "random_state",
                            "gradient_clip", "accelerator", "sparse_output", "progress")),
        (LinearLabels, ("loss", "l2", "scale", "max_iter", "min_labels", "max_labels")),
        (MLPLabels, ("hidden", "alpha", "epochs", "batch_size", "learning_rate", "members")),
        (ForestLabels, ("kind", "n_estimators", "min_samples_leaf", "random_state")),
        (ConstantLabels, ("number",)),
    )
    for name in names
    for value in (object(), [None], "?", (0.5, "x"), {"a": 1})
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "value"), WRONG, ids=[f"{k.__name__}-{n}-{v!s:.9}" for k, n, v in WRONG]
)
def test_a_parameter_of_a_wrong_type_is_named(kind: Any, name: str, value: Any) -> None:
    x, y = rows()
    base = {SDLGMClassifier: CLASSIFIER, SDLGMCounter: COUNTER}.get(kind, {})
    with pytest.raises(ConfigError, match=name):
        kind(**base | {name: value}).fit(x, y).predict(x)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (SDLGMClassifier, {"hidden": 16}),
        (SDLGMClassifier, {"threshold": [0.5, 0.5, 0.5]}),
        (SDLGMClassifier, {"dropout": None}),
        (SDLGMCounter, {"hidden": 16}),
        (SDLGMTransformer, {"encoder_hidden": 16}),
        (MLPLabels, {"hidden": 16}),
    ],
)
def test_usual_mistakes_are_named(kind: Any, values: dict[str, Any]) -> None:
    x, y = rows()
    with pytest.raises(ConfigError, match=next(iter(values))):
        kind(**values).fit(x, y)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    x, y = rows()
    i, f = np.int64, np.float32
    classifier = SDLGMClassifier(
        hidden=(i(8),), members=i(2), folds=i(2), epochs=i(2), batch_size=np.uint8(16),
        budget=i(6), max_labels=i(3), min_labels=i(0), dropout=f(0.5), learning_rate=f(0.01),
        threshold=f(0.5), patience=i(2), random_state=i(3), progress=np.bool_(False),
    ).fit(x, y)  # fmt: skip
    assert classifier.top_k(x, i(2))[0].shape == (90, 2)
    counter = SDLGMCounter(
        hidden=[i(8)], budget=i(3), epochs=i(2), batch_size=i(20), tied=np.bool_(True),
        validation_fraction=f(0.25), patience=i(1), random_state=np.uint32(1), test_shift=i(0),
    ).fit(x, y)  # fmt: skip
    transformer = SDLGMTransformer(
        i(12), i(4), groups=i(2), encoder_hidden=(i(8),), sparsity_hidden=(i(4),), epochs=i(2),
        batch_size=i(20), learning_rate=np.float64(0.01), random_state=i(0), max_active=i(2),
    ).fit(x)  # fmt: skip
    assert transformer.sample(i(2)).shape == (2, 3)
    for model in (classifier, counter, transformer):
        folder = tmp_path / type(model).__name__
        model.save(folder)
        type(model).load(folder)
    assert ConstantLabels(i(2)).fit(x, y).predict(x).sum(1).tolist() == [2] * 90
    MLPLabels((i(4),), epochs=i(2), members=i(1), batch_size=i(10), random_state=i(0)).fit(x, y)


def test_tensors_are_targets() -> None:
    x, y = rows()
    model = SDLGMClassifier(**CLASSIFIER).fit(torch.from_numpy(x), torch.from_numpy(y))
    assert model.score(torch.from_numpy(x), torch.from_numpy(y)) == model.score(x, y)


# --- features ---------------------------------------------------------------------------------


def test_mostly_unused_features_are_warned_about_once() -> None:
    x = np.random.default_rng(0).normal(size=(300, 4))
    settings: dict[str, Any] = {"encoder_hidden": (), "sparsity_hidden": (), "random_state": 0}
    wide = SDLGMTransformer(256, 2, groups=1, epochs=3, **settings)
    with pytest.warns(SDLGMWarning, match=r"Only \d+ of 256 features.*raise epochs.*n_components"):
        wide.fit(x)
    with no_warning():
        wide.partial_fit(x)
        SDLGMTransformer(8, 4, epochs=20, **settings).fit(x)
    short = SDLGMTransformer(256, 4, epochs=1, rate=2.0, **settings)
    with pytest.warns(SDLGMWarning, match=r"Only \d+ of 256 features.*Raise rate.*n_components"):
        short.fit(x)
