"""Labels that are unknown: their likelihood, thresholds, metrics and classifiers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression

from sdlgm.baselines import ForestLabels
from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators import BudgetedClassifier, SDLGMClassifier
from sdlgm.estimators.metrics import (
    expected_calibration_error,
    label_count_error,
    macro_f1_mean,
    micro_f1,
    ndcg_at_k,
    precision_at_k,
)
from sdlgm.estimators.targets import read_labels
from sdlgm.estimators.thresholds import choose_threshold
from sdlgm.objectives.labels import label_nll


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, labels, and labels of which 30 % are unknown."""
    x, y = make_multilabel_classification(
        400, n_features=10, n_classes=5, allow_unlabeled=False, random_state=0
    )
    masked = y.astype(float)
    masked[np.random.default_rng(0).random(y.shape) < 0.3] = np.nan
    return x, y, masked


def small(**settings: object) -> SDLGMClassifier:
    options = {"members": 4, "folds": 2, "epochs": 15, "hidden": (32,), "random_state": 0}
    return SDLGMClassifier(**options | settings)


def test_the_likelihood_of_weights_of_single_labels_is_that_of_the_formula(generator) -> None:
    absent = torch.log(torch.rand(2, 3, 4, generator=generator).double()).requires_grad_()
    truth = torch.rand(2, 3, 4, generator=generator) < 0.4
    weights = torch.rand(2, 3, 4, generator=generator).double() * (truth | (absent < -0.5))
    rows, columns = truth.reshape(-1, 4).nonzero(as_tuple=True)
    dense = -torch.where(truth, torch.log1p(-absent.exp()), absent) * weights
    found = label_nll(absent, rows, columns, weights)
    torch.testing.assert_close(found, dense.sum(-1))
    assert torch.autograd.gradcheck(lambda a: label_nll(a, rows, columns, weights), absent)


def test_labels_are_read_with_what_is_unknown() -> None:
    table = np.array([[1, np.nan, 0], [0, 1, np.nan]])
    for given in (table, csr_array(table), pd.DataFrame(table, columns=list("abc"))):
        read = read_labels(given, 2)
        assert read.table.toarray().tolist() == [[1, 0, 0], [0, 1, 0]]
        assert read.unknown.toarray().tolist() == [[0, 1, 0], [0, 0, 1]]
        np.testing.assert_array_equal(read.values(), table)
    names = read_labels(pd.DataFrame(table, columns=list("abc")), 2, np.array(["c", "a", "b"]))
    assert names.unknown.toarray().tolist() == [[0, 0, 1], [1, 0, 0]]
    for kind in ("Int8", "Float64", "boolean", object):
        missing = pd.DataFrame(table).astype("Float64").astype(kind)
        np.testing.assert_array_equal(read_labels(missing, 2).values(), table)
    with pytest.raises(DataError, match="All labels in Y are unknown"):
        read_labels(np.full((2, 2), np.nan), 2)


def test_unknown_labels_change_no_metric(data) -> None:
    """They give what is left if the pairs of row and label are taken out."""
    _, y, masked = data
    scores = np.random.default_rng(1).random(y.shape)
    guess = (scores > 0.5).astype(int)
    known = ~np.isnan(masked)
    flat = masked[known][:, None], guess[known][:, None]
    assert micro_f1(masked, guess) == pytest.approx(micro_f1(*flat))
    each = [micro_f1(masked[k, i][:, None], guess[k, i][:, None]) for i, k in enumerate(known.T)]
    assert macro_f1_mean(masked, guess) == pytest.approx(np.mean(each))
    assert expected_calibration_error(masked, scores) == pytest.approx(
        expected_calibration_error(flat[0], scores[known][:, None])
    )
    whole = known.all(1)
    assert label_count_error(masked, guess.sum(1)) == pytest.approx(
        label_count_error(y[whole], guess[whole].sum(1))
    )
    last = np.array([[1.0, np.nan, 0.0]])
    assert precision_at_k(last, [[0.2, 0.9, 0.1]], 1) == 1
    assert ndcg_at_k(last, [[0.2, 0.9, 0.1]], 2) == 1


@pytest.mark.parametrize("rule", ["micro", "per_label", "smoothed"])
def test_thresholds_do_not_depend_on_what_unknown_labels_might_be(data, rule: str) -> None:
    _, y, masked = data
    scores = np.clip(0.5 * y + np.random.default_rng(1).random(y.shape) / 2, 0.01, 0.99)
    known = ~np.isnan(masked)
    grid = np.linspace(0.1, 0.9, 33)
    chosen = choose_threshold(scores, masked, rule, grid, 0)
    if rule == "micro":
        flat = choose_threshold(scores[known][:, None], masked[known][:, None], rule, grid, 0)
        assert chosen == flat
    else:
        for label, keep in enumerate(known.T):
            part = scores[keep, label][:, None], masked[keep, label][:, None]
            assert chosen[label] == choose_threshold(*part, rule, grid, 0)[0]


def test_a_weight_of_zero_is_an_unknown_label(data) -> None:
    x, y, masked = data
    unknown = small().fit(x, masked)
    weighted = small().fit(x, y, (~np.isnan(masked)).astype(float))
    np.testing.assert_array_equal(unknown.predict_proba(x), weighted.predict_proba(x))
    assert unknown.threshold_ == weighted.threshold_
    sparse = small().fit(x, csr_array(masked))
    np.testing.assert_array_equal(sparse.predict_proba(x), unknown.predict_proba(x))


def test_unknown_labels_cost_little_and_are_not_zeros(data) -> None:
    x, y, masked = data
    train, test = slice(0, 300), slice(300, None)
    models = {
        name: small(max_labels=5, min_labels=1).fit(x[train], labels[train])
        for name, labels in {"all": y, "masked": masked, "zeros": np.nan_to_num(masked)}.items()
    }
    f1 = {name: micro_f1(y[test], model.predict(x[test])) for name, model in models.items()}
    assert f1["masked"] > f1["all"] - 0.06
    shares = {name: model.predict_proba(x[test]).mean() for name, model in models.items()}
    assert abs(shares["masked"] - shares["all"]) < 0.03
    assert shares["zeros"] < shares["all"] - 0.08


def test_a_label_that_is_never_known_does_no_harm(data) -> None:
    x, _, masked = data
    labels = masked.copy()
    labels[:, 0] = np.nan
    for model in (small(), BudgetedClassifier(LogisticRegression(), random_state=0)):
        proba = model.fit(x, labels).predict_proba(x)
        assert np.isfinite(proba).all()


def test_the_score_counts_known_labels(data) -> None:
    x, y, masked = data
    model = small().fit(x, y)
    right = ((model.predict(x) == masked) | np.isnan(masked)).all(1)
    assert model.score(x, masked) == pytest.approx(right.mean())


def test_bounds_come_from_what_is_known(data) -> None:
    x, _, masked = data
    model = small(epochs=1).fit(x, masked)
    whole = ~np.isnan(masked).any(1)
    assert model.min_labels_ == masked[whole].sum(1).min()
    assert model.max_labels_ == np.nansum(masked, 1).max()


def test_patience_follows_the_known_labels(data) -> None:
    x, _, masked = data
    model = small(patience=2, epochs=6).fit(x, masked)
    assert np.isfinite([line["validation_loss"] for line in model.history_]).all()


@pytest.mark.parametrize(
    "estimator",
    [ExtraTreesClassifier(20), LogisticRegression(), small(), [small(), LogisticRegression()]],
    ids=lambda e: type(e).__name__,
)
def test_any_classifier_takes_unknown_labels(data, estimator) -> None:
    x, y, masked = data
    model = BudgetedClassifier(estimator, folds=3, random_state=0)
    model.fit(x[:300], masked[:300])
    assert micro_f1(y[300:], model.predict(x[300:])) > 0.6


def test_positive_weights_raise_probabilities(data) -> None:
    x, y, _ = data
    before = small(calibrated=False).fit(x, y).predict_proba(x).mean(0)
    for given in (3.0, [3.0, 1, 1, 1, 1], {0: 3.0}):
        after = small(positive_weight=given, calibrated=False).fit(x, y).predict_proba(x).mean(0)
        assert after[0] > before[0] + 0.05
        if given != 3.0:
            np.testing.assert_allclose(after[1:], before[1:], atol=0.05)
    for wrong in ("balanced", [1, 2], {9: 2.0}, 0.0, -1.0):
        with pytest.raises(ConfigError, match="positive_weight"):
            small(positive_weight=wrong).fit(x, y)


def test_wrong_weights_are_named(data) -> None:
    x, y, _ = data
    with pytest.raises(DataError, match="for each label of each row"):
        small().fit(x, y, np.ones((len(x), 2)))
    with pytest.raises(DataError, match="0 or more"):
        small().fit(x, y, -np.ones(y.shape))


def test_a_baseline_refuses_unknown_labels(data) -> None:
    x, _, masked = data
    with pytest.raises(DataError, match="takes no unknown labels"):
        ForestLabels("extra", n_estimators=2).fit(x, masked)
