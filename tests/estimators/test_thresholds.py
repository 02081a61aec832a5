"""Thresholds with a minimum and a maximum number of labels: by hand, brute force and property."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from sdlgm.errors import ConfigError, DataError, SDLGMWarning
from sdlgm.estimators.guarantees import RecallAtLeast, choose_guaranteed
from sdlgm.estimators.label_decisions import threshold_sets
from sdlgm.estimators.metrics import macro_f1_harmonic, micro_f1
from sdlgm.estimators.thresholds import apply_counts, apply_threshold, choose_threshold, leading

seeds = st.integers(0, 10**6)


def some(seed: int, rows: int = 15, labels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and labels that correlate with them."""
    random = np.random.default_rng(seed)
    truth = (random.random((rows, labels)) < 0.4).astype(np.int64)
    return np.round(truth + random.normal(0, 1, truth.shape), 1), truth


def test_small_examples_by_hand() -> None:
    scores = [[0.9, 0.6, 0.8], [0.1, 0.3, 0.2], [0.5, 0.5, 0.5]]
    assert apply_threshold(scores, 0.5, 0).tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert apply_threshold(scores, 0.5, 1, 2).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert apply_threshold(scores, 0.5, 2, 2).tolist() == [[1, 0, 1], [0, 1, 1], [1, 1, 0]]
    # Label 1 is above its own threshold, and stays when another label is added.
    assert apply_threshold([[0.9, 0.4, 0.8]], [1.0, 0.3, 1.0], 2).tolist() == [[1, 1, 0]]
    assert apply_threshold([[0.9, 0.4, 0.8]], [1.0, 0.3, 0.3], 1, 1).tolist() == [[0, 0, 1]]
    assert apply_counts(scores, [0, 3, 2]).tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert apply_counts(scores, 1).sum(1).tolist() == [1, 1, 1]


@given(seeds, st.floats(-2, 2), st.integers(0, 3), st.integers(3, 5))
@settings(max_examples=60, deadline=None)
def test_bounds_hold_and_selected_labels_have_the_highest_scores(
    seed: int, threshold: float, low: int, high: int
) -> None:
    scores, _ = some(seed)
    chosen = apply_threshold(scores, threshold, low, high)
    numbers = chosen.sum(1)
    assert ((numbers >= low) & (numbers <= high)).all()
    np.testing.assert_array_equal(chosen, apply_counts(scores, numbers))
    free = (scores > threshold).sum(1)
    np.testing.assert_array_equal(numbers, np.clip(free, low, high))


@pytest.mark.parametrize(("rule", "metric"), [("micro", micro_f1), ("macro", macro_f1_harmonic)])
@given(seeds)
@settings(max_examples=15, deadline=None)
def test_the_chosen_threshold_is_the_highest_of_the_best_ones(rule, metric, seed: int) -> None:
    scores, truth = some(seed)
    grid = np.arange(-1.05, 2, 0.1)
    chosen = choose_threshold(scores, truth, rule, grid, 1, 3)
    values = [metric(truth, apply_threshold(scores, t, 1, 3)) for t in grid]
    assert chosen == max(t for t, value in zip(grid, values, strict=True) if value == max(values))
    assert choose_threshold(scores, csr_matrix(truth), rule, grid, 1, 3) == chosen


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_each_label_gets_the_threshold_of_its_best_f1(seed: int) -> None:
    scores, truth = some(seed)
    truth[:, 4] = 0
    chosen = choose_threshold(scores, truth, "per_label", min_labels=0)
    for k in range(4):
        if truth[:, k].any():
            own = truth[:, [k]]
            best = max(micro_f1(own, scores[:, [k]] > t) for t in np.arange(-6.05, 6, 0.1))
            assert micro_f1(own, scores[:, [k]] > chosen[k]) == pytest.approx(best)
    assert chosen[4] == choose_threshold(scores, truth, "micro", min_labels=0)
    assert set(choose_threshold(scores, truth, "per_label", [0.0, 0.5])) <= {0.0, 0.5}


def test_the_default_grid_finds_a_separating_threshold() -> None:
    random = np.random.default_rng(0)
    truth = (random.random((300, 40)) < 0.02).astype(np.int64)
    scores = 1e-4 * (truth + 0.9 * random.random(truth.shape))  # any scale will do
    chosen = choose_threshold(scores, truth, "micro", min_labels=0)
    assert micro_f1(truth, apply_threshold(scores, chosen, 0)) > 0.98
    same = np.full((4, 3), 0.5)
    assert np.isfinite(choose_threshold(same, np.ones((4, 3), int)))


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (DataError, lambda: apply_threshold([[1, np.nan]], 0), r"finite, got nan at \[0, 1\]"),
        (DataError, lambda: apply_threshold([1, 2], 0), r"shape \(n, K\), got \(2,\)"),
        (DataError, lambda: apply_threshold([[1, 2]], [0, 1, 2]), "for each of the 2 labels"),
        (ConfigError, lambda: apply_threshold([[1, 2]], 0, 3), "min_labels = 3 exceeds"),
        (ConfigError, lambda: apply_threshold([[1, 2]], 0, 2, 1), "min_labels = 2 exceeds"),
        (ConfigError, lambda: apply_threshold([[1, 2]], 0, -1), "min_labels must be an integer"),
        (ConfigError, lambda: apply_threshold([[1, 2]], 0, 1, 1.5), "max_labels must be"),
        (DataError, lambda: apply_counts([[1, 2]], [3]), "from 0 to the number of labels, 2"),
        (DataError, lambda: apply_counts([[1, 2]], [0.5]), "must be integers"),
        (DataError, lambda: choose_threshold([[1, 2]], [[1]]), r"but Y has \(1, 1\)"),
        (DataError, lambda: choose_threshold([[1, 2]], [[1, 2]]), "0 and 1 only"),
        (DataError, lambda: choose_threshold([[1, 2]], [[1, 0]], "micro", []), "at least one"),
        (ConfigError, lambda: choose_threshold([[1, 2]], [[1, 0]], "best"), "one of 'micro'"),
    ],
)
def test_invalid_arguments_are_refused(error, call, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_smoothed_thresholds_maximise_the_f1_of_averaged_targets():
    source = np.random.default_rng(3)
    scores = source.uniform(size=(12, 3))
    truth = (source.uniform(size=(12, 3)) < scores).astype(int)
    chosen = choose_threshold(scores, truth, "smoothed", min_labels=0)
    averaged = (truth + scores) / 2
    for k, threshold in enumerate(chosen):

        def f1(t: float, k: int = k) -> float:
            above = scores[:, k] > t
            return 2 * averaged[above, k].sum() / (above.sum() + averaged[:, k].sum())

        assert f1(threshold) == pytest.approx(max(f1(t) for t in [-1, *scores[:, k]]))
    with pytest.raises(DataError, match="probabilities"):
        choose_threshold(5 * scores, truth, "smoothed")


def test_the_best_labels_are_found_without_sorting_all_and_ties_go_to_the_lower_column() -> None:
    source = np.random.default_rng(0)
    for cap in (1, 3, 12, 40):
        scores = np.round(source.random((20, 60)), 1)
        proba, _ = leading(scores, np.zeros(scores.shape), cap)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :cap]
        np.testing.assert_array_equal(proba[:, :cap], np.take_along_axis(scores, order, 1))
        marked = np.zeros(scores.shape)  # hits show which columns were chosen
        np.put_along_axis(marked, order, 1.0, 1)
        assert leading(scores, marked, cap)[1][:, :cap].all()


@pytest.mark.parametrize(("labels", "cap"), [(6, 2), (60, 5)])
def test_predicted_sets_break_ties_like_the_sets_that_thresholds_are_chosen_by(
    labels: int, cap: int
) -> None:
    scores = np.random.default_rng(0).integers(0, 4, (50, labels)) / 4
    for threshold in (0.1, 0.5, 0.9):
        found = threshold_sets(torch.from_numpy(scores), threshold, 1, cap).toarray()
        np.testing.assert_array_equal(found, apply_threshold(scores, threshold, 1, cap))


def test_columns_of_two_frames_are_matched_by_name_and_rows_are_not() -> None:
    random = np.random.default_rng(0)
    truth = (random.random((60, 3)) < [0.1, 0.3, 0.6]).astype(int)
    scores = pd.DataFrame(0.4 * truth + 0.6 * random.random((60, 3)), columns=list("abc"))
    labels = pd.DataFrame(truth, columns=scores.columns)
    promise = RecallAtLeast(0.3)
    for other in (labels, labels[["c", "b", "a"]]):
        thresholds = choose_threshold(scores[other.columns[::-1]], other, "per_label")
        known = choose_threshold(scores[other.columns].to_numpy(), other.to_numpy(), "per_label")
        np.testing.assert_array_equal(thresholds, known)
        found = choose_guaranteed(scores[other.columns[::-1]], other, promise)
        assert found == choose_guaranteed(scores[other.columns].to_numpy(), other, promise)
    with pytest.warns(SDLGMWarning, match="Y and scores have the same index in another order"):
        choose_threshold(scores.iloc[::-1], labels)
    with pytest.warns(SDLGMWarning, match="Y and predicted have the same index in another order"):
        micro_f1(labels, labels.iloc[::-1])


def test_thresholds_take_labels_that_are_missing_in_a_frame() -> None:
    random = np.random.default_rng(0)
    truth = (random.random((60, 3)) < 0.4).astype(float)
    truth[random.random(truth.shape) < 0.2] = np.nan
    scores = np.where(truth > 0, 0.4, 0.0) + 0.6 * random.random((60, 3))
    frame = pd.DataFrame(truth).astype("Int64")
    assert choose_threshold(scores, frame) == choose_threshold(scores, truth)
    promise = RecallAtLeast(0.3)
    assert choose_guaranteed(scores, frame, promise) == choose_guaranteed(scores, truth, promise)
    with pytest.raises(DataError, match="MultiLabelBinarizer"):
        choose_guaranteed(scores, [{"a"}] * 60, promise)
    with pytest.raises(ConfigError, match="max_labels must be an integer"):
        choose_guaranteed(scores, truth, promise, max_labels="3")
