"""Promises of thresholds: by hand, by simulation on a known population, and in the classifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification
from sklearn.linear_model import LogisticRegression

from sdlgm.errors import ConfigError, DataError, ModelFileError
from sdlgm.estimators import (
    BudgetedClassifier,
    EstimatorNotFittedError,
    FalsePositivesAtMost,
    PrecisionAtLeast,
    RecallAtLeast,
    SDLGMClassifier,
    UnreachableError,
)
from sdlgm.estimators.guarantees import RankedLabels, choose_guaranteed, log_wealth
from sdlgm.estimators.label_fitting import member_rows
from sdlgm.estimators.thresholds import apply_threshold

PROMISES = [
    RecallAtLeast(0.7),
    RecallAtLeast(0.7, None),
    PrecisionAtLeast(0.6),
    FalsePositivesAtMost(0.6),
    FalsePositivesAtMost(0.6, None),
]


def population(rows: int = 3000, labels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from probabilities that differ from them."""
    random = np.random.default_rng(0)
    odds = random.normal(-1, 2, (rows, labels))
    truth = random.random((rows, labels)) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-2 * odds - random.normal(0, 1, odds.shape))), truth.astype(np.int64)


def small(**settings: object) -> SDLGMClassifier:
    options = {"members": 4, "folds": 4, "epochs": 15, "hidden": (32,), "random_state": 0}
    return SDLGMClassifier(**options | settings)


def test_ranked_labels_have_the_sets_of_apply_threshold() -> None:
    scores, truth = population(200)
    ranked = RankedLabels(scores, csr_array(truth), 1, 3)
    for threshold in (-1.0, 0.0, 0.2, 0.7, 1.0):
        chosen = apply_threshold(scores, threshold, 1, 3)
        sizes = ranked.sizes(np.array([threshold]))
        np.testing.assert_array_equal(sizes[:, 0], chosen.sum(1))
        right = ranked.in_sets(ranked.hits, sizes)[:, 0]
        np.testing.assert_array_equal(right, (chosen * truth).sum(1))


def test_levels_are_measured_as_they_are_defined() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.7, 0.2, 0.1], [0.1, 0.2, 0.3]])
    truth = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0]])
    rows = RankedLabels(scores, truth, 0, 3)
    assert RecallAtLeast(0.5).measure(rows, 0.5) == pytest.approx((0.5 + 1) / 2)
    assert PrecisionAtLeast(0.5).measure(rows, 0.5) == pytest.approx((0.5 + 1) / 2)
    assert FalsePositivesAtMost(1).measure(rows, 0.25) == pytest.approx((1 + 0 + 1) / 3)
    assert np.isnan(PrecisionAtLeast(0.5).measure(rows, 1.0))


def test_unknown_labels_count_neither_as_hits_nor_as_errors() -> None:
    scores, truth = np.array([[0.9, 0.8, 0.7]]), np.array([[1.0, np.nan, 0.0]])
    rows = RankedLabels(scores, truth, 0, 3)
    assert PrecisionAtLeast(0.5).measure(rows, 0.0) == 0.5
    assert FalsePositivesAtMost(1).measure(rows, 0.75) == 0
    assert RecallAtLeast(0.5).measure(rows, 0.75) == 1


@pytest.mark.parametrize("guarantee", PROMISES, ids=str)
@pytest.mark.parametrize(("low", "high"), [(0, 6), (1, 3)])
def test_a_promise_holds_on_the_population(guarantee, low: int, high: int) -> None:
    """In at least 95 of 100 draws with a confidence, and on average without one."""
    scores, truth = population()
    whole = RankedLabels(scores, truth, low, high)
    reached = []
    for seed in range(100):
        drawn = np.random.default_rng(seed).integers(len(scores), size=300)
        try:
            threshold = choose_guaranteed(
                scores[drawn], truth[drawn], guarantee, min_labels=low, max_labels=high, seed=seed
            )
        except UnreachableError:
            continue
        reached.append(guarantee.measure(whole, threshold))
    assert len(reached) > 50
    sign = 1 if guarantee.better == "highest" else -1
    margin = sign * (np.array(reached) - guarantee.level)
    if guarantee.confidence is None:
        assert margin.mean() > -2 * margin.std() / 10
    else:
        assert (margin < 0).sum() <= 5


def test_a_confidence_asks_for_larger_sets_than_an_average() -> None:
    scores, truth = population(1000)
    sure, mean = (
        choose_guaranteed(scores, truth, RecallAtLeast(0.8, c), max_labels=6) for c in (0.95, None)
    )
    assert sure < mean


def test_the_wealth_of_a_false_hypothesis_grows_and_of_a_true_one_does_not() -> None:
    losses = np.random.default_rng(0).random((500, 2)) * [0.1, 0.4]
    wealth = log_wealth(losses, 0.2, 0.05)
    assert wealth[0] > -np.log(0.05) > wealth[1]


def test_an_error_names_the_best_level_that_can_be_promised() -> None:
    scores, truth = population(1000)
    for asked in (RecallAtLeast(0.999), PrecisionAtLeast(0.99), FalsePositivesAtMost(0.01)):
        bounds = {"min_labels": 1, "max_labels": 3}
        with pytest.raises(UnreachableError, match="level that can be is") as found:
            choose_guaranteed(scores, truth, asked, **bounds)
        best = found.value.reachable
        assert best is not None
        choose_guaranteed(scores, truth, asked.at(best), **bounds)
        worse = best + (0.002 if asked.better == "highest" else -0.002)
        with pytest.raises(UnreachableError):
            choose_guaranteed(scores, truth, asked.at(worse), **bounds)


def test_an_error_proposes_only_bounds_that_can_change() -> None:
    scores, truth = population(100)
    for asked, wide, narrow in (
        (RecallAtLeast(0.999), {}, {"max_labels": 3}),
        (FalsePositivesAtMost(0.01), {}, {"min_labels": 1}),
    ):
        with pytest.raises(UnreachableError, match=r"Ask for \w+\([\d.]+\), or hold out more"):
            choose_guaranteed(scores, truth, asked, **wide)
        with pytest.raises(UnreachableError, match="(raise max|lower min)_labels, or hold out"):
            choose_guaranteed(scores, truth, asked, **narrow)


def test_too_few_rows_for_any_level_is_an_error_that_says_so() -> None:
    with pytest.raises(UnreachableError, match="nor can any other level") as found:
        choose_guaranteed([[0.5, 0.5]], [[1, 0]], PrecisionAtLeast(0.9), max_labels=2)
    assert found.value.reachable is None


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1, got 1.5"):
        RecallAtLeast(1.5)
    with pytest.raises(ConfigError, match="positive number"):
        FalsePositivesAtMost(0)
    with pytest.raises(ConfigError, match="confidence must lie"):
        RecallAtLeast(0.9, 95)
    with pytest.raises(ConfigError, match="needs a confidence"):
        PrecisionAtLeast(0.9, None)
    with pytest.raises(ConfigError, match="'split', 'folds'"):
        RecallAtLeast(0.9, held_out="members")
    with pytest.raises(DataError, match="probabilities"):
        choose_guaranteed([[2.0, 0.5]], [[1, 0]], RecallAtLeast(0.9))
    with pytest.raises(DataError, match="no held-out row"):
        choose_guaranteed([[0.2, 0.5]], [[0, 0]], RecallAtLeast(0.9))


# --- in the classifier --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return make_multilabel_classification(
        600, n_features=12, n_classes=5, allow_unlabeled=False, random_state=0
    )


def test_all_members_leave_out_the_fold_of_a_guarantee(data) -> None:
    x, y = data
    model = small(threshold=FalsePositivesAtMost(0.8)).fit(x, y)
    split = member_rows(model, len(x)).held
    assert (split == split[0]).all()
    assert 0 < split[0].float().mean() < 0.3
    folds = small(threshold=FalsePositivesAtMost(0.8, held_out="folds"))
    folds.multilabel_, folds.seed_ = True, 0
    assert member_rows(folds, len(x)).held.any(0).all()


def test_the_threshold_is_that_of_the_rows_left_out(data) -> None:
    x, y = data
    guarantee = FalsePositivesAtMost(0.8)
    model = small(threshold=guarantee).fit(x, y)
    held = member_rows(model, len(x)).held[0].numpy()
    chosen = choose_guaranteed(
        model.predict_proba(x[held]), y[held], guarantee,
        min_labels=model.min_labels_, max_labels=model.max_labels_, seed=model.seed_,
    )  # fmt: skip
    assert model.threshold_ == pytest.approx(chosen)
    predicted = model.predict(x)
    assert predicted.sum(1).max() <= model.max_labels_
    assert ((predicted == 1) & (y == 0)).sum(1).mean() < 0.8


def balanced(**settings: object) -> SDLGMClassifier:
    return small(epochs=2, class_weight="balanced", **settings)


def budgeted(**settings: object) -> BudgetedClassifier:
    return BudgetedClassifier(LogisticRegression(), folds=4, random_state=0, **settings)


@pytest.mark.parametrize("make", [balanced, budgeted])
def test_rows_of_a_promise_do_not_shape_what_it_is_about(data, make) -> None:
    x, y = data[0][:200], data[1][:200].copy()
    guarantee = FalsePositivesAtMost(4.9)
    y[y.sum(1) == 5, 4] = 0
    before = make(threshold=guarantee).fit(x, y)
    if isinstance(before, SDLGMClassifier):
        held = np.flatnonzero(member_rows(before, len(x)).held[0].numpy())
    else:
        held = np.flatnonzero(before._held_out(len(x))[0])
    y[held[:20]], y[held[20:]] = 1, 0
    after = make(threshold=guarantee).fit(x, y)
    assert (after.min_labels_, after.max_labels_) == (before.min_labels_, before.max_labels_)
    for model in (before, after):
        if isinstance(model, BudgetedClassifier):
            model.recalibration_ = None  # corrects scores after the choice
    np.testing.assert_array_equal(after.predict_proba(x), before.predict_proba(x))


def test_patience_does_not_follow_the_rows_of_a_promise(data) -> None:
    with pytest.raises(ConfigError, match="needs for itself"):
        small(threshold=RecallAtLeast(0.5), patience=3).fit(*data)


def test_a_fitted_classifier_takes_a_promise_from_other_rows(data) -> None:
    x, y = data
    model = small(threshold=0.5, min_labels=0).fit(x[:300], y[:300])
    before = model.predict_proba(x)
    assert model.set_threshold(x[300:], y[300:], RecallAtLeast(0.7)) is model
    np.testing.assert_array_equal(model.predict_proba(x), before)
    found = RankedLabels(before[300:], y[300:], 0, model.max_labels_)
    assert RecallAtLeast(0.7).measure(found, model.threshold_) > 0.7
    assert model.get_params()["threshold"] == RecallAtLeast(0.7)
    model.set_threshold(x[300:], y[300:], "counts")
    np.testing.assert_array_equal(model.predict(x).sum(1), model.predict_counts(x))
    with pytest.raises(UnreachableError):
        model.set_threshold(x[300:], y[300:], RecallAtLeast(0.999))


def test_guarantees_are_cloned_saved_and_loaded(data, tmp_path: Path) -> None:
    x, y = data
    guarantee = RecallAtLeast(0.6, None, "folds")
    model = clone(small(threshold=guarantee)).fit(x, y)
    model.save(tmp_path / "model")
    loaded = SDLGMClassifier.load(tmp_path / "model")
    assert loaded.threshold == guarantee
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    text = (tmp_path / "model" / "estimator.json").read_text()
    (tmp_path / "model" / "estimator.json").write_text(text.replace("RecallAtLeast", "Path"))
    with pytest.raises(ModelFileError):
        SDLGMClassifier.load(tmp_path / "model")


@pytest.mark.parametrize(
    "model",
    [small(), BudgetedClassifier(LogisticRegression(), folds=3, random_state=0)],
    ids=lambda model: type(model).__name__,
)
def test_a_fit_whose_promise_fails_leaves_nothing_behind(data, model) -> None:
    x, y = data
    model = clone(model).fit(x, y)
    with pytest.raises(UnreachableError, match="the highest level that can be"):
        model.set_params(threshold=RecallAtLeast(0.9999)).fit(x, y)
    with pytest.raises(EstimatorNotFittedError):
        model.predict(x)


def test_one_class_a_sample_has_no_promise(data) -> None:
    x, y = data
    with pytest.raises(ConfigError, match="sets of labels"):
        small(threshold=RecallAtLeast(0.9)).fit(x, y[:, 0])
    model = small().fit(x, y[:, 0])
    with pytest.raises(ConfigError, match="has no threshold"):
        model.set_threshold(x, y[:, 0], 0.3)
