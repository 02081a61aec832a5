"""Metrics of label sets: worked by hand, against scikit-learn, and their inequalities."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array, csr_matrix
from sklearn.metrics import f1_score, ndcg_score, precision_score, recall_score

from sdlgm.errors import DataError
from sdlgm.estimators.metrics import (
    count_violations,
    expected_calibration_error,
    label_count_error,
    macro_f1_harmonic,
    macro_f1_mean,
    micro_f1,
    ndcg_at_k,
    precision_at_k,
    propensities,
    psp_at_k,
    recall_at_k,
)

TRUTH = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]])
GUESS = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0]])


def test_f1_scores_by_hand() -> None:
    # Label 0: TP 2, FP 1, FN 0; label 1: TP 1, FP 0, FN 1; label 2: nothing.
    assert micro_f1(TRUTH, GUESS) == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    assert macro_f1_mean(TRUTH, GUESS) == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    precision, recall = (2 / 3 + 1) / 3, (1 + 1 / 2) / 3
    expected = 2 * precision * recall / (precision + recall)
    assert macro_f1_harmonic(TRUTH, GUESS) == pytest.approx(expected)
    assert label_count_error(TRUTH, GUESS.sum(1)) == pytest.approx(2 / 3)
    assert count_violations(GUESS, 1, 1) == (0, 1)
    assert count_violations(np.zeros((4, 2)), 1) == (4, 0)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_harmonic_macro_f1_is_at_least_the_mean_and_sparse_equals_dense(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, guess = (random.random((2, 12, 5)) < random.random()).astype(np.int64)
    assert macro_f1_harmonic(truth, guess) >= macro_f1_mean(truth, guess) - 1e-12
    for metric in (micro_f1, macro_f1_mean, macro_f1_harmonic):
        value = metric(truth, guess)
        assert 0 <= value <= 1
        for kind in (csr_matrix, csr_array):
            assert metric(kind(truth), kind(guess)) == pytest.approx(value)
        there = truth.any(0)
        whole = there.any() if metric is micro_f1 else there.mean()
        assert metric(truth, truth) == pytest.approx(float(whole))
    options = {"zero_division": 0, "average": "macro"}
    assert micro_f1(truth, guess) == pytest.approx(
        f1_score(truth, guess, average="micro", zero_division=0)
    )
    assert macro_f1_mean(truth, guess) == pytest.approx(f1_score(truth, guess, **options))
    p, r = precision_score(truth, guess, **options), recall_score(truth, guess, **options)
    assert macro_f1_harmonic(truth, guess) == pytest.approx(2 * p * r / (p + r) if p + r else 0)


def test_ranking_metrics_by_hand() -> None:
    truth = np.array([[1, 0, 1, 0], [0, 0, 0, 1]])
    scores = np.array([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    assert precision_at_k(truth, scores, 1) == 0.5
    assert precision_at_k(csr_matrix(truth), scores, 3) == pytest.approx(2 / 6)
    best = 1 + 1 / np.log2(3)
    assert ndcg_at_k(truth, scores, 3) == pytest.approx((1 + 1 / np.log2(4)) / best / 2)
    assert ndcg_at_k(truth, scores, 4) == pytest.approx(
        ((1 + 1 / np.log2(4)) / best + 1 / np.log2(5)) / 2
    )
    assert precision_at_k([[0, 1]], [[0.5, 0.5]], 1) == 0  # the lower column comes first
    assert ndcg_at_k([[0, 1]], [[0.5, 0.5]], 1) == 0
    random = np.random.default_rng(1)
    truth, scores = (random.random((50, 9)) < 0.2).astype(int), random.random((50, 9))
    for k in (1, 3, 9):
        assert ndcg_at_k(truth, scores, k) == pytest.approx(ndcg_score(truth, scores, k=k))


def test_calibration_error_is_near_zero_for_sampled_labels_and_one_for_certain_errors() -> None:
    random = np.random.default_rng(0)
    probabilities = random.random((20_000, 3))
    truth = random.random(probabilities.shape) < probabilities
    assert expected_calibration_error(truth, probabilities) < 0.01
    assert expected_calibration_error([[0, 1]], [[1.0, 0.0]]) == 1
    half = np.full((4, 1), 0.5)
    assert expected_calibration_error([[1], [1], [1], [0]], half) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: micro_f1(TRUTH, GUESS[:2]), r"one shape \(n, K\), got \(3, 3\) and \(2, 3\)"),
        (lambda: precision_at_k(TRUTH, GUESS, 4), "from 1 to the number of labels, 3, got 4"),
        (lambda: precision_at_k(TRUTH, GUESS, 2.0), "k must be an integer"),
        (lambda: ndcg_at_k(TRUTH, GUESS * np.nan, 1), "must be finite"),
        (lambda: micro_f1([{"a"}, {"b"}], [{"a"}, {"c"}]), "MultiLabelBinarizer"),
        (lambda: micro_f1(np.array([["x"]], object), [[1]]), "Y must hold 0 and 1"),
        (lambda: expected_calibration_error(TRUTH, 2.0 * GUESS), r"lie in \[0, 1\], got 0 to 2"),
        (lambda: label_count_error(TRUTH, [1, 2]), "Y has 3 rows"),
    ],
)
def test_invalid_arguments_are_refused(call, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_recall_at_k_by_hand() -> None:
    truth = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
    scores = np.array([[0.9, 0.1, 0.5], [0.9, 0.5, 0.1], [0.1, 0.2, 0.3]])
    assert recall_at_k(truth, scores, 1) == pytest.approx((0.5 + 0) / 2)
    assert recall_at_k(truth, scores, 3) == 1
    assert np.isnan(recall_at_k(truth[2:], scores[2:], 1))


def test_propensities_are_those_of_the_formula() -> None:
    train = np.zeros((100, 2), int)
    train[:40, 0] = train[:1, 1] = 1
    scale = (np.log(100) - 1) * 2.5**0.55
    expected = [1 / (1 + scale * np.exp(-0.55 * np.log(n + 1.5))) for n in (40, 1)]
    np.testing.assert_allclose(propensities(train), expected)
    np.testing.assert_allclose(propensities(csr_array(train)), expected)
    assert expected[0] > expected[1]


def test_propensity_scored_precision_prefers_rare_labels() -> None:
    truth, rare = np.array([[1, 1, 0]]), [0.9, 0.1, 0.5]
    assert psp_at_k(truth, [[0.2, 0.9, 0.1]], 1, rare) == 1
    assert psp_at_k(truth, [[0.9, 0.2, 0.1]], 1, rare) == pytest.approx(0.1 / 0.9)
    assert psp_at_k(truth, [[0.9, 0.2, 0.1]], 2, rare) == 1
    equal = np.ones(3)
    assert psp_at_k(truth, [[0.9, 0.2, 0.3]], 2, equal) == precision_at_k(
        truth, [[0.9, 0.2, 0.3]], 2
    )
    with pytest.raises(DataError, match="propensity"):
        psp_at_k(truth, [[0.9, 0.2, 0.1]], 1, [0.5])


F1_SCORES = (micro_f1, macro_f1_mean, macro_f1_harmonic)


@pytest.mark.parametrize("metric", F1_SCORES)
def test_f1_scores_take_0_and_1_only(metric) -> None:
    for guess in (GUESS * 0.9, GUESS * 2, -GUESS, np.where(GUESS, np.nan, 0)):
        with pytest.raises(DataError, match="The predictions must hold 0 and 1 only, but"):
            metric(TRUTH, guess)
    for truth in (TRUTH * 0.9, TRUTH * 2, csr_array(TRUTH * 2)):
        with pytest.raises(DataError, match="Y must hold 0 and 1 only"):
            metric(truth, GUESS)
    with pytest.raises(DataError, match="Y must be a table"):
        metric(TRUTH[:, 0], GUESS[:, 0])
    assert metric(TRUTH.astype(object), GUESS > 0) == metric(TRUTH, GUESS)


@pytest.mark.parametrize("metric", [precision_at_k, recall_at_k, ndcg_at_k])
def test_rankings_need_a_table_of_labels_and_rows(metric) -> None:
    with pytest.raises(DataError, match="Y must hold 0 and 1 only"):
        metric(2 * TRUTH, GUESS, 1)
    with pytest.raises(DataError, match="Y must be a table"):
        metric(TRUTH[:, 0], GUESS[:, 0], 1)
    with pytest.raises(DataError, match="There are no scores"):
        metric(TRUTH[:0], GUESS[:0], 1)


def test_columns_of_frames_are_matched_by_name() -> None:
    truth = pd.DataFrame(TRUTH, columns=["a", "b", "c"])
    guess = pd.DataFrame(GUESS, columns=["a", "b", "c"])
    for metric in F1_SCORES:
        assert metric(truth, guess[["c", "a", "b"]]) == metric(TRUTH, GUESS)
    scores = guess * 0.8
    other = scores[["b", "c", "a"]]
    assert ndcg_at_k(truth, other, 2) == ndcg_at_k(TRUTH, scores, 2)
    assert expected_calibration_error(truth, other) == expected_calibration_error(TRUTH, scores)
    with pytest.raises(DataError, match="predicted lacks 'c'"):
        micro_f1(truth, guess[["a", "b"]])


def test_metrics_without_known_labels_are_not_a_number() -> None:
    unknown = np.full((3, 3), np.nan)
    assert np.isnan(expected_calibration_error(unknown, GUESS))
    assert np.isnan(label_count_error(unknown, GUESS.sum(1)))
    assert np.isnan(recall_at_k(unknown, GUESS, 1))


def test_numbers_of_labels_are_counted_in_lists_and_frames() -> None:
    assert count_violations(GUESS.tolist(), 1, 1) == (0, 1)
    assert count_violations(pd.DataFrame(GUESS), 2, 2) == (2, 0)
    np.testing.assert_array_equal(propensities(TRUTH.tolist()), propensities(csr_array(TRUTH)))


def test_unknown_labels_of_sparse_tables_and_frames_do_not_count() -> None:
    random = np.random.default_rng(0)
    truth = (random.random((30, 4)) < 0.4).astype(float)
    guess, scores = (random.random((30, 4)) < 0.4).astype(int), random.random((30, 4))
    truth[random.random(truth.shape) < 0.3] = np.nan
    frame = pd.DataFrame(truth).astype("Int64")
    for other in (csr_array(truth), csr_matrix(truth).tocoo(), csr_array(truth).tolil(), frame):
        for metric in (micro_f1, macro_f1_mean, macro_f1_harmonic):
            for said in (guess, csr_array(guess)):
                assert metric(other, said) == metric(truth, guess)
        for ranking in (precision_at_k, recall_at_k, ndcg_at_k):
            assert ranking(other, scores, 2) == ranking(truth, scores, 2)
        np.testing.assert_array_equal(propensities(other), propensities(truth))
        assert label_count_error(other, guess.sum(1)) == label_count_error(truth, guess.sum(1))


def test_values_at_one_place_of_a_sparse_table_add_up() -> None:
    twice = coo_array((np.ones(2), ([0, 0], [0, 0])), shape=(1, 2))
    with pytest.raises(DataError, match="others, the first 2"):
        micro_f1(twice, [[1, 0]])
