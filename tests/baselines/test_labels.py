"""Linear models, trees, networks and constants: a common interface, and their own properties."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, csr_matrix, issparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from sdlgm.baselines.forests import ForestLabels
from sdlgm.baselines.labels import ConstantLabels, MLPLabels
from sdlgm.baselines.linear_labels import (
    LinearLabels,
    LinearLoss,
    label_distribution,
    losses,
    sparsemax_loss,
)
from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators import EstimatorNotFittedError
from sdlgm.estimators.metrics import micro_f1

MAKE = {
    "logistic": lambda: LinearLabels("logistic"),
    "softmax": lambda: LinearLabels("softmax"),
    "sparsemax": lambda: LinearLabels("sparsemax"),
    "random forest": lambda: ForestLabels("random", n_estimators=15, random_state=0),
    "extra trees": lambda: ForestLabels("extra", n_estimators=15, per_label=True, random_state=0),
    "network": lambda: MLPLabels((16,), epochs=30, members=2, learning_rate=0.01, random_state=0),
    "constant": lambda: ConstantLabels(2),
}
every = pytest.mark.parametrize("name", MAKE)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(160, 6))
    y = (x @ random.normal(size=(6, 4)) + 0.3 * random.normal(size=(160, 4)) > 0.6).astype(int)
    y[y.sum(1) == 0, 0] = 1
    return x, y


@every
def test_all_baselines_share_one_interface(name: str, data) -> None:
    x, y = data
    model = MAKE[name]()
    with pytest.raises(EstimatorNotFittedError, match="not fitted yet"):
        model.predict(x)
    fitted = clone(model).fit(x[:120], y[:120])
    chances = fitted.predict_proba(x[120:])
    assert chances.shape == (40, 4)
    assert ((chances >= 0) & (chances <= 1)).all()
    assert fitted.decision_function(x[120:]).shape == (40, 4)
    chosen = fitted.predict(x[120:])
    assert set(np.unique(chosen)) <= {0, 1}
    assert (chosen.sum(1) >= 1).all()
    assert fitted.score(x[120:], y[120:]) == (chosen == y[120:]).all(1).mean()
    again = MAKE[name]().fit(x[:120], y[:120])
    np.testing.assert_array_equal(again.predict_proba(x[120:]), chances)
    if name != "constant":
        assert micro_f1(y[120:], chosen) > 0.75
        capped = clone(model).set_params(max_labels=1, threshold=0.0).fit(x[:120], y[:120])
        assert (capped.predict(x[120:]).sum(1) == 1).all()


@every
def test_sparse_data_give_the_same_predictions(name: str, data) -> None:
    x, y = data
    x = np.where(np.abs(x) > 0.5, x, 0)
    dense = MAKE[name]().fit(x, y)
    sparse = MAKE[name]().fit(csr_matrix(x), csr_array(y))
    # Sums over sparse rows have another order.
    np.testing.assert_allclose(
        sparse.predict_proba(csr_array(x)), dense.predict_proba(x), atol=1e-3
    )
    assert issparse(sparse.predict(csr_array(x)))
    assert not issparse(dense.predict(x))
    assert sparse.score(csr_array(x), csr_array(y)) == pytest.approx(dense.score(x, y), abs=0.05)


@every
def test_weights_equal_copies_of_rows(name: str, data) -> None:
    x, y = data
    if name in ("random forest", "extra trees", "network"):
        heavy = np.where(y[:80, 0] == 1, 5.0, 0.1)
        model = MAKE[name]()
        if name != "network":
            model.set_params(min_samples_leaf=10)  # weights do not change the means of pure leaves
        chances = [
            clone(model).fit(x[:80], y[:80], sample_weight=weight).predict_proba(x[80:])[:, 0]
            for weight in (heavy, None)
        ]
        assert chances[0].mean() > chances[1].mean()
        return
    weight = np.arange(160) % 3
    copies = np.repeat(np.arange(160), weight)
    by_weight = MAKE[name]().fit(x, y, sample_weight=weight)
    by_copies = MAKE[name]().fit(x[copies], y[copies])
    np.testing.assert_allclose(by_weight.predict_proba(x), by_copies.predict_proba(x), atol=1e-4)


def test_the_logistic_model_equals_that_of_scikit_learn(data) -> None:
    x, y = data
    ours = LinearLabels("logistic", l2=0.01, max_iter=1000).fit(x, y)
    for label in range(4):
        theirs = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-10, max_iter=1000)
        theirs.fit(x, y[:, label])
        np.testing.assert_allclose(ours.coef_[:, label], theirs.coef_[0], atol=1e-4)
        assert ours.intercept_[label] == pytest.approx(theirs.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("loss", get_args(LinearLoss))
def test_losses_and_gradients_match_those_of_torch(loss) -> None:
    source = torch.Generator().manual_seed(0)
    scores = (3 * torch.randn(6, 4, generator=source, dtype=torch.float64)).requires_grad_()
    y = torch.tensor([[1, 0, 0, 1.0]] * 6, dtype=torch.float64)
    target = y if loss == "logistic" else y / 2
    value, slope = losses(loss, scores, target)
    assert torch.autograd.gradcheck(lambda z: losses(loss, z, target)[0], scores)
    (expected,) = torch.autograd.grad(value.sum(), scores)
    torch.testing.assert_close(slope, expected)
    if loss == "logistic":
        theirs = F.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(-1)
    elif loss == "softmax":
        theirs = F.cross_entropy(scores, target, reduction="none")
    else:
        theirs = sparsemax_loss(scores, target)
    torch.testing.assert_close(value, theirs)


@pytest.mark.parametrize("loss", ["softmax", "sparsemax"])
def test_rows_without_labels_are_left_out(loss, data) -> None:
    x, y = data
    more = np.vstack([x, 9 + x[:20]]), np.vstack([y, 0 * y[:20]])
    fitted = [LinearLabels(loss).fit(*rows).coef_ for rows in (data, more)]
    np.testing.assert_allclose(*fitted, atol=1e-6)
    with pytest.raises(DataError, match="has a label|has any label"):
        LinearLabels(loss).fit(x, 0 * y)


@pytest.mark.parametrize("loss", get_args(LinearLoss))
def test_the_bias_is_not_penalised_and_fits_the_mean_target(loss, data) -> None:
    x, y = data
    model = LinearLabels(loss, l2=1e4, max_iter=1000).fit(x, y)
    assert np.abs(model.coef_).max() < 1e-3
    target = y if loss == "logistic" else y / y.sum(1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(x)[0], target.mean(0), atol=1e-2)


def test_probabilities_of_a_linear_model_follow_from_its_scores(data) -> None:
    x, y = data
    model = LinearLabels("sparsemax", scale=3.0).fit(x, y)
    expected = label_distribution("sparsemax", 3 * model.decision_function(x))
    np.testing.assert_array_equal(model.predict_proba(x), expected)
    np.testing.assert_array_equal(model.predict(x), expected > 0)
    assert (LinearLabels("softmax", threshold=0.9).fit(x, y).predict(x).sum(1) == 1).all()


def test_constants_predict_the_most_frequent_labels(data) -> None:
    x, y = data
    assert (ConstantLabels("all").fit(x, y).predict(x) == 1).all()
    one = ConstantLabels(1).fit(x, y).predict(x)
    assert (one.argmax(1) == y.mean(0).argmax()).all()
    np.testing.assert_allclose(ConstantLabels().fit(x, y).predict_proba(x)[0], y.mean(0))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (LinearLabels("hinge"), "loss must be one of 'logistic', 'softmax', 'sparsemax'"),
        (LinearLabels(l2=-1), "l2 must be 0 or more and finite, got -1"),
        (ForestLabels("deep"), "kind must be 'random' or 'extra'"),
        (MLPLabels(members=0), "members must be a positive integer"),
        (ConstantLabels(5), "from 1 to the number of labels, 4"),
    ],
)
def test_bad_settings_are_refused(model, message: str, data) -> None:
    with pytest.raises(ConfigError, match=message):
        model.fit(*data)


def test_bad_data_are_refused(data) -> None:
    x, y = data
    model = ConstantLabels(1)
    for call, message in (
        (lambda: model.fit(x * np.nan, y), "960 values that are not finite"),
        (lambda: model.fit(x[0], y), r"X must be rows \(n, features\)"),
        (lambda: model.fit(x, y[:5]), "160 samples and Y has 5 rows"),
        (lambda: model.fit(x, 2 * y), "0 and 1 only"),
        (lambda: model.fit(x, csr_array(2 * y)), "0 and 1 only"),
        (lambda: model.fit(x, y, sample_weight=-np.ones(160)), "160 finite numbers of 0 or more"),
        (lambda: model.fit(x, y).predict(x[:, :2]), "X has 2 features, but .* expecting 6"),
        (lambda: model.fit(x, y).score(x, y[:, :2]), "Y has 2 labels, but .* fitted on 4"),
    ):
        with pytest.raises(DataError, match=message):
            call()
