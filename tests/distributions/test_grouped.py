"""Groups against enumeration, and the families of distributions they span."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, OneHotCategorical, kl_divergence

from helpers import random_code
from sdlgm.distributions import Grouped, grouped_gated_multinomial


@pytest.mark.parametrize(
    ("features", "budget", "groups"), [(3, 3, 1), (6, 4, 2), (6, 3, 3), (3, 3, 3)]
)
def test_closed_forms_equal_enumeration(
    features: int, budget: int, groups: int, generator: torch.Generator
) -> None:
    q = random_code(generator, features=features, budget=budget, groups=groups, batch=(4,))
    codes = q.enumerate_support()
    probs = q.log_prob(codes).exp()
    torch.testing.assert_close(probs.sum(0), torch.ones(4, dtype=torch.float64))
    mean = (probs[..., None] * codes).sum(0)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.mean_total, mean.sum(-1))
    torch.testing.assert_close(q.variance, (probs[..., None] * codes**2).sum(0) - mean**2)
    torch.testing.assert_close(q.presence_probs, (probs[..., None] * (codes > 0)).sum(0))
    totals = torch.arange(budget + 1).unsqueeze(-1)
    by_total = torch.stack([(probs * (codes.sum(-1) == n)).sum(0) for n in totals[:, 0]])
    torch.testing.assert_close(q.total_log_prob(totals).exp(), by_total)
    torch.testing.assert_close(q.log_prob(q.mode), q.log_prob(codes).max(0).values)
    z = q.sample((500,), generator=generator)
    assert q.support.check(z).all()
    assert q.support.check(codes).all()


@pytest.mark.parametrize("spread", [0.3, 1.0, 4.0])
@pytest.mark.parametrize(("features", "budget", "groups"), [(3, 4, 1), (4, 6, 2), (6, 3, 3)])
@pytest.mark.parametrize("power", [1, 2])
def test_the_rounded_mean_is_the_code_nearest_to_the_mean(
    features: int, budget: int, groups: int, spread: float, power: int, generator: torch.Generator
) -> None:
    q = random_code(
        generator, features=features, budget=budget, groups=groups, batch=(5,), spread=spread
    )

    def distance(codes: torch.Tensor) -> torch.Tensor:
        """Distance over the counts of all features and of the closed slots of each group."""
        off = q.split(codes - q.mean)
        return torch.cat([off, off.sum(-1, keepdim=True)], -1).abs().pow(power).sum((-2, -1))

    torch.testing.assert_close(distance(q.rounded_mean), distance(q.enumerate_support()).amin(0))
    assert q.support.check(q.rounded_mean).all()


def test_with_one_slot_per_group_the_rounded_mean_is_the_mode(generator: torch.Generator) -> None:
    q = random_code(generator, features=12, budget=4, groups=4, batch=(50,))
    assert torch.equal(q.rounded_mean, q.mode)


def test_the_rounded_mean_opens_slots_where_the_mode_is_empty() -> None:
    q = grouped_gated_multinomial(8, torch.zeros(1), torch.zeros(20))
    assert q.mode.sum() == 0
    assert q.rounded_mean.tolist() == [1.0] * 4 + [0.0] * 16


def test_open_groups_with_one_slot_are_categoricals(generator: torch.Generator) -> None:
    logits = torch.randn(20 * 10, generator=generator)
    q = grouped_gated_multinomial(20, torch.full((20,), math.inf), logits)
    p = grouped_gated_multinomial(20, torch.full((20,), math.inf), torch.zeros(200))
    torch_q = OneHotCategorical(logits=logits.view(20, 10))
    torch_p = OneHotCategorical(logits=torch.zeros(20, 10))
    z = q.sample((30,), generator=generator)
    torch.testing.assert_close(q.log_prob(z), torch_q.log_prob(q.split(z)).sum(-1))
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(torch_q, torch_p).sum())


def test_groups_with_one_feature_are_bernoullis(generator: torch.Generator) -> None:
    gates = torch.randn(200, generator=generator)
    q = grouped_gated_multinomial(200, gates, torch.zeros(200))
    p = grouped_gated_multinomial(200, torch.zeros(200), torch.zeros(200))
    z = q.sample((30,), generator=generator)
    torch.testing.assert_close(q.log_prob(z), Bernoulli(logits=gates).log_prob(z).sum(-1))
    expected = kl_divergence(Bernoulli(logits=gates), Bernoulli(logits=torch.zeros(200))).sum()
    torch.testing.assert_close(kl_divergence(q, p), expected)


def test_the_distribution_of_the_total_at_the_largest_setting(generator: torch.Generator) -> None:
    gates = torch.randn(1000, generator=generator, dtype=torch.float64)
    q = grouped_gated_multinomial(1000, gates, torch.zeros(1000, dtype=torch.float64))
    probs = q.total_log_prob(torch.arange(1001)).exp()
    assert probs.sum().item() == pytest.approx(1)
    assert (probs * torch.arange(1001)).sum().item() == pytest.approx(
        torch.sigmoid(gates).sum().item()
    )


def test_shapes_of_samples_and_expand(generator: torch.Generator) -> None:
    q = random_code(generator, batch=(2,))
    assert (q.batch_shape, q.event_shape, q.total_count) == ((2,), (6,), 4)
    wide = q.expand((5, 2))
    assert wide.batch_shape == (5, 2)
    z = wide.sample((3,), generator=generator)
    assert z.shape == (3, 5, 2, 6)
    torch.testing.assert_close(wide.log_prob(z), q.log_prob(z))


def test_invalid_arguments_raise(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="got 4 groups, 6 features"):
        grouped_gated_multinomial(4, torch.zeros(4), torch.zeros(6))
    q = random_code(generator)
    with pytest.raises(NotImplementedError, match=r"relax\(\)"):
        q.rsample()
    with pytest.raises(ValueError, match="within the support"):
        q.base.log_prob(torch.tensor([[3.0, 0, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="last batch dimension"):
        Grouped(q.base.expand((2,)).__class__(2, torch.zeros(()), torch.zeros(3)))
    relaxed = q.relax(1.0, 1.0)
    with pytest.raises(NotImplementedError, match="discrete"):
        relaxed.total_log_prob(torch.tensor(1))
    with pytest.raises(NotImplementedError, match="discrete"):
        _ = relaxed.slot_log_probs


def test_slot_log_probs_hold_the_outcomes_of_each_group(generator: torch.Generator) -> None:
    q = random_code(generator, features=6, budget=4, groups=2, batch=(5,))
    assert q.slot_log_probs.shape == (5, 2, 4)
    probs = q.slot_log_probs.exp()
    torch.testing.assert_close(probs.sum(-1), torch.ones(5, 2, dtype=torch.float64))
    torch.testing.assert_close(2 * probs[..., :-1].flatten(-2), q.mean)  # 2 slots per group
