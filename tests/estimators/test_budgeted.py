"""Sets with a minimum, a maximum and promises from classifiers of scikit-learn and our own."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
)
from sklearn.exceptions import DataConversionWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators import (
    BudgetedClassifier,
    EstimatorNotFittedError,
    FalsePositivesAtMost,
    RecallAtLeast,
    SDLGMClassifier,
    UnreachableError,
)
from sdlgm.estimators.guarantees import choose_guaranteed
from sdlgm.estimators.label_fitting import member_rows
from sdlgm.estimators.recalibration import Recalibration, fit_recalibration, log_odds
from sdlgm.estimators.thresholds import apply_threshold, presence_probabilities

TREES = ExtraTreesClassifier(15, random_state=0)
LOGISTIC = LogisticRegression()
OURS = SDLGMClassifier(members=2, epochs=40, hidden=(32,))


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return make_multilabel_classification(
        300, n_features=8, n_classes=5, allow_unlabeled=False, random_state=0
    )


def test_sparse_rows_with_long_indices_suit_trees(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    short = csr_array(x)
    indices, starts = short.indices.astype(np.int64), short.indptr.astype(np.int64)
    long = csr_array((short.data, indices, starts), shape=short.shape)
    assert long.indices.dtype == np.int64
    model = BudgetedClassifier(TREES, folds=2, random_state=0)
    first, second = (clone(model).fit(rows, y) for rows in (short, long))
    np.testing.assert_array_equal(first.predict_proba(long), second.predict_proba(short))


@pytest.mark.parametrize("outer", [OneVsRestClassifier, MultiOutputClassifier])
def test_a_classifier_within_another_is_fitted_once_for_each_label(
    data: tuple[np.ndarray, np.ndarray], outer: type
) -> None:
    x, y = data
    y = np.column_stack([y, np.ones(300, int)])
    gaps = np.where(np.random.default_rng(0).random(y.shape) < 0.2, np.nan, y)
    weight = np.random.default_rng(0).random(300) + 0.1
    for labels, weights in ((y, weight), (gaps, None), (gaps, weight)):
        inner = BudgetedClassifier(LOGISTIC, random_state=0).fit(x, labels, weights)
        model = BudgetedClassifier(outer(LOGISTIC), random_state=0).fit(x, labels, weights)
        np.testing.assert_array_equal(model.predict_proba(x), inner.predict_proba(x))


@pytest.mark.parametrize("estimator", [OURS, TREES, LOGISTIC, MLPClassifier((4,), max_iter=5)])
def test_a_table_of_one_label_stays_one(
    data: tuple[np.ndarray, np.ndarray], estimator: BaseEstimator
) -> None:
    x, y = data
    if estimator is OURS:
        estimator = SDLGMClassifier(members=2, folds=2, epochs=2, hidden=(4,))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataConversionWarning)
        model = BudgetedClassifier(estimator, folds=2, random_state=0).fit(x, csr_array(y[:, :1]))
    assert model.predict_proba(x).shape == (300, 1)
    assert model.estimators_[0].predict_proba(x).shape == (300, 1)


def test_a_chain_says_what_it_cannot_do(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    model = BudgetedClassifier(ClassifierChain(LOGISTIC), random_state=0)
    message = "ClassifierChain takes only tables of known labels.*LogisticRegression"
    with pytest.raises(ConfigError, match=message):
        model.fit(x, np.where(y == y[:, :1], np.nan, y))
    with pytest.raises(ConfigError, match=message):
        model.fit(x, y[:, 0])
    with pytest.raises(ConfigError, match="ClassifierChain takes no sample_weight"):
        model.fit(x, y, np.ones(300))
    with pytest.raises(DataError, match=r"ClassifierChain.*some labels never vary \(5\)"):
        model.fit(x, np.column_stack([y, np.ones(300, int)]))


def test_what_takes_no_weights_is_named_as_it_was_passed(
    data: tuple[np.ndarray, np.ndarray],
) -> None:
    x, y = data
    model = BudgetedClassifier(make_pipeline(StandardScaler(), LOGISTIC), random_state=0)
    with pytest.raises(ConfigError, match="Pipeline takes no sample_weight. Leave"):
        model.fit(x, y, np.ones(300))
    with pytest.raises(ConfigError, match="calibrated must be True or False, got 'no'"):
        BudgetedClassifier(LOGISTIC, calibrated="no").fit(x, y)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "estimator",
    [
        TREES,
        LOGISTIC,
        HistGradientBoostingClassifier(max_iter=5),
        OneVsRestClassifier(LOGISTIC),
        MultiOutputClassifier(LOGISTIC),
        ClassifierChain(LOGISTIC),
        make_pipeline(StandardScaler(), LOGISTIC),
        MLPClassifier((16,), max_iter=200),
        OURS,
        [OURS, TREES],
        (LOGISTIC, TREES),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_any_classifier_keeps_minimum_and_maximum(estimator, data) -> None:
    x, y = data
    model = BudgetedClassifier(estimator, folds=3, random_state=0).fit(x, y)
    predicted, proba = model.predict(x), model.predict_proba(x)
    assert predicted.sum(1).min() >= 1 == model.min_labels_
    assert predicted.sum(1).max() <= model.max_labels_
    assert proba.shape == y.shape
    assert ((proba >= 0) & (proba <= 1)).all()
    assert model.score(x, y) > 0.1
    numbers = model.predict_count_proba(x)
    np.testing.assert_allclose(numbers.sum(1), 1)
    again = BudgetedClassifier(estimator, folds=3, random_state=0).fit(x, y)
    np.testing.assert_array_equal(again.predict_proba(x), proba)


def test_our_classifier_is_fitted_once(data, monkeypatch) -> None:
    x, y = data
    fits = []
    own = SDLGMClassifier.fit
    monkeypatch.setattr(
        SDLGMClassifier, "fit", lambda self, *rows: fits.append(len(rows[0])) or own(self, *rows)
    )
    ours = SDLGMClassifier(members=4, folds=2, epochs=5, hidden=(16,))
    model = BudgetedClassifier([ours, TREES], folds=3, random_state=0).fit(x, y)
    assert fits == [len(x)]
    left_out = model.estimators_[0].predict_left_out(x)
    members = member_rows(model.estimators_[0], len(x))
    absent = next(iter(model.estimators_[0].network_.absences(x.astype(np.float32))))[1]
    kept = members.held[:, 0].nonzero().ravel()
    np.testing.assert_allclose(left_out[0], 1 - absent[kept, 0].exp().mean(0), atol=1e-6)
    fits.clear()
    few = SDLGMClassifier(members=1, epochs=2, hidden=(4,))  # leaves out too few rows
    BudgetedClassifier(few, folds=3, random_state=0).fit(x, y)
    assert len(fits) == 4


def test_probabilities_are_the_mean_of_those_underneath(data) -> None:
    x, y = data
    model = BudgetedClassifier([LOGISTIC, TREES], calibrated=False, threshold=0.5).fit(x, y)
    own = [LogisticRegression().fit(x, column).predict_proba(x)[:, 1] for column in y.T]
    trees = np.stack([part[:, 1] for part in model.estimators_[1].predict_proba(x)], 1)
    np.testing.assert_allclose(model.predict_proba(x), (np.stack(own, 1) + trees) / 2)


def test_calibration_is_learned_on_rows_left_out(data) -> None:
    """Trees know the rows that they were fitted on by heart."""
    x, y = data
    model = BudgetedClassifier(TREES, random_state=0).fit(x, y)
    (slope,) = model.recalibration_.slopes
    assert 0.3 < slope < 3
    raw = BudgetedClassifier(TREES, calibrated=False, random_state=0).fit(x, y)
    assert raw.recalibration_ is None
    order, same = raw.predict_proba(x).argsort(1), model.predict_proba(x).argsort(1)
    assert (order == same).mean() > 0.9  # ties aside


def test_stacking_prefers_the_classifier_that_knows_something(data) -> None:
    x, y = data
    model = BudgetedClassifier([_Constant(), LOGISTIC], combine="stack", random_state=0)
    blind, knowing = model.fit(x, y).recalibration_.slopes
    assert blind < knowing


class _MultiOutput(BaseEstimator):
    """A classifier that takes tables of labels."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class _Constant(_MultiOutput):
    """The frequency of each label, whatever the row."""

    def fit(self, X, y):  # noqa: N803
        self.share_ = y.mean(0)
        return self

    def predict_proba(self, X):  # noqa: N803
        return np.tile(self.share_, (len(X), 1))


def test_a_promise_from_a_split_is_about_the_fitted_classifiers(data) -> None:
    x, y = data
    guarantee = FalsePositivesAtMost(1.5)
    model = BudgetedClassifier(TREES, threshold=guarantee, folds=3, random_state=0).fit(x, y)
    (held, *_) = model._held_out(len(x))
    raw = np.stack([part[:, 1] for part in model.estimators_[0].predict_proba(x[held])], 1)
    chosen = choose_guaranteed(
        raw, y[held], guarantee, min_labels=1, max_labels=model.max_labels_, seed=model.seed_
    )
    # Calibration moves the threshold, and no set.
    expected = apply_threshold(raw, chosen, 1, model.max_labels_)
    np.testing.assert_array_equal(model.predict(x[held]), expected)
    with pytest.raises(ConfigError, match="needs for itself"):
        BudgetedClassifier([TREES, LOGISTIC], combine="stack", threshold=guarantee).fit(x, y)


class Given(ClassifierMixin, _MultiOutput):
    """A classifier whose probabilities are its inputs."""

    def fit(self, X, y):  # noqa: N803
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X):  # noqa: N803
        return np.asarray(X)


def test_a_promise_counts_labels_that_correction_makes_equal_as_equal() -> None:
    certain = 1 - 10.0 ** -np.array([9, 10, 11])  # equal once they are clipped
    x = np.tile(certain, (200, 1))
    y = np.tile([0, 0, 1], (200, 1))
    model = BudgetedClassifier(Given(), threshold=RecallAtLeast(0.5), max_labels=1, random_state=0)
    with pytest.raises(UnreachableError):
        model.fit(x, y)
    model.set_params(max_labels=3, min_labels=0).fit(x, y)
    assert model.predict(x)[:, 2].all()


def test_a_score_that_equals_a_corrected_threshold_is_not_above_it() -> None:
    source = np.random.default_rng(0)
    model = BudgetedClassifier(Given(), threshold=FalsePositivesAtMost(1.0))
    for score in (0.5, 1.0):
        for _ in range(300):
            model.recalibration_ = Recalibration(source.normal(), (source.uniform(0.3, 2),))
            model.threshold_ = score
            model._recalibrate_threshold()
            corrected = torch.from_numpy(model.recalibration_(np.array([[score]])))
            assert presence_probabilities(corrected.neg().log1p()[None]) <= model.threshold_


def test_a_promise_from_folds_uses_all_rows(data) -> None:
    x, y = data
    guarantee = RecallAtLeast(0.6, held_out="folds")
    model = BudgetedClassifier(TREES, threshold=guarantee, folds=3, random_state=0).fit(x, y)
    assert model.estimators_[0].predict_proba(x)[0].max() == 1  # fitted on all rows
    predicted = model.predict(x)
    assert ((predicted == 1) & (y == 1)).sum() / y.sum() > 0.6


@pytest.mark.parametrize("rule", ["counts", "f1", "per_label", "smoothed", 0.4])
def test_all_rules_work(rule, data) -> None:
    x, y = data
    model = BudgetedClassifier(TREES, threshold=rule, folds=3, random_state=0).fit(x, y)
    assert model.predict(x).sum(1).max() <= model.max_labels_
    if rule == "counts":
        np.testing.assert_array_equal(model.predict(x).sum(1), model.predict_counts(x))


def test_mixed_columns_and_names_go_through_a_pipeline() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": random.normal(size=90), "colour": random.choice(["red", "green"], 90)}
    )
    tags = [["warm", "any"] if colour == "red" else ["any"] for colour in frame["colour"]]
    columns = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    model = BudgetedClassifier(make_pipeline(columns, LOGISTIC), folds=3, random_state=0)
    model.fit(frame, tags)
    assert model.predict_sets(frame) == [set(row) for row in tags]
    assert model.feature_names_in_.tolist() == ["size", "colour"]
    with pytest.raises(DataError, match="feature names"):
        model.predict(frame.rename(columns={"size": "weight"}))


def test_texts_go_through_a_pipeline() -> None:
    texts = ["a red rose", "a blue sky", "red sky", "blue rose"] * 10
    tags = [[word for word in text.split() if word in ("red", "sky")] for text in texts]
    model = BudgetedClassifier(make_pipeline(TfidfVectorizer(), LOGISTIC), folds=4, random_state=0)
    assert model.fit(texts, tags).predict_sets(texts) == [set(row) for row in tags]


def test_more_than_128_labels_keep_their_places() -> None:
    classes = np.repeat(np.arange(130), 2)
    X, Y = np.eye(130)[classes], np.eye(130, dtype=int)[classes]
    model = BudgetedClassifier(
        OneVsRestClassifier(LogisticRegression(tol=0.1)), threshold=0.5, calibrated=False
    ).fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X[::2]).argmax(1), np.arange(130))


def test_sparse_rows_and_labels_stay_sparse(data) -> None:
    x, y = data
    model = BudgetedClassifier(LOGISTIC, random_state=0).fit(csr_array(x), csr_array(y))
    predicted = model.predict(csr_array(x))
    assert isinstance(predicted, csr_array)
    dense = BudgetedClassifier(LOGISTIC, random_state=0).fit(x, y)
    np.testing.assert_array_equal(predicted.toarray(), dense.predict(x))


def test_stacked_classifiers_have_probabilities(data) -> None:
    x, y = data
    stacked = StackingClassifier([("one", LOGISTIC)], cv=2)
    for estimator in (stacked, make_pipeline(StandardScaler(), stacked)):
        model = BudgetedClassifier(estimator, folds=2, random_state=0).fit(x, y)
        assert model.predict_proba(x).shape == y.shape
    blind = StackingClassifier([("one", LOGISTIC)], final_estimator=LinearSVC())
    with pytest.raises(ConfigError, match="no predict_proba"):
        BudgetedClassifier(blind).fit(x, y)


def test_a_class_without_weight_has_no_probability(data) -> None:
    x, names = data[0], np.array(["b", "a", "c"])[data[1][:, :2].sum(1)]
    model = BudgetedClassifier(LOGISTIC).fit(x, names, (names != "b").astype(float))
    assert model.classes_.tolist() == ["a", "b", "c"]
    own = LogisticRegression().fit(x[names != "b"], names[names != "b"]).predict_proba(x)
    np.testing.assert_allclose(model.predict_proba(x)[:, [0, 2]], own)
    assert model.predict_proba(x)[:, 1].max() < 1e-12


def test_a_label_may_be_absent_from_a_fold(data) -> None:
    x, y = data[0], data[1].copy()
    y[:, 0] = 0
    y[0, 0] = 1
    for estimator in (TREES, LOGISTIC):
        model = BudgetedClassifier(estimator, folds=3, random_state=0).fit(x, y)
        assert np.isfinite(model.predict_proba(x)).all()


def test_weights_reach_the_classifiers(data) -> None:
    x, y = data
    weight = np.where(np.arange(len(x)) < 150, 1.0, 1e-9)
    model = BudgetedClassifier(LOGISTIC, calibrated=False, threshold=0.5, min_labels=0)
    half = model.fit(x[:150], y[:150]).predict_proba(x)
    np.testing.assert_allclose(model.fit(x, y, weight).predict_proba(x), half, atol=1e-2)
    with pytest.raises(ConfigError, match="takes no sample_weight"):
        BudgetedClassifier(make_pipeline(LOGISTIC), folds=3).fit(x, y, weight)


def test_one_class_a_sample_is_passed_on(data) -> None:
    x, y = data
    names = np.array(["no", "yes"])[y[:, 0]]
    model = BudgetedClassifier(LOGISTIC, random_state=0).fit(x, names)
    own = LogisticRegression().fit(x, names)
    assert (model.predict(x) == own.predict(x)).all()
    np.testing.assert_allclose(model.predict_proba(x), own.predict_proba(x))


def test_errors_say_what_to_do(data) -> None:
    x, y = data
    with pytest.raises(ConfigError, match="no predict_proba"):
        BudgetedClassifier(LinearSVC()).fit(x, y)
    with pytest.raises(ConfigError, match="empty list"):
        BudgetedClassifier([]).fit(x, y)
    with pytest.raises(ConfigError, match="at least 2"):
        BudgetedClassifier(TREES, folds=1).fit(x, y)
    with pytest.raises(ConfigError, match="folds = 5 for 3 rows"):
        BudgetedClassifier(TREES).fit(x[:3], y[:3])
    with pytest.raises(EstimatorNotFittedError):
        BudgetedClassifier(TREES).predict(x)


# --- recalibration ------------------------------------------------------------------------------


def test_recalibration_finds_offset_and_slope() -> None:
    random = np.random.default_rng(0)
    odds = random.normal(0, 2, (4000, 3))
    truth = (random.random(odds.shape) < 1 / (1 + np.exp(0.5 - 0.6 * odds))).astype(float)
    proba = 1 / (1 + np.exp(-odds))
    found = fit_recalibration([proba], truth)
    assert found.offset == pytest.approx(-0.5, abs=0.1)
    assert found.slopes[0] == pytest.approx(0.6, abs=0.05)
    truth[::2] = np.nan
    assert fit_recalibration([proba], truth).slopes[0] == pytest.approx(0.6, abs=0.08)


def test_recalibration_keeps_the_order_even_of_useless_scores() -> None:
    proba = np.linspace(0.1, 0.9, 30)[:, None]
    found = fit_recalibration([proba], (proba < 0.5).astype(float))
    assert found.slopes[0] > 0


def test_log_odds_are_finite() -> None:
    assert np.isfinite(log_odds(np.array([0.0, 0.5, 1.0]))).all()
    table = np.array([[0.2, 0.7]])
    np.testing.assert_allclose(Recalibration(0.0, (1.0,))(table), table)


@pytest.mark.parametrize("calibrated", [False, True])
def test_rows_without_weight_do_not_show_the_classifier_a_label(calibrated: bool) -> None:
    source = np.random.default_rng(0)
    x = source.normal(size=(60, 4))
    y = (x[:, :3] > 0.2).astype(int)
    weight = (y[:, 0] == 0).astype(float)
    model = BudgetedClassifier(LogisticRegression(), folds=2, calibrated=calibrated, random_state=0)
    model.fit(x, y, sample_weight=weight)
    assert model.predict_proba(x)[:, 0].max() < 0.01
    assert model.max_labels_ == 2
