"""scikit-learn's own checks; docs/scikit-learn.md explains the expected failures."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from sdlgm.estimators import BudgetedClassifier, SDLGMClassifier, SDLGMCounter, SDLGMTransformer

WEIGHTS = "mini-batches do not visit a row of weight 2 as often as two copies of it"
EXPECTED: dict[str, dict[str, str]] = {
    "SDLGMClassifier": {
        "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
        "check_sample_weight_equivalence_on_sparse_data": WEIGHTS,
    },
    "SDLGMCounter": {
        "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
        "check_sample_weight_equivalence_on_sparse_data": WEIGHTS,
        "check_estimator_sparse_array": "the check expects predict_proba of a classifier",
        "check_estimator_sparse_matrix": "the check expects predict_proba of a classifier",
    },
    "SDLGMTransformer": {},
    "BudgetedClassifier": {},
}
ESTIMATORS = [
    # The decisions that the checks expect: p > 0.5, and empty sets are allowed.
    SDLGMClassifier(
        hidden=(16,), members=2, epochs=15, batch_size=16, learning_rate=2e-2, dropout=0.0,
        input_dropout=0.0, threshold=0.5, min_labels=0, random_state=0,
    ),
    SDLGMCounter(hidden=(16,), epochs=3, batch_size=16, learning_rate=1e-2, random_state=0),
    SDLGMTransformer(epochs=20),
    BudgetedClassifier(LogisticRegression(), threshold=0.5, min_labels=0, random_state=0),
    BudgetedClassifier(
        [LogisticRegression(), ExtraTreesClassifier(5)], combine="stack", threshold=0.5,
        min_labels=0, random_state=0,
    ),
]  # fmt: skip


def expected(estimator: Any) -> dict[str, str]:
    return EXPECTED[type(estimator).__name__]


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected)
def test_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)
