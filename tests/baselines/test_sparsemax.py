"""Sparsemax: against a bisection, its definition and its gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdlgm.baselines.linear_labels import sparsemax, sparsemax_loss


def drawn(seed: int, labels: int = 7, spread: float = 2.0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(5, labels, generator=source, dtype=torch.float64) * spread


def by_bisection(scores: torch.Tensor) -> torch.Tensor:
    """Search the tau at which the clipped scores sum to 1."""
    low, high = scores.min(-1, True).values - 1, scores.max(-1, True).values
    for _ in range(80):
        middle = (low + high) / 2
        over = (scores - middle).clamp_min(0).sum(-1, True) > 1
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    return (scores - low).clamp_min(0)


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0.01, 50))
@settings(max_examples=50, deadline=None)
def test_sparsemax_agrees_with_bisection(seed: int, labels: int, spread: float) -> None:
    scores = drawn(seed, labels, spread)
    found = sparsemax(scores)
    torch.testing.assert_close(found, by_bisection(scores), atol=1e-9, rtol=0)
    torch.testing.assert_close(found.sum(-1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(sparsemax(scores + 3), found)


def test_ties_have_equal_shares() -> None:
    expected = torch.tensor([0.5, 0.5, 0.0])
    torch.testing.assert_close(sparsemax(torch.tensor([2.0, 2.0, 0.0])), expected)
    torch.testing.assert_close(sparsemax(torch.full((4,), 9.0)), torch.full((4,), 0.25))


@pytest.mark.parametrize("number", [1, 2, 7])
def test_the_gradient_is_the_projection_minus_the_target(number: int) -> None:
    scores = drawn(number).requires_grad_()
    target = torch.zeros_like(scores)
    target[:, :number] = 1 / number
    assert torch.autograd.gradcheck(lambda z: sparsemax_loss(z, target), scores)
    assert torch.autograd.gradcheck(sparsemax, scores)
    (slope,) = torch.autograd.grad(sparsemax_loss(scores, target).sum(), scores)
    torch.testing.assert_close(slope, sparsemax(scores).detach() - target)


def test_the_loss_is_zero_at_its_target_and_positive_elsewhere() -> None:
    scores = drawn(3)
    target = sparsemax(scores)
    torch.testing.assert_close(sparsemax_loss(scores, target), torch.zeros(5, dtype=torch.float64))
    assert (sparsemax_loss(scores, target.roll(1, -1)) > 0).all()
