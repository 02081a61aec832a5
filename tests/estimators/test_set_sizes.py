"""The distribution of the number of labels: its correction, and its median."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import make_multilabel_classification
from sklearn.linear_model import LogisticRegression

from sdlgm.errors import ModelFileError
from sdlgm.estimators import BudgetedClassifier, SDLGMClassifier
from sdlgm.estimators.label_saving import check_label_attributes
from sdlgm.estimators.set_sizes import SizeCorrection, fit_size_correction, median_sizes

QUICK = {"members": 2, "folds": 2, "epochs": 5, "hidden": (16,), "random_state": 0}


def distributions(rows, width):
    return np.random.default_rng(0).dirichlet(np.ones(width), rows)


def nats(sizes, numbers):
    return -np.log(sizes[np.arange(len(numbers)), numbers]).mean()


def one_of_three(rows=300):
    """Return rows that say little about which one of three labels they have."""
    source = np.random.default_rng(0)
    y = np.eye(3, dtype=int)[source.integers(0, 3, rows)]
    return y + source.normal(size=(rows, 3)), y


def test_power_and_offsets_are_found_again():
    sizes, true = distributions(20_000, 5), SizeCorrection(1, 0.5, (0.0, -1.0, 1.0, 0.5))
    sizes[:, 0] = 0
    sizes /= sizes.sum(1, keepdims=True)
    chances = true(sizes, 1)
    numbers = (np.random.default_rng(1).random((len(sizes), 1)) > chances.cumsum(1)).sum(1)
    found = fit_size_correction(sizes, numbers, 1)
    assert found.power == pytest.approx(true.power, abs=0.03)
    np.testing.assert_allclose(np.diff(found.offsets), np.diff(true.offsets), atol=0.1)
    assert nats(found(sizes, 1), numbers) < nats(sizes, numbers) - 0.1


def test_a_power_of_1_without_offsets_changes_nothing():
    sizes = distributions(10, 4)
    np.testing.assert_allclose(SizeCorrection(0, 1.0, (0.0,) * 4)(sizes, 0), sizes)


@given(
    smallest=st.integers(0, 2),
    largest=st.integers(2, 6),
    power=st.floats(0.1, 5),
    offset=st.floats(-5, 5),
)
def test_corrected_distributions_keep_bounds_that_were_changed(smallest, largest, power, offset):
    sizes = distributions(5, largest + 1)
    sizes[:, :smallest] = 0
    corrected = SizeCorrection(1, power, (offset, 0.0, -offset))(sizes, smallest)
    np.testing.assert_allclose(corrected.sum(1), 1)
    assert (corrected[:, :smallest] == 0).all()


def test_few_rows_or_a_single_number_are_not_corrected():
    sizes = distributions(19, 4)
    assert fit_size_correction(sizes, np.zeros(19), 0) is None
    assert fit_size_correction(distributions(50, 4), np.full(50, 3), 3) is None


def test_the_median_has_the_least_expected_error():
    sizes = distributions(200, 6)
    errors = np.abs(np.arange(6)[:, None] - np.arange(6)) @ sizes.T
    np.testing.assert_array_equal(median_sizes(sizes), errors.argmin(0))


@pytest.mark.parametrize(
    "model",
    [SDLGMClassifier(**QUICK), BudgetedClassifier(LogisticRegression(), random_state=0)],
    ids=["ours", "logistic"],
)
def test_labels_that_exclude_each_other_have_one_in_each_row(model):
    x, y = one_of_three()
    model = model.set_params(min_labels=0, max_labels=3).fit(x, y)
    assert model.predict_count_proba(x)[:, 1].mean() > 0.95
    assert (model.predict_counts(x) == 1).all()
    model.size_correction_ = None
    assert model.predict_count_proba(x)[:, 1].mean() < 0.75


def test_sets_of_the_median_size_follow_the_correction():
    x, y = one_of_three()
    model = SDLGMClassifier(**QUICK, threshold="counts", min_labels=0, max_labels=3).fit(x, y)
    assert (model.predict(x).sum(1) == 1).all()


@pytest.mark.parametrize(
    "settings", [{"calibrated": False}, {"threshold": 0.5}, {"threshold": "counts", "folds": 0}]
)
def test_nothing_is_corrected_without_rows_that_are_left_out(settings):
    model = SDLGMClassifier(**{**QUICK, **settings}).fit(*one_of_three(60))
    assert model.size_correction_ is None


def test_rows_with_unknown_labels_are_not_counted():
    x, y = one_of_three()
    hidden = np.where(np.random.default_rng(1).random(y.shape) < 0.2, np.nan, y)
    for model in (SDLGMClassifier(**QUICK), BudgetedClassifier(LogisticRegression())):
        model.set_params(min_labels=0, max_labels=3).fit(x, hidden)
        assert (model.predict_counts(x) == 1).all()


def test_a_correction_is_saved(tmp_path):
    x, y = make_multilabel_classification(100, n_classes=4, random_state=0)
    model = SDLGMClassifier(**QUICK).fit(x, y)
    model.save(tmp_path / "model")
    loaded = SDLGMClassifier.load(tmp_path / "model")
    assert loaded.size_correction_ == model.size_correction_
    np.testing.assert_array_equal(loaded.predict_count_proba(x), model.predict_count_proba(x))


@pytest.mark.parametrize(
    "values",
    [
        (2, 1.0, (0.0, 0.0, 0.0)),
        (1, -1.0, (0.0, 0.0, 0.0)),
        (1, 1.0, (0.0, 0.0)),
        (1, 1.0, [0.0, 0.0, 0.0]),
        (1, 1.0, (0.0, float("nan"), 0.0)),
        (1, 1.0, ("0", 0.0, 0.0)),
        (1, 1.0),
        3,
    ],
)
def test_a_damaged_correction_is_refused(values):
    assert SizeCorrection.restore(values, 1, 3) is None
    x, y = make_multilabel_classification(60, n_classes=3, random_state=0)
    model = SDLGMClassifier(**QUICK, min_labels=1, max_labels=3).fit(x[y.any(1)], y[y.any(1)])
    model.size_correction_ = values
    with pytest.raises(ModelFileError, match="size_correction_"):
        check_label_attributes(model, "the file")
