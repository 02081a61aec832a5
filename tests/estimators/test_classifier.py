"""The classifier as a user of scikit-learn sees it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sdlgm.errors import ConfigError, DataError, SDLGMError
from sdlgm.estimators import SDLGMClassifier
from sdlgm.estimators.label_network import (
    LabelNetwork,
    MemberRows,
)
from sdlgm.estimators.metrics import micro_f1
from sdlgm.estimators.thresholds import count_probabilities

QUICK = {
    "hidden": (24,),
    "members": 4,
    "folds": 2,
    "epochs": 15,
    "dropout": 0.1,
    "input_dropout": 0.0,
    "learning_rate": 1e-2,
    "random_state": 0,
}


def rows(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Between one and three of four labels, and rows that are a noisy mixture of them."""
    source = np.random.default_rng(seed)
    y = np.zeros((n, 4), int)
    for row, number in zip(y, source.integers(1, 4, size=n), strict=True):
        row[source.permutation(4)[:number]] = 1
    mixture = np.random.default_rng(9).normal(size=(4, 6))
    return y @ mixture + 0.1 * source.normal(size=(n, 6)), y


@pytest.fixture(scope="module")
def fitted() -> SDLGMClassifier:
    return SDLGMClassifier(**QUICK).fit(*rows())


@pytest.mark.parametrize("likelihood", ["presence", "relaxed"])
@pytest.mark.parametrize("variant", ["discriminative", "generative", "conditional"])
def test_each_variant_learns(variant, likelihood):
    model = SDLGMClassifier(variant, label_likelihood=likelihood, **QUICK | {"epochs": 25})
    model.fit(*rows())
    x, y = rows(seed=1)
    predicted = model.predict(x)
    assert micro_f1(y, predicted) > (0.9 if likelihood == "presence" else 0.85)
    assert predicted.dtype.kind == "i"
    assert set(np.unique(predicted)) <= {0, 1}
    assert predicted.sum(1).min() >= 1
    assert predicted.sum(1).max() <= model.max_labels_ == 3


def test_probabilities_are_one_array_and_match_the_log_odds(fitted):
    x, y = rows(seed=1)
    proba = fitted.predict_proba(x)
    assert proba.shape == y.shape
    assert proba.dtype == np.float64
    assert (proba >= 0).all()
    assert (proba <= 1).all()
    scores = fitted.decision_function(x)
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), proba, atol=1e-9)
    np.testing.assert_allclose(fitted.predict_proba(x[3:5]), proba[3:5], atol=1e-6)


def test_the_number_of_labels_is_predicted(fitted):
    x, y = rows(seed=1)
    numbers = fitted.predict_count_proba(x)
    assert numbers.shape == (len(x), fitted.max_labels_ + 1)
    np.testing.assert_allclose(numbers.sum(1), 1)
    np.testing.assert_array_equal(numbers[:, 0], 0)
    counts = fitted.predict_counts(x)
    assert counts.dtype.kind == "i"
    assert np.abs(counts - y.sum(1)).mean() < 0.4 < np.abs(y.sum(1) - 2).mean()


def test_count_probabilities_match_enumeration(generator):
    proba = torch.rand(2, 3, 5, generator=generator, dtype=torch.float64)
    exact = torch.zeros(2, 3, 4, dtype=torch.float64)
    for y in itertools.product((0, 1), repeat=5):
        if 1 <= sum(y) <= 3:
            exact[..., sum(y)] += torch.where(torch.tensor(y) == 1, proba, 1 - proba).prod(-1)
    expected = exact / exact.sum(-1, keepdim=True)
    torch.testing.assert_close(count_probabilities(torch.log1p(-proba), 1, 3), expected)


def test_count_probabilities_survive_underflow():
    few, many = torch.full((1, 3), -1e-300), torch.full((1, 2000), -40.0)
    assert count_probabilities(few.double(), 2, 3).tolist() == [[0, 0, 1, 0]]
    assert count_probabilities(many.double(), 1, 2).tolist() == [[0, 0, 1]]


def test_top_k_agrees_with_the_probabilities(fitted):
    x, _ = rows(seed=1)
    labels, values = fitted.top_k(x, 2)
    proba = fitted.predict_proba(x)
    np.testing.assert_array_equal(labels, np.argsort(-proba, axis=1, kind="stable")[:, :2])
    np.testing.assert_array_equal(values, np.take_along_axis(proba, labels, 1))


def test_two_fits_are_bit_identical():
    x, y = rows(80)
    for variant in ("discriminative", "conditional"):
        first, second = (
            SDLGMClassifier(variant, input_noise=0.1, **QUICK | {"epochs": 3}).fit(x, y)
            for _ in range(2)
        )
        np.testing.assert_array_equal(first.predict_proba(x), second.predict_proba(x))
        assert first.threshold_ == second.threshold_
    other = clone(first).set_params(random_state=1).fit(x, y)
    assert (other.predict_proba(x) != first.predict_proba(x)).any()


def test_no_global_random_state_is_used():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    SDLGMClassifier("generative", **QUICK | {"epochs": 2}).fit(*rows(40))
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


@pytest.mark.parametrize("threshold", [0.3, "micro", "macro", "per_label", "smoothed"])
def test_sparse_labels_give_the_same_predictions_but_sparse(threshold):
    x, y = rows(100)
    model = SDLGMClassifier(threshold=threshold, **QUICK | {"epochs": 4})
    dense = clone(model).fit(x, y)
    sparse = clone(model).fit(x, sp.csr_matrix(y))
    predicted = sparse.predict(x)
    assert sp.issparse(predicted)
    np.testing.assert_array_equal(predicted.toarray(), dense.predict(x))
    np.testing.assert_array_equal(sparse.threshold_, dense.threshold_)
    assert np.ndim(dense.threshold_) == (threshold in ("per_label", "smoothed"))


def test_sparse_inputs_give_the_same_predictions():
    x, y = rows(100)
    x[x < 0] = 0
    model = SDLGMClassifier("generative", inputs="none", **QUICK | {"epochs": 4})
    dense, sparse = clone(model).fit(x, y), clone(model).fit(sp.csr_array(x), y)
    np.testing.assert_array_equal(dense.predict_proba(x), sparse.predict_proba(sp.coo_array(x)))


@settings(max_examples=25, deadline=None)
@given(
    floor=st.integers(1, 3),
    cap=st.integers(3, 5),
    threshold=st.one_of(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=4, max_size=4)),
    seed=st.integers(0, 5),
)
def test_predicted_sets_keep_their_minimum_and_maximum_size(fitted, floor, cap, threshold, seed):
    x = 5 * np.random.default_rng(seed).normal(size=(30, 6))
    model = clone(fitted)
    model.__dict__.update(fitted.__dict__)
    model.min_labels_, model.max_labels_ = floor, cap
    model.threshold_ = np.array(threshold) if isinstance(threshold, list) else threshold
    numbers = model.predict(x).sum(1)
    assert floor <= numbers.min()
    assert numbers.max() <= cap
    probs = model.predict_count_proba(x)
    np.testing.assert_allclose(probs[:, floor : cap + 1].sum(1), 1)


def test_a_single_threshold_is_chosen_as_on_the_whole_table(fitted):
    """Narrowing the tables saves memory and does not change the outcome."""
    from sdlgm.estimators.thresholds import apply_threshold, choose_threshold

    x, y = rows()
    proba = fitted.predict_proba(x)
    chosen = apply_threshold(proba, fitted.threshold_, 1, 3)
    np.testing.assert_array_equal(fitted.predict(x), chosen)
    members = MemberRows(len(x), 4, 2, 0)
    held = np.zeros(y.shape)
    for index, part in fitted.network_.held_out(x.astype(np.float32), members):
        held[index] = part
    whole = choose_threshold(held, y, "micro", min_labels=1, max_labels=3)
    found, best = (micro_f1(y, apply_threshold(held, t, 1, 3)) for t in (fitted.threshold_, whole))
    assert found == pytest.approx(best, abs=0.005)


def test_members_are_not_fitted_on_the_rows_they_hold_out():
    members = MemberRows(21, 6, 3, 0)
    members.cut(4, epochs=3)
    assert members.held.sum(0).tolist() == [2] * 21
    for step in range(3 * members.steps[0]):
        batch = members.batch(step)
        assert batch.shape == (6, 4)
        assert not members.held.gather(1, batch).any()
    everything = MemberRows(21, 2, 0, 0)
    assert everything.batch(0).shape == (2, 21)
    everything.cut(4)
    assert not everything.held.any()
    seen = torch.cat([everything.batch(s) for s in range(everything.steps[0])], 1)
    assert [len(set(row.tolist())) for row in seen] == [20, 20]


def test_batches_grow_in_equal_parts_of_the_epochs():
    members = MemberRows(500, 2, 0, 0)
    members.cut(32, epochs=6, growth=(1, 2, 4))
    assert members.steps == [15, 15, 8, 8, 4, 4]
    sizes = [members.batch(step).shape[1] for step in range(54)]
    assert sizes == [32] * 30 + [62] * 16 + [125] * 8
    last = torch.cat([members.batch(step) for step in range(50, 54)], 1)
    assert [len(set(row.tolist())) for row in last] == [500, 500]


@pytest.mark.parametrize(("batch_size", "steps"), [(64, [8, 4, 4]), (200, [3, 3, 3])])
def test_batches_grow_up_to_128_rows(batch_size, steps):
    rows = 600 if batch_size == 200 else 512
    members = MemberRows(rows, 1, 0, 0)
    members.cut(batch_size, epochs=3, growth=(1, 2, 4))
    assert members.steps == steps


def test_early_stopping_keeps_the_best_epoch():
    x, y = rows(60)
    noise = np.random.default_rng(0).normal(size=x.shape)
    model = SDLGMClassifier(patience=3, **QUICK | {"epochs": 200, "dropout": 0.0}).fit(noise, y)
    losses = [line["validation_loss"] for line in model.history_]
    assert len(losses) < 200
    assert np.argmin(losses) == len(losses) - 4


def test_row_and_label_weights_have_an_effect():
    x, y = rows(120)
    model = SDLGMClassifier(**QUICK | {"epochs": 8})
    doubled = clone(model).fit(x, y, sample_weight=np.full(120, 2.0))
    np.testing.assert_allclose(
        doubled.predict_proba(x), clone(model).fit(x, y).predict_proba(x), atol=1e-5
    )
    wrong = y.copy()
    wrong[60:] = 1 - wrong[60:]
    weight = np.repeat([1.0, 0.0], 60)
    kept = SDLGMClassifier(max_labels=4, **QUICK).fit(x, wrong, sample_weight=weight)
    assert micro_f1(y[60:], kept.predict(x[60:])) > 0.8
    heavy = clone(model).set_params(class_weight=[20.0, 1.0, 1.0, 1.0]).fit(x, y)
    assert heavy.predict_proba(x).mean(0)[0] != doubled.predict_proba(x).mean(0)[0]
    clone(model).set_params(class_weight="balanced").fit(x, y)


def test_a_bernoulli_likelihood_needs_bits():
    x, y = rows(60)
    bits = (x > 0).astype(int)
    model = SDLGMClassifier("generative", likelihood="bernoulli", **QUICK | {"epochs": 3})
    dense = model.fit(bits, y).predict_proba(bits)
    with pytest.raises(DataError, match="X of 0 and 1"):
        model.fit(x, y)
    sparse = clone(model).set_params(inputs="none").fit(sp.csr_array(bits), y)
    assert sparse.predict_proba(bits).shape == dense.shape


@pytest.mark.parametrize("inputs", ["standard", "quantile", "bins"])
def test_the_scale_of_the_inputs_does_not_matter(inputs):
    x, y = rows(60)
    model = SDLGMClassifier("generative", inputs=inputs, **QUICK | {"epochs": 3})
    changed = 1000 * x + 3 if inputs == "standard" else np.exp(x)
    np.testing.assert_allclose(
        clone(model).fit(x, y).predict_proba(x),
        clone(model).fit(changed, y).predict_proba(changed),
        atol=1e-3,
    )


def test_it_follows_the_conventions_of_scikit_learn(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "network_")
    with pytest.raises(NotFittedError):
        copy.predict(rows()[0])
    assert copy.fit(*rows(40)) is copy
    assert [name for name in vars(copy) if not name.endswith("_")] == list(
        SDLGMClassifier().get_params()
    ) or set(copy.get_params()) <= set(vars(copy))
    piped = make_pipeline(StandardScaler(), SDLGMClassifier(**QUICK | {"epochs": 8}))
    assert cross_val_score(piped, *rows(120), cv=2).shape == (2,)
    x, y = rows(seed=1)
    assert fitted.score(x, y) == (fitted.predict(x) == y).all(1).mean()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.full((4, 2), np.nan), np.eye(4), r"not finite.*\[0, 0\]"),
        (
            sp.csr_array(np.diag([1, 1, np.inf, 1.0])),
            np.eye(4),
            r"\(inf, or a number beyond 3.4e38\) at \[2, 2\]",
        ),
        (np.ones((4, 2)), 2 * np.eye(4), r"0 and 1 only.*\(2.0\) at \[0, 0\]"),
        (np.ones((4, 2)), sp.csr_array(np.diag([1, 1, 3, 1])), r"first \(3\) at \[2, 2\]"),
        (np.ones((4, 2)), np.eye(3), "4 samples and Y has 3"),
        (np.ones((4, 2)), np.zeros((4, 3)), "nothing to learn"),
        (np.ones((4, 2)), np.array([0.5, 1, 2, 3]), "continuous.*a list or set of names"),
        (np.ones((4, 2)), np.array([["a", "b"]] * 4), "values of type.*a list or set of names"),
        (np.ones((4, 2, 2)), np.eye(4), r"rows \(n, features\)"),
    ],
)
def test_bad_data_are_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        SDLGMClassifier(**QUICK).fit(x, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"variant": "other"}, "variant must be one of 'discriminative'"),
        ({"label_likelihood": "other"}, "label_likelihood must be"),
        ({"inputs": "other"}, "inputs must be"),
        ({"threshold": "other"}, "'micro', 'macro', 'per_label', 'smoothed'"),
        ({"threshold": 1.5}, "threshold must lie"),
        ({"members": 0}, "members must be a positive integer, got 0"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"min_labels": 9}, "min_labels = 9"),
        ({"folds": 1}, "folds must be 0"),
        ({"folds": 0}, "folds=5"),
        ({"folds": 99}, "folds = 99"),
        ({"class_weight": [1.0]}, "each of the 4 labels"),
        ({"class_weight": "other"}, "balanced"),
        ({"variant": "conditional", "latent_features": 0}, "latent_features"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        SDLGMClassifier(**QUICK | parameters).fit(*rows(30))


def test_more_labels_than_max_labels_are_refused():
    x, y = rows(30)
    with pytest.raises(DataError, match=r"has 3 labels, more than max_labels = 2"):
        SDLGMClassifier(max_labels=2, **QUICK).fit(x, y)


def test_the_form_of_the_paper():
    """A budget below the labels of some row, a number as threshold, and no held-out rows."""
    x, y = rows(60)
    model = SDLGMClassifier(
        label_likelihood="relaxed", temperature=3.0, budget=2, threshold=0.2,
        **QUICK | {"epochs": 3},
    )  # fmt: skip
    model.fit(x, y)
    assert model.network_.model.config.budget == 2
    assert model.threshold_ == 0.2
    assert model.max_labels_ == 3


def test_bad_arguments_of_a_fitted_classifier_are_refused(fitted):
    x, y = rows(20)
    with pytest.raises(DataError, match="3 features, but SDLGMClassifier is expecting 6"):
        fitted.predict(x[:, :3])
    with pytest.raises(ConfigError, match="k must be an integer from 1 to 4"):
        fitted.top_k(x, 5)
    with pytest.raises(SDLGMError, match="quantile"):
        SDLGMClassifier(inputs="quantile", **QUICK).fit(sp.csr_array(x), y)
    with pytest.raises(DataError, match="sample_weight"):
        SDLGMClassifier(**QUICK).fit(x, y, sample_weight=-np.ones(20))


def test_the_size_of_blocks_does_not_change_predictions(fitted, monkeypatch):
    x, _ = rows(50)
    whole = fitted.predict_proba(x)
    monkeypatch.setattr("sdlgm.estimators.label_network.BLOCK_PROBABILITIES", 100)
    np.testing.assert_allclose(fitted.predict_proba(x), whole, atol=1e-6)
    assert isinstance(fitted.network_, LabelNetwork)


def test_a_warning_of_a_column_of_classes_names_the_line_of_the_caller():
    model = SDLGMClassifier(members=1, folds=0, threshold=0.5, epochs=1, hidden=(), random_state=0)
    for call in (model.fit, clone(model).partial_fit):
        with pytest.warns(DataConversionWarning, match="column-vector") as found:
            call(np.eye(4), np.array([[0], [1], [0], [1]]))
        assert [warning.filename for warning in found] == [__file__]
