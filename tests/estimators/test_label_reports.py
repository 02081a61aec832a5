"""Tables about a classifier: one row a label, one row a feature."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import make_multilabel_classification
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import precision_recall_fscore_support

from sdlgm.errors import ConfigError
from sdlgm.estimators import BudgetedClassifier, EstimatorNotFittedError, SDLGMClassifier
from sdlgm.estimators.metrics import macro_f1_mean


@pytest.fixture(scope="module")
def fitted() -> tuple[SDLGMClassifier, np.ndarray, pd.DataFrame]:
    """A classifier of two labels, each of which depends on one of three features."""
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3))
    y = pd.DataFrame({"first": x[:, 0] > 0, "last": x[:, 2] > 0.5}).astype(int)
    model = SDLGMClassifier(
        members=2, epochs=20, hidden=(16,), threshold="per_label", random_state=0
    )
    return model.fit(x[:200], y[:200]), x[200:], y[200:]


def test_the_report_of_labels_is_that_of_scikit_learn(fitted) -> None:
    model, x, y = fitted
    table = model.label_report(x, y)
    assert table.index.tolist() == ["first", "last"]
    expected = precision_recall_fscore_support(y, model.predict(x))
    for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(table[column], values)
    np.testing.assert_allclose(table["threshold"], model.threshold_)
    np.testing.assert_allclose(table["expected"], model.predict_proba(x).sum(0))
    swapped = model.label_report(x, y[["last", "first"]])
    pd.testing.assert_frame_equal(swapped, table)


def test_unknown_labels_are_left_out_of_the_report(fitted) -> None:
    model, x, y = fitted
    masked = y.astype(float)
    masked.iloc[:50, 0] = np.nan
    table, half = model.label_report(x, masked), model.label_report(x[50:], y.iloc[50:])
    pd.testing.assert_series_equal(table.loc["first"], half.loc["first"])


def test_the_features_that_matter_come_first(fitted) -> None:
    model, x, y = fitted
    table = model.feature_importance(x, y, repeats=3)
    assert set(table.index[:2]) == {0, 2}
    assert table["importance"].iloc[1] > 0.1 > table["importance"].iloc[2]
    pd.testing.assert_frame_equal(model.feature_importance(x, y, repeats=3), table)
    macro = model.feature_importance(x, y, macro_f1_mean, repeats=1)
    assert set(macro.index[:2]) == {0, 2}
    with pytest.raises(ConfigError, match="pass dense rows"):
        model.feature_importance(csr_array(x), y)
    with pytest.raises(EstimatorNotFittedError):
        SDLGMClassifier().feature_importance(x, y)


def test_any_classifier_and_sparse_labels_have_reports() -> None:
    x, y = make_multilabel_classification(200, n_features=4, n_classes=3, random_state=0)
    model = BudgetedClassifier(ExtraTreesClassifier(10), folds=3, random_state=0)
    table = model.fit(x, csr_array(y)).label_report(x, csr_array(y))
    np.testing.assert_array_equal(table["support"], y.sum(0))
    assert len(model.feature_importance(x, csr_array(y), repeats=1)) == 4
    model.fit(x, y[:, 0])
    assert model.label_report(x, y[:, 0]).index.tolist() == [0, 1]


def test_logarithms_of_probabilities_may_be_infinite(fitted) -> None:
    model, x, _ = fitted
    np.testing.assert_allclose(np.exp(model.predict_log_proba(x)), model.predict_proba(x))
