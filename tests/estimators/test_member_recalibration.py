"""Recalibration of the members' log-odds on the rows that they leave out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import make_multilabel_classification

from sdlgm.errors import ModelFileError
from sdlgm.estimators import RecallAtLeast, SDLGMClassifier
from sdlgm.estimators.member_recalibration import (
    MemberRecalibration,
    absence_log_odds,
    fit_member_recalibration,
)


def overconfident(**settings: object) -> SDLGMClassifier:
    """A classifier that knows its training rows by heart."""
    options = {
        "members": 4, "folds": 2, "epochs": 60, "hidden": (64,), "dropout": 0.0,
        "input_dropout": 0.0, "weight_decay": 0.0, "learning_rate": 1e-2, "random_state": 0,
    }  # fmt: skip
    return SDLGMClassifier(**options | settings)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return make_multilabel_classification(
        500, n_features=10, n_classes=5, allow_unlabeled=False, random_state=0
    )


def nats(model: SDLGMClassifier, x: np.ndarray, y: np.ndarray) -> float:
    proba = np.where(y, model.predict_proba(x), 1 - model.predict_proba(x))
    return float(-np.log(np.clip(proba, 1e-9, 1)).sum(1).mean())


def test_offset_and_slope_of_known_odds_are_found(generator) -> None:
    odds = 2 * torch.randn(3, 2000, 4, generator=generator, dtype=torch.float64)
    held = torch.zeros(3, 2000, dtype=torch.bool)
    held[torch.arange(2000) % 3, torch.arange(2000)] = True
    own = odds[held.T.long().argmax(1), torch.arange(2000)]
    labels = (torch.rand(2000, 4, generator=generator) < torch.sigmoid(0.4 + 0.5 * own)).double()
    found = fit_member_recalibration(odds, held, labels)
    assert found == pytest.approx((0.4, 0.5), abs=0.08)
    labels[::2] = torch.nan
    assert fit_member_recalibration(odds, held, labels) == pytest.approx((0.4, 0.5), abs=0.1)


def test_the_identity_changes_nothing_and_extremes_stay_finite() -> None:
    absent = torch.tensor([-1e-3, -0.7, -5.0])
    torch.testing.assert_close(MemberRecalibration(0.0, 1.0)(absent), absent)
    ends = torch.tensor([0.0, -200.0])
    assert MemberRecalibration(0.1, 2.0)(ends).isfinite().all()
    assert absence_log_odds(ends).isfinite().all()


def test_probabilities_of_new_rows_are_better_and_the_order_of_sets_hardly_changes(data) -> None:
    x, y = data
    raw = overconfident(calibrated=False).fit(x[:300], y[:300])
    model = overconfident().fit(x[:300], y[:300])
    assert model.network_.recalibration.slope < 0.9
    assert nats(model, x[300:], y[300:]) < nats(raw, x[300:], y[300:])
    assert (model.predict(x) == raw.predict(x)).mean() > 0.95
    np.testing.assert_allclose(model.predict_count_proba(x).sum(1), 1)


def test_rows_of_a_promise_and_rows_that_all_members_know_are_not_used(data) -> None:
    x, y = data
    for threshold in (0.5, "f1", RecallAtLeast(0.5)):
        model = overconfident(threshold=threshold, epochs=2).fit(x, y)
        assert model.network_.recalibration is None
    model = overconfident(threshold=RecallAtLeast(0.5, held_out="folds"), epochs=2).fit(x, y)
    assert model.network_.recalibration is not None
    assert overconfident(epochs=2).fit(x, y[:, 0]).network_.recalibration is None


def test_it_is_saved_and_checked(data, tmp_path) -> None:
    x, y = data
    model = overconfident(epochs=3).fit(x, y)
    model.save(tmp_path / "model")
    loaded = SDLGMClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))
    path = tmp_path / "model" / "estimator.json"
    description = json.loads(path.read_text())
    network = description["network"]["dict"]
    network["recalibration"] = {"tuple": [0.0, -1.0]}
    path.write_text(json.dumps(description))
    with pytest.raises(ModelFileError):
        SDLGMClassifier.load(tmp_path / "model")
