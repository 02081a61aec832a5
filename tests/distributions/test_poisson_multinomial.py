"""Slots with their own probabilities: against brute force, tied slots, and numerical gradients."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdlgm.distributions import GatedMultinomial, PoissonMultinomial


def code(
    generator: torch.Generator, slots: int = 3, features: int = 3, batch: tuple[int, ...] = ()
) -> PoissonMultinomial:
    logits = torch.randn(*batch, slots, features + 1, generator=generator, dtype=torch.float64)
    return PoissonMultinomial(2 * logits, validate_args=True)


def brute_force(q: PoissonMultinomial) -> dict[tuple[int, ...], float]:
    """Probability of each code, summed over all sequences of slots."""
    probs, outcomes = q.slot_log_probs.exp(), q.slot_logits.shape[-1]
    table: dict[tuple[int, ...], float] = {}
    for sequence in itertools.product(range(outcomes), repeat=q.total_count):
        counts = tuple(sequence.count(k) for k in range(outcomes - 1))
        chance = math.prod(float(probs[slot, k]) for slot, k in enumerate(sequence))
        table[counts] = table.get(counts, 0.0) + chance
    return table


@settings(deadline=None, max_examples=30)
@given(slots=st.integers(1, 5), features=st.integers(1, 4), seed=st.integers(0, 1000))
def test_closed_forms_equal_enumeration_and_brute_force(
    slots: int, features: int, seed: int
) -> None:
    q = code(torch.Generator().manual_seed(seed), slots, features)
    codes = q.enumerate_support()
    probs = q.log_prob(codes).exp()
    assert len(codes.unique(dim=0)) == math.comb(features + slots, slots)
    assert probs.sum().item() == pytest.approx(1, abs=1e-10)
    table = brute_force(q)
    expected = torch.tensor([table[tuple(z)] for z in codes.int().tolist()], dtype=torch.float64)
    torch.testing.assert_close(probs, expected)
    mean = (probs[:, None] * codes).sum(0)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance, (probs[:, None] * codes**2).sum(0) - mean**2)
    torch.testing.assert_close(q.presence_probs, (probs[:, None] * (codes > 0)).sum(0))
    totals = torch.stack([probs[codes.sum(-1) == n].sum() for n in range(slots + 1)])
    torch.testing.assert_close(q.total_log_prob(torch.arange(slots + 1)).exp(), totals)


def test_tied_slots_give_a_gated_multinomial(generator: torch.Generator) -> None:
    gate = torch.randn(7, generator=generator, dtype=torch.float64)
    features = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    tied = GatedMultinomial(5, gate, features)
    q = PoissonMultinomial(tied.slot_log_probs.unsqueeze(-2).expand(7, 5, 5))
    z = tied.sample((30,), generator=generator)
    torch.testing.assert_close(q.log_prob(z), tied.log_prob(z))
    torch.testing.assert_close(q.mean, tied.mean)
    torch.testing.assert_close(q.variance, tied.variance)
    torch.testing.assert_close(q.presence_probs, tied.presence_probs)
    totals = torch.arange(6).unsqueeze(-1)
    torch.testing.assert_close(q.total_log_prob(totals), tied.total_log_prob(totals))


def test_the_order_of_slots_changes_nothing(generator: torch.Generator) -> None:
    q = code(generator, 6, 5, batch=(4,))
    shuffled = PoissonMultinomial(q.slot_logits[:, torch.randperm(6, generator=generator)])
    z = q.sample((10,), generator=generator)
    torch.testing.assert_close(shuffled.log_prob(z), q.log_prob(z))


def test_gradients_pass_gradcheck(generator: torch.Generator) -> None:
    q = code(generator, 4, 3, batch=(2,))
    z, totals = q.sample((3,), generator=generator), torch.arange(5).unsqueeze(-1)

    def value(logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q = PoissonMultinomial(logits)
        return q.log_prob(z), q.total_log_prob(totals), q.mean, q.variance, q.presence_probs

    assert torch.autograd.gradcheck(value, (q.slot_logits.requires_grad_(),))


def test_impossible_outcomes_have_finite_gradients(generator: torch.Generator) -> None:
    logits = torch.randn(3, 4, generator=generator)
    ruled_out = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]], dtype=torch.bool)
    logits = logits.masked_fill(ruled_out, -math.inf).requires_grad_()
    q = PoissonMultinomial(logits)
    z = torch.tensor([[1.0, 1, 0], [3.0, 0, 0], [0.0, 0, 0]])
    value = q.log_prob(z)
    assert value.isneginf().tolist() == [False, True, True]
    (gradient,) = torch.autograd.grad(value[0] + q.total_log_prob(torch.tensor(2)), logits)
    assert gradient.isfinite().all()


def test_twelve_slots_are_cheap_and_sum_to_one(generator: torch.Generator) -> None:
    q = code(generator, 12, 2, batch=(20,))
    total = q.log_prob(q.enumerate_support()).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_float32_is_accurate_for_improbable_codes(generator: torch.Generator) -> None:
    logits = 40 * torch.randn(8, 6, 11, generator=generator)
    z = PoissonMultinomial(torch.zeros(8, 6, 11)).sample(generator=generator)
    low = PoissonMultinomial(logits).log_prob(z)
    high = PoissonMultinomial(logits.double()).log_prob(z)
    torch.testing.assert_close(low, high.float())


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
    assert q.support.check(z).all()
    assert q.log_prob(z).shape == (*shape, *batch)
    assert q.slot_mode.shape == (*batch, 4)
    wide = q.expand((6, *batch))
    assert (wide.batch_shape, wide.event_shape, wide.total_count) == ((6, *batch), (4,), 3)
    z = wide.sample(generator=generator)
    torch.testing.assert_close(wide.log_prob(z), q.log_prob(z))


def test_slot_mode_counts_the_mode_of_each_slot() -> None:
    logits = torch.tensor([[3.0, 0, 0], [2.0, 0, 1], [0.0, 0, 1]])
    assert PoissonMultinomial(logits).slot_mode.tolist() == [2.0, 0.0]


def test_samples_depend_on_the_generator_alone(generator: torch.Generator) -> None:
    q = code(generator, 3, 5, batch=(2,))
    before = torch.get_rng_state()
    first, again = (q.sample((9,), generator=torch.Generator().manual_seed(3)) for _ in "ab")
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_invalid_arguments_raise() -> None:
    for shape in ((4,), (0, 4), (3, 1)):
        with pytest.raises(ValueError, match="needs the shape"):
            PoissonMultinomial(torch.zeros(shape))
    with pytest.raises(ValueError, match="slot_logits"):
        PoissonMultinomial(torch.full((2, 3), math.nan), validate_args=True)
    q = PoissonMultinomial(torch.zeros(2, 4), validate_args=True)
    for wrong in ([3.0, 0, 0], [-1.0, 0, 0], [0.5, 0, 0], [1.0, 1, 1]):
        with pytest.raises(ValueError, match="within the support"):
            q.log_prob(torch.tensor(wrong))
    with pytest.raises(ValueError, match="0 to total_count = 2"):
        q.total_log_prob(torch.tensor(3))


def test_only_log_prob_limits_the_number_of_slots(generator: torch.Generator) -> None:
    q = PoissonMultinomial(torch.zeros(17, 3))
    with pytest.raises(ValueError, match="at most 16 slots"):
        q.log_prob(torch.zeros(2))
    assert q.mean.tolist() == pytest.approx([17 / 3] * 2)
    probs = q.total_log_prob(torch.arange(18)).exp()
    assert probs.sum().item() == pytest.approx(1, abs=1e-5)
    assert q.sample((5,), generator=generator).shape == (5, 2)
