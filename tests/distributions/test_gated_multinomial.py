"""GatedMultinomial against enumeration, torch's Multinomial, and numerical gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Multinomial

from sdlgm.distributions import GatedMultinomial


def code(
    generator: torch.Generator, total: int = 3, features: int = 3, batch: tuple[int, ...] = ()
) -> GatedMultinomial:
    gate = torch.randn(batch, generator=generator, dtype=torch.float64)
    logits = torch.randn(*batch, features, generator=generator, dtype=torch.float64)
    return GatedMultinomial(total, gate, logits, validate_args=True)


@settings(deadline=None, max_examples=40)
@given(
    total=st.integers(1, 4),
    features=st.integers(1, 4),
    gate=st.floats(-8, 8),
    logits=st.lists(st.floats(-8, 8), min_size=4, max_size=4),
)
def test_closed_forms_equal_enumeration(
    total: int, features: int, gate: float, logits: list[float]
) -> None:
    q = GatedMultinomial(
        total,
        torch.tensor(gate, dtype=torch.float64),
        torch.tensor(logits[:features], dtype=torch.float64),
        validate_args=True,
    )
    codes = q.enumerate_support()
    probs = q.log_prob(codes).exp()
    assert len(codes) == math.comb(features + total, total)
    assert len(codes.unique(dim=0)) == len(codes)
    assert probs.sum().item() == pytest.approx(1, abs=1e-6)
    mean = (probs[:, None] * codes).sum(0)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.mean_total, mean.sum())
    torch.testing.assert_close(q.variance, (probs[:, None] * codes**2).sum(0) - mean**2)
    torch.testing.assert_close(q.presence_probs, (probs[:, None] * (codes > 0)).sum(0))
    totals = torch.stack([probs[codes.sum(-1) == n].sum() for n in range(total + 1)])
    torch.testing.assert_close(q.total_log_prob(torch.arange(total + 1)).exp(), totals)
    assert q.log_prob(q.mode) == pytest.approx(q.log_prob(codes).max().item())


def test_probabilities_sum_to_one_at_k3_l3(generator: torch.Generator) -> None:
    q = code(generator, 3, 3, batch=(50,))
    total = q.log_prob(q.enumerate_support()).exp().sum(0)
    assert (total - 1).abs().max() < 1e-6


def test_log_prob_equals_torchs_multinomial_over_k_plus_one_outcomes(
    generator: torch.Generator,
) -> None:
    q = code(generator, 5, 4, batch=(7,))
    outcomes = Multinomial(5, logits=q.slot_log_probs)
    z = q.sample((20,), generator=generator)
    full = torch.cat([z, 5 - z.sum(-1, keepdim=True)], -1)
    torch.testing.assert_close(q.log_prob(z), outcomes.log_prob(full))
    torch.testing.assert_close(q.mean, outcomes.mean[..., :-1])
    torch.testing.assert_close(q.variance, outcomes.variance[..., :-1])


def test_gradients_of_log_prob_pass_gradcheck(generator: torch.Generator) -> None:
    z = code(generator).sample((6,), generator=generator)
    gate = torch.randn((), generator=generator, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True)
    totals = torch.arange(4)

    def value(gate: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q = GatedMultinomial(3, gate, logits)
        return q.log_prob(z), q.total_log_prob(totals), q.mean, q.variance, q.presence_probs

    assert torch.autograd.gradcheck(value, (gate, logits))


def test_ten_million_codes_keep_the_budget() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = broken = 0
    while drawn < 10_000_000:
        draw = torch.randint(1, 60, (3,), generator=generator).tolist()
        total, features, scale = draw[0], draw[1], draw[2] / 4
        q = GatedMultinomial(
            total,
            scale * torch.randn(50, generator=generator),
            scale * torch.randn(50, features, generator=generator),
        )
        z = q.sample((2500,), generator=generator)
        broken += int((~q.support.check(z)).sum())
        drawn += z[..., 0].numel()
    assert broken == 0


def test_samples_follow_log_prob(generator: torch.Generator) -> None:
    q = code(generator, 3, 3)
    codes = q.enumerate_support()
    expected = 40_000 * q.log_prob(codes).exp()
    z = q.sample((40_000,), generator=generator)
    observed = (z[:, None] == codes).all(-1).sum(0)
    chi2 = ((observed - expected) ** 2 / expected).sum().item()
    assert chi2 < 45  # 99.9 % point of 19 degrees of freedom is 43.8


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("shape", [(), (4,), (4, 5)])
def test_shapes_of_samples_and_expand(
    generator: torch.Generator, batch: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    q = code(generator, 3, 4, batch)
    z = q.sample(shape, generator=generator)
    assert z.shape == (*shape, *batch, 4)
    assert q.log_prob(z).shape == (*shape, *batch)
    wide = q.expand((6, *batch))
    assert wide.batch_shape == (6, *batch)
    assert wide.event_shape == (4,)
    z = wide.sample(generator=generator)
    torch.testing.assert_close(wide.log_prob(z), q.log_prob(z))
    assert wide.total_count == 3


def test_open_gates_leave_no_slot_empty(generator: torch.Generator) -> None:
    logits = torch.randn(4, generator=generator, requires_grad=True)
    q = GatedMultinomial(5, torch.tensor(math.inf), logits, validate_args=True)
    z = q.sample((1000,), generator=generator)
    assert (z.sum(-1) == 5).all()
    value = q.log_prob(z)
    torch.testing.assert_close(value, Multinomial(5, logits=logits).log_prob(z))
    assert q.log_prob(torch.zeros(4)) == -math.inf
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.isfinite().all()


def test_one_feature_under_one_slot_is_a_bernoulli(generator: torch.Generator) -> None:
    q = GatedMultinomial(1, torch.tensor(0.7), torch.zeros(1))
    bernoulli = torch.distributions.Bernoulli(logits=torch.tensor(0.7))
    z = torch.tensor([[0.0], [1.0]])
    torch.testing.assert_close(q.log_prob(z), bernoulli.log_prob(z)[:, 0])


@pytest.mark.parametrize(("features", "total"), [(100_000, 50), (1, 1000), (100_000, 1000)])
def test_large_codes_are_accurate(features: int, total: int, generator: torch.Generator) -> None:
    q = GatedMultinomial(
        total, torch.zeros(4), torch.randn(4, features, generator=generator), validate_args=True
    )
    z = q.sample(generator=generator)
    assert q.support.check(z).all()
    assert q.log_prob(z).isfinite().all()
    assert q.mean.sum(-1).tolist() == pytest.approx([total / 2] * 4, rel=1e-4)
    assert q.support.check(q.mode).all()


def test_samples_depend_on_the_generator_alone_and_leave_the_global_one() -> None:
    q = GatedMultinomial(3, torch.zeros(2), torch.zeros(2, 5))
    before = torch.get_rng_state()
    first = q.sample((50,), generator=torch.Generator().manual_seed(3))
    again = q.sample((50,), generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, q.sample((50,), generator=torch.Generator().manual_seed(4)))


@pytest.mark.parametrize("total", [0, -1, 2.0, True])
def test_an_invalid_budget_raises(total: object) -> None:
    with pytest.raises(ValueError, match="total_count must be a positive integer"):
        GatedMultinomial(total, torch.zeros(()), torch.zeros(3))  # type: ignore[arg-type]


def test_invalid_arguments_raise() -> None:
    nan = torch.tensor(float("nan"))
    with pytest.raises(ValueError, match="gate_logits"):
        GatedMultinomial(2, nan, torch.zeros(3), validate_args=True)
    with pytest.raises(ValueError, match="feature_logits"):
        GatedMultinomial(2, torch.zeros(()), torch.stack([nan, nan]), validate_args=True)
    with pytest.raises(ValueError, match="K >= 1"):
        GatedMultinomial(2, torch.zeros(()), torch.zeros(()))
    q = GatedMultinomial(2, torch.zeros(()), torch.zeros(3), validate_args=True)
    for wrong in ([3.0, 0, 0], [-1.0, 0, 0], [0.5, 0, 0], [1.0, 1, 1]):
        with pytest.raises(ValueError, match="within the support"):
            q.log_prob(torch.tensor(wrong))
    with pytest.raises(ValueError, match="0 to total_count = 2"):
        q.total_log_prob(torch.tensor(3))
    with pytest.raises(ValueError, match="sample instead"):
        GatedMultinomial(50, torch.zeros(()), torch.zeros(50)).enumerate_support()
