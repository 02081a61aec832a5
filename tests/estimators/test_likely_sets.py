"""Sets that are best under the model: by enumeration of all sets of labels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import make_multilabel_classification
from torch import Tensor

from sdlgm.errors import ConfigError
from sdlgm.estimators import SDLGMClassifier
from sdlgm.estimators.likely_sets import expected_f1, likely_sets

LABELS = 5


def absences(members: int = 2, rows: int = 4) -> Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.log(torch.rand(members, rows, LABELS, generator=source).double())


def f1_of_all_sets(absent: Tensor, low: int, high: int) -> dict[tuple[int, ...], float]:
    """The expected F1 of every set of at most ``high`` labels for one row, ``(members, K)``."""
    sets = [s for s in itertools.product((0, 1), repeat=LABELS) if low <= sum(s) <= high]
    present = 1 - absent.exp().numpy()
    weights = [np.prod(np.where(np.array(s), present, 1 - present), 1) for s in sets]
    share = np.array(weights) / np.sum(weights, 0)

    def f1(one: tuple[int, ...], other: tuple[int, ...]) -> float:
        total = sum(one) + sum(other)
        return 2 * sum(a * b for a, b in zip(one, other, strict=True)) / total if total else 1.0

    return {
        guess: float(sum(share[i].mean() * f1(guess, truth) for i, truth in enumerate(sets)))
        for guess in itertools.product((0, 1), repeat=LABELS)
        if sum(guess) <= high
    }


@pytest.mark.parametrize(("low", "high"), [(0, 5), (1, 3), (2, 2)])
def test_the_expected_f1_is_that_of_all_sets(low: int, high: int) -> None:
    absent = absences()
    found = expected_f1(absent, low, high)
    order = (1 - absent.exp()).mean(0).argsort(descending=True)
    for row in range(absent.shape[1]):
        exact = f1_of_all_sets(absent[:, row], low, high)
        for size in range(high + 1):
            guess = np.zeros(LABELS, int)
            guess[order[row, :size]] = 1
            assert float(found[row, size]) == pytest.approx(exact[tuple(guess)])


def test_with_independent_labels_no_set_is_better() -> None:
    absent = absences(members=1)
    chosen = likely_sets(absent, "f1", 0, LABELS)
    for row in range(absent.shape[1]):
        exact = f1_of_all_sets(absent[:, row], 0, LABELS)
        assert exact[tuple(chosen[row].tolist())] == pytest.approx(max(exact.values()))


@pytest.mark.parametrize("rule", ["counts", "f1"])
def test_sets_keep_minimum_and_maximum(rule: str) -> None:
    for absent in (absences().clamp(min=-0.01), absences().clamp(max=-9)):
        numbers = likely_sets(absent, rule, 1, 3).sum(1)
        assert numbers.min() >= 1
        assert numbers.max() <= 3


@pytest.mark.parametrize("rule", ["counts", "f1"])
def test_a_classifier_needs_no_held_out_rows_for_these_sets(rule: str, tmp_path) -> None:
    x, y = make_multilabel_classification(200, n_features=8, n_classes=5, random_state=0)
    model = SDLGMClassifier(
        members=2, folds=0, epochs=10, hidden=(16,), threshold=rule, random_state=0
    ).fit(x, y)
    predicted = model.predict(x)
    assert model.decision_ == rule
    assert predicted.sum(1).min() >= model.min_labels_
    assert predicted.sum(1).max() <= model.max_labels_
    if rule == "counts":
        np.testing.assert_array_equal(predicted.sum(1), model.predict_counts(x))
    model.save(tmp_path / "model")
    loaded = SDLGMClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(x), predicted)


def test_these_sets_cannot_be_exported() -> None:
    pytest.importorskip("onnx")
    from sdlgm.export import export_classifier

    x, y = make_multilabel_classification(60, n_features=4, n_classes=3, random_state=0)
    model = SDLGMClassifier(members=1, folds=0, epochs=1, threshold="counts", random_state=0)
    with pytest.raises(ConfigError, match="cannot be exported"):
        export_classifier(model.fit(x, y), "never-written.onnx")
