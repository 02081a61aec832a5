"""Scaling and dropout of inputs that the data choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import make_multilabel_classification

from sdlgm.estimators import SDLGMClassifier
from sdlgm.estimators.label_parameters import chosen_effort
from sdlgm.estimators.scaling import Inputs, chosen_dropout, chosen_inputs, mostly_zero

random = np.random.default_rng(0)
FEW, MANY = random.normal(size=(20, 4)), random.normal(size=(700, 4))
WORDS = (random.random((50, 40)) < 0.08).astype(float)


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (FEW, "bins"),
        (MANY, "bins"),
        (np.exp(1.5 * FEW), "bins"),
        ((MANY > 1.9).astype(float) + 1, "standard"),
        ((MANY > 0).astype(float), "standard"),  # bins of two values are copies
        (random.normal(size=(5, 999)), "bins"),
        (random.normal(size=(5, 1000)), "quantile"),
        (WORDS, "counts"),
        (csr_array(WORDS), "counts"),
        (csr_array(WORDS * random.geometric(0.05, size=WORDS.shape) ** 2), "counts"),
        (csr_array(np.column_stack([WORDS, 300 * (np.arange(50) < 2)])), "counts"),
        (csr_array(WORDS * random.random(WORDS.shape)), "common"),
        (csr_array(-WORDS), "common"),
        (csr_array(FEW), "common"),
        (csr_array(np.column_stack([WORDS, 50_000.5 + np.arange(50)])), "standard"),
        (csr_array(np.column_stack([WORDS, 50_000 + np.arange(50)])), "counts"),
        (np.column_stack([WORDS, 1e-3 * WORDS[:, :4], 1e4 * WORDS[:, :2]]), "standard"),
        (csr_array(np.column_stack([WORDS, 20 * WORDS[:, :4]])), "counts"),
        (csr_array((5, 3)), "common"),
    ],
)
def test_the_scaling_is_that_of_the_kind_of_rows(rows, kind: str) -> None:
    assert chosen_inputs(rows, mostly_zero(rows)) == kind


def test_one_scale_keeps_zeros_and_does_not_depend_on_the_unit() -> None:
    _, scaled = Inputs("common", WORDS)(WORDS)
    np.testing.assert_array_equal(scaled.numpy(), WORDS)
    part = WORDS * random.random(WORDS.shape)
    _, first = Inputs("common", part)(part)
    _, second = Inputs("common", csr_array(1000 * part))(1000 * part)
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert ((first.numpy() == 0) == (part == 0)).all()
    assert np.isfinite(Inputs("common", 0 * WORDS)(WORDS)[0]).all()


def test_counts_become_logarithms_and_rare_columns_weigh_a_little_more() -> None:
    x = WORDS * random.integers(1, 500, size=WORDS.shape)
    scaled = Inputs("counts", csr_array(x))(x)[0].numpy()
    rows = (x != 0).sum(0).clip(1)
    weighted = np.log1p(x) * np.sqrt(1 + np.log((1 + len(x)) / (1 + rows)))
    expected = weighted / np.sqrt((weighted[x != 0] ** 2).mean())
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    np.testing.assert_array_equal(Inputs("counts", x)(x)[0], scaled)
    np.testing.assert_array_equal(
        Inputs("counts", x).non_zeros(csr_array(x)).numpy(), scaled[x != 0]
    )
    # Rows that come later may hold other numbers.
    later = Inputs("counts", x)(-x - 0.5)[0].numpy()
    assert np.isfinite(later).all()
    assert (later < 0).all()


def test_a_few_large_counts_do_not_hide_what_the_others_say() -> None:
    counts = random.poisson(0.08, size=(400, 60)).astype(float)
    y = (counts[:, :4] > 0).astype(int)
    counts[:, 4:] *= np.where(random.random((400, 56)) < 0.05, 2000, 1)
    settings = {"members": 2, "folds": 0, "threshold": 0.5, "random_state": 0}
    model = SDLGMClassifier(**settings).fit(csr_array(counts[:300]), y[:300])
    right = model.predict(csr_array(counts[300:])) == y[300:]
    assert right.mean() > 0.97


def test_files_of_older_versions_scale_as_before() -> None:
    scaling = Inputs("common", WORDS)
    values = dict(vars(scaling))
    del values["logarithms"]
    again = Inputs.restore(values, WORDS.shape[1])
    np.testing.assert_array_equal(again(WORDS)[0], scaling(WORDS)[0])


def fit(x: object, y: np.ndarray, **settings: object) -> SDLGMClassifier:
    options = {"members": 1, "folds": 0, "threshold": 0.5, "epochs": 1, "hidden": (4,)}
    return SDLGMClassifier(**options | settings, random_state=0).fit(x, y)


def test_the_classifier_tells_what_was_chosen(tmp_path: Path) -> None:
    x, y = make_multilabel_classification(800, n_features=8, n_classes=3, random_state=0)
    model = fit(x, y)
    assert (model.inputs_, model.input_dropout_) == ("bins", 0.5)
    model.save(tmp_path / "model")
    assert SDLGMClassifier.load(tmp_path / "model").inputs_ == "bins"
    assert fit((x > 0).astype(float), y).input_dropout_ == 0.3
    assert fit(csr_array(WORDS), y[:50]).input_dropout_ == 0
    assert fit(x, y, input_dropout=0.1).input_dropout_ == 0.1
    given = fit(x, y, inputs="standard")
    assert (given.inputs_, given.input_dropout_) == ("standard", 0.3)


def test_dense_and_sparse_words_give_the_same_probabilities() -> None:
    y = (WORDS[:, :3] + WORDS[:, 3:6] > 0).astype(int)
    dense, sparse = fit(WORDS, y), fit(csr_array(WORDS), y)
    np.testing.assert_array_equal(dense.predict_proba(WORDS), sparse.predict_proba(WORDS))


def test_a_table_that_is_not_mostly_0_is_read_alike_in_a_sparse_form(tmp_path: Path) -> None:
    x = np.where(random.random((120, 6)) < 0.4, random.normal(size=(120, 6)), 0)
    y = (x[:, :3] > 0).astype(int)
    dense, sparse = fit(x, y, members=2, folds=2), fit(csr_array(x), y, members=2, folds=2)
    assert sparse.inputs_ == dense.inputs_ == "bins"
    few = x * (random.random(x.shape) < 0.2)  # mostly 0, as the rows of the fit were not
    for rows in (x, few):
        expected = dense.predict_proba(rows)
        np.testing.assert_array_equal(sparse.predict_proba(csr_array(rows)), expected)
    np.testing.assert_array_equal(sparse.predict_left_out(csr_array(x)), dense.predict_left_out(x))
    dense.partial_fit(few, y)
    sparse.partial_fit(csr_array(few), y).save(tmp_path / "model")
    loaded = SDLGMClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(csr_array(x)), dense.predict_proba(x))


def test_rows_that_are_left_out_choose_neither_scaling_nor_training() -> None:
    x = np.concatenate([WORDS, random.normal(size=(50, 40))])
    y = (np.abs(x[:, :3]) + np.abs(x[:, 3:6]) > 0).astype(int)
    weight = np.repeat([1.0, 0.0], 50)
    options = {"members": 2, "folds": 0, "threshold": 0.5, "hidden": (4,), "random_state": 0}
    model = SDLGMClassifier(**options).fit(x, y, weight)
    alone = SDLGMClassifier(**options).fit(WORDS, y[:50])
    assert (model.inputs_, model.n_iter_, model.network_.by_unit) == ("counts", 30, True)
    np.testing.assert_array_equal(model.predict_proba(WORDS), alone.predict_proba(WORDS))


def test_later_mixed_rows_are_trained_as_the_first_ones(tmp_path: Path) -> None:
    y = np.eye(2, dtype=int)[np.arange(60) % 2]
    frame = pd.DataFrame({"kind": [f"level {k % 12}" for k in range(60)]})
    model = SDLGMClassifier(members=2, folds=2, hidden=(4,), mixed=True, random_state=0)
    model.partial_fit(frame, y).save(tmp_path / "model")
    loaded = SDLGMClassifier.load(tmp_path / "model").partial_fit(frame, y)
    assert not model.network_.by_unit
    assert not loaded.network_.by_unit


@pytest.mark.parametrize(
    ("settings", "rate", "growth"),
    [
        ({}, 3.5e-3, (1, 2, 4)),
        ({"inputs": "bins", "learning_rate": 1e-3}, 1e-3, (1, 2, 4)),
        ({"inputs": "standard"}, 3e-3, (1,)),
        ({"variant": "generative"}, 3e-3, (1,)),
        ({"label_likelihood": "relaxed"}, 3e-3, (1,)),
    ],
)
def test_batches_grow_where_they_were_found_to_cost_nothing(settings, rate, growth):
    values, size = SDLGMClassifier(**settings).get_params(), (100, 3)
    effort = chosen_effort(values, size, mostly_zero=False, one_pass=False)
    assert (effort.learning_rate, effort.growth) == (rate, growth)
    once = chosen_effort(values, size, mostly_zero=False, one_pass=True)
    assert (once.learning_rate, once.growth) == (settings.get("learning_rate", 3e-3), (1,))
    assert chosen_effort(values, size, mostly_zero=True, one_pass=False).growth == (1,)


@pytest.mark.parametrize(
    ("kind", "columns", "share"),
    [("bins", 1, 0.0), ("bins", 2, 0.0), ("bins", 6, 0.25), ("bins", 7, 0.5),
     ("common", 3, 0.0), ("counts", 3, 0.0),
     ("standard", 2, 0.0), ("standard", 6, 0.25), ("standard", 7, 0.3)],
)  # fmt: skip
def test_few_columns_are_dropped_less(kind, columns, share):
    assert chosen_dropout(kind, columns) == share


def test_two_columns_tell_a_circle_from_what_is_around_it():
    x = random.normal(size=(400, 2))
    y = (np.square(x).sum(1) < 1).astype(int)
    model = SDLGMClassifier(members=5, random_state=0).fit(x[:300], y[:300])
    assert model.score(x[300:], y[300:]) > 0.93
