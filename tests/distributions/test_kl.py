"""Both forms of the KL, and the log-ratio of importance weights, against enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import kl_divergence

from helpers import random_code
from sdlgm.distributions import (
    GatedMultinomial,
    grouped_gated_multinomial,
    kl_terms,
    log_ratio,
)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), shape=st.sampled_from([(3, 3, 1), (4, 2, 2), (6, 4, 2)]))
def test_kl_equals_enumeration(seed: int, shape: tuple[int, int, int]) -> None:
    features, budget, groups = shape
    generator = torch.Generator().manual_seed(seed)
    q, p = (
        random_code(
            generator, features=features, budget=budget, groups=groups, batch=(3,), spread=2
        )
        for _ in range(2)
    )
    codes = q.enumerate_support()
    log_q, log_p = q.log_prob(codes), p.log_prob(codes)
    torch.testing.assert_close(kl_divergence(q, p), (log_q.exp() * (log_q - log_p)).sum(0))
    torch.testing.assert_close(log_ratio(p, q, codes), log_p - log_q)


def test_the_papers_form_equals_equations_13_and_14_and_is_looser(
    generator: torch.Generator,
) -> None:
    q, p = (random_code(generator, groups=1, batch=(5,)) for _ in range(2))
    exact, paper = kl_terms(q, p), kl_terms(q, p, "paper")
    lam, lam0 = (torch.sigmoid(c.base.gate_logits[..., 0]) for c in (q, p))
    pi, alpha = (torch.softmax(c.base.feature_logits[..., 0, :], -1) for c in (q, p))
    gates = 4 * (lam * (lam / lam0).log() + (1 - lam) * ((1 - lam) / (1 - lam0)).log())
    features = 4 * (pi * (pi / alpha).log()).sum(-1)
    torch.testing.assert_close(paper.gates, gates)
    torch.testing.assert_close(paper.features, features)
    torch.testing.assert_close(exact.gates, gates)
    torch.testing.assert_close(exact.features, lam * features)
    assert (paper.total >= exact.total).all()


def test_the_kl_of_counts_equals_the_kl_of_slot_sequences(generator: torch.Generator) -> None:
    """The KL of a sequence of slots is L0 times the KL of one slot."""
    q, p = (random_code(generator, groups=1, batch=(5,)).base for _ in range(2))
    slot = (q.slot_log_probs.exp() * (q.slot_log_probs - p.slot_log_probs)).sum(-1)
    torch.testing.assert_close(kl_divergence(q, p), 4 * slot)


def test_gradients_pass_gradcheck(generator: torch.Generator) -> None:
    leaves = [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((2,), (4,), (2,), (4,))
    ]

    def value(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        q, p = grouped_gated_multinomial(2, a, b), grouped_gated_multinomial(2, c, d)
        return torch.stack([kl_divergence(q, p), *kl_terms(q, p, "paper")])

    assert torch.autograd.gradcheck(value, leaves)


def test_open_gates_have_a_finite_kl_and_gradient(generator: torch.Generator) -> None:
    logits = torch.randn(6, generator=generator, requires_grad=True)
    gates = torch.full((3,), math.inf)
    q = grouped_gated_multinomial(3, gates, logits)
    p = grouped_gated_multinomial(3, gates, torch.zeros(6))
    value = kl_divergence(q, p)
    value.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert value.item() > 0
    z = q.sample((10,), generator=generator)
    torch.testing.assert_close(log_ratio(p, q, z), p.log_prob(z) - q.log_prob(z))


def test_the_kl_is_infinite_if_the_prior_excludes_a_probable_outcome() -> None:
    q = GatedMultinomial(2, torch.tensor(0.0), torch.zeros(2))
    p = GatedMultinomial(2, torch.tensor(math.inf), torch.zeros(2))
    assert kl_divergence(q, p) == math.inf


def test_invalid_arguments_raise(generator: torch.Generator) -> None:
    q = random_code(generator)
    with pytest.raises(ValueError, match="equal budgets and features"):
        kl_divergence(q, random_code(generator, budget=2))
    with pytest.raises(ValueError, match="equal groups"):
        kl_divergence(q, random_code(generator, groups=1))
    with pytest.raises(ValueError, match="'exact' or 'paper', got 'loose'"):
        kl_terms(q, q, "loose")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="grouped"):
        kl_terms(q, q.base)
