"""Codes as symbols: exact round trips at the cost of the counts, for any weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from sdlgm.codec.ans import Stack
from sdlgm.codec.symbols import CodeCoder, binomial, slot_counts
from sdlgm.distributions import grouped_gated_multinomial


def draw(
    rows: int, groups: int, slots: int, features: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of a random distribution, and its weights, "closed" last."""
    random = np.random.default_rng(seed)
    weights = random.integers(1, 1000, (groups, features + 1))
    shares = weights / weights.sum(-1, keepdims=True)
    parts = [random.multinomial(slots, share, rows)[:, :-1] for share in shares]
    return np.concatenate(parts, 1).astype(np.int32), weights


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(0, 20),
    groups=st.integers(1, 4),
    slots=st.integers(1, 6),
    features=st.integers(1, 9),
    seed=st.integers(0, 999),
    own=st.booleans(),
)
def test_codes_survive_a_round_trip(
    rows: int, groups: int, slots: int, features: int, seed: int, own: bool
) -> None:
    codes, weights = draw(rows, groups, slots, features, seed)
    if own:  # other weights for each row
        weights = np.random.default_rng(seed).integers(1, 99, (rows, *weights.shape))
    coder, stack = CodeCoder(weights, slots), Stack()
    coder.push(stack, codes)
    again = Stack(stack.content())
    assert np.array_equal(coder.pop(again, rows), codes)
    assert again.empty


@settings(deadline=None, max_examples=30)
@given(slots=st.integers(1, 5), seed=st.integers(0, 999))
def test_popping_random_bits_and_pushing_the_codes_gives_the_bits_back(
    slots: int, seed: int
) -> None:
    """Bits-back coding needs the inverse in this order, too."""
    _, weights = draw(1, 2, slots, 5, seed)
    coder = CodeCoder(weights, slots)
    bits = np.random.default_rng(seed).integers(1, 2**32, 40, np.uint32).astype("<u4").tobytes()
    stack = Stack(bits)
    codes = coder.pop(stack, 30)
    assert (codes.reshape(30, 2, -1).sum(-1) <= slots).all()
    assert stack.bits < 8 * len(bits)
    coder.push(stack, codes)
    assert stack.content() == bits


@pytest.mark.parametrize(("groups", "slots", "features"), [(6, 1, 4), (1, 12, 30), (2, 3, 5)])
def test_the_size_is_minus_the_log_probability_of_the_counts(
    groups: int, slots: int, features: int
) -> None:
    codes, weights = draw(3000, groups, slots, features, 0)
    stack = Stack()
    CodeCoder(weights, slots).push(stack, codes)
    log_weights = torch.from_numpy(weights).double().log()
    features_first = torch.logsumexp(log_weights[:, :-1], -1)
    code = grouped_gated_multinomial(
        groups * slots, features_first - log_weights[:, -1], log_weights[:, :-1].flatten()
    )
    limit = -code.log_prob(torch.from_numpy(codes).double()).sum().item() / math.log(2)
    assert stack.bits == pytest.approx(limit, rel=1e-3)


def test_outcomes_that_never_occur_cost_nothing_and_are_never_decoded() -> None:
    codes = np.array([[0, 2, 0, 0, 1], [0, 1, 0, 0, 2]], np.int32)
    weights = slot_counts(codes, 1, 3)
    assert weights.tolist() == [[0, 3, 0, 0, 3, 0]]
    coder, stack = CodeCoder(weights, 3), Stack()
    coder.push(stack, codes)
    assert np.array_equal(coder.pop(stack, 2), codes)
    everything_closed = CodeCoder(np.array([[0, 0, 0, 7]]), 3)
    everything_closed.push(stack, np.zeros((5, 3), np.int32))
    assert stack.empty
    assert not everything_closed.pop(stack, 5).any()


@pytest.mark.parametrize("number", [1, 2, 40, 1000])
def test_binomial_weights_are_those_of_scipy(number: int) -> None:
    left, right = np.array([1, 5, 2**40]), np.array([2**30, 7, 3])
    found = binomial(number, left, right)
    expected = binom.pmf(np.arange(number + 1), number, (left / (left + right))[:, None])
    np.testing.assert_allclose(found / found.sum(1, keepdims=True), expected, atol=1e-12)
