"""Properties that hold for every distribution over codes, and for the relaxed ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from sdlgm.distributions import (
    GatedMultinomial,
    PoissonMultinomial,
    RelaxedGatedMultinomial,
    grouped_gated_multinomial,
)


@dataclass(frozen=True)
class Case:
    """A distribution as a function of its parameters."""

    make: Callable[..., Distribution]
    shapes: tuple[tuple[int, ...], ...]
    """Shapes of the parameters without batch dimensions."""
    features: int
    budget: int

    def parameters(self, batch: tuple[int, ...] = (), seed: int = 0) -> list[Tensor]:
        source = torch.Generator().manual_seed(seed)
        return [
            torch.randn((*batch, *shape), generator=source, dtype=torch.float64).requires_grad_()
            for shape in self.shapes
        ]


CODES = {
    "GatedMultinomial": Case(
        lambda *p: GatedMultinomial(3, *p, validate_args=True), ((), (4,)), 4, 3
    ),
    "Grouped, 1 group": Case(
        lambda *p: grouped_gated_multinomial(3, *p, validate_args=True), ((1,), (4,)), 4, 3
    ),
    "Grouped, 2 groups": Case(
        lambda *p: grouped_gated_multinomial(4, *p, validate_args=True), ((2,), (6,)), 6, 4
    ),
    "Grouped, Bernoulli": Case(
        lambda *p: grouped_gated_multinomial(3, *p, validate_args=True), ((3,), (3,)), 3, 3
    ),
    "PoissonMultinomial": Case(
        lambda *p: PoissonMultinomial(*p, validate_args=True), ((3, 5),), 4, 3
    ),
}
RELAXED = {
    "RelaxedGatedMultinomial": Case(
        lambda g, f: RelaxedGatedMultinomial(3, g, f, 0.7, 1.3), ((), (4,)), 4, 3
    ),
    "Grouped, relaxed": Case(
        lambda g, f: grouped_gated_multinomial(4, g, f).relax(0.7, 1.3), ((2,), (6,)), 6, 4
    ),
}
ALL = {**CODES, **RELAXED}
codes = pytest.mark.parametrize("case", CODES.values(), ids=CODES)
everything = pytest.mark.parametrize("case", ALL.values(), ids=ALL)
with_kl = pytest.mark.parametrize(
    "case", [c for n, c in CODES.items() if n != "PoissonMultinomial"],
    ids=[n for n in CODES if n != "PoissonMultinomial"],
)  # fmt: skip


@codes
@torch.no_grad()
def test_probabilities_sum_to_one_over_distinct_codes(case: Case) -> None:
    q = case.make(*case.parameters(batch=(2,)))
    support = q.enumerate_support()
    assert q.support.check(support).all()
    assert len(support.unique(dim=0)) == len(support)
    torch.testing.assert_close(q.log_prob(support).exp().sum(0), torch.ones(2).double())


@codes
@torch.no_grad()
def test_moments_and_presence_equal_enumeration(case: Case) -> None:
    q = case.make(*case.parameters(batch=(2,)))
    support = q.enumerate_support()
    probs = q.log_prob(support).exp().unsqueeze(-1)
    mean = (probs * support).sum(0)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance, (probs * support.square()).sum(0) - mean.square())
    torch.testing.assert_close(q.presence_probs, (probs * (support > 0)).sum(0))
    totals = torch.stack(
        [(probs[..., 0] * (support.sum(-1) == n)).sum(0) for n in range(case.budget + 1)]
    )
    counts = torch.arange(case.budget + 1).unsqueeze(-1)
    torch.testing.assert_close(q.total_log_prob(counts).exp(), totals)


@codes
@torch.no_grad()
def test_samples_lie_within_the_support_and_follow_log_prob(
    case: Case, generator: torch.Generator
) -> None:
    q = case.make(*case.parameters())
    z = q.sample((20_000,), generator=generator)
    assert q.support.check(z).all()
    support = q.enumerate_support(expand=False)
    probs = q.log_prob(support).exp()
    seen = (z.unsqueeze(1) == support).all(-1).double().mean(0)
    error = (probs * (1 - probs) / len(z)).sqrt()
    assert ((seen - probs).abs() <= 4.8 * error + 1e-4).all()


@everything
@pytest.mark.parametrize("sample", [(), (3,), (3, 2)])
@pytest.mark.parametrize("batch", [(), (2,)])
@torch.no_grad()
def test_samples_have_the_sample_batch_and_event_shape(
    case: Case, batch: tuple[int, ...], sample: tuple[int, ...], generator: torch.Generator
) -> None:
    q = case.make(*case.parameters(batch))
    assert (q.batch_shape, q.event_shape) == (batch, (case.features,))
    z = q.sample(sample, generator=generator)
    assert z.shape == (*sample, *batch, case.features)
    assert z.dtype == torch.float64
    assert (z >= 0).all()
    assert (z.sum(-1) <= case.budget + 1e-9).all()


@everything
def test_expand_repeats_the_distribution(case: Case) -> None:
    q = case.make(*case.parameters(batch=(2,)))
    wide = q.expand((3, 2))
    assert type(wide) is type(q)
    assert (wide.batch_shape, wide.event_shape) == ((3, 2), q.event_shape)
    z = wide.sample((4,), generator=torch.Generator().manual_seed(0))
    assert z.shape == (4, 3, 2, case.features)
    if q.has_enumerate_support:
        torch.testing.assert_close(wide.mean, q.mean.expand(3, 2, -1))
        torch.testing.assert_close(wide.log_prob(z), q.log_prob(z))


@everything
@torch.no_grad()
def test_a_seed_determines_the_samples(case: Case) -> None:
    q = case.make(*case.parameters(batch=(4,)))
    one, two, other = (
        q.sample((5,), generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@codes
def test_gradients_of_closed_forms_pass_gradcheck(case: Case) -> None:
    parameters = case.parameters()
    z = case.make(*parameters).sample((4,), generator=torch.Generator().manual_seed(0))
    totals = torch.arange(case.budget + 1)

    def closed_forms(*parameters: Tensor) -> tuple[Tensor, ...]:
        q = case.make(*parameters)
        return q.log_prob(z), q.total_log_prob(totals), q.mean, q.variance, q.presence_probs

    assert torch.autograd.gradcheck(closed_forms, parameters)


@pytest.mark.parametrize("case", RELAXED.values(), ids=RELAXED)
def test_gradients_of_relaxed_samples_pass_gradcheck(case: Case) -> None:
    def draw(*parameters: Tensor) -> Tensor:
        return case.make(*parameters).rsample((2,), generator=torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(draw, case.parameters())


@with_kl
def test_the_kl_equals_enumeration_and_passes_gradcheck(case: Case) -> None:
    of_q, of_p = case.parameters(seed=1), case.parameters(seed=2)
    q, p = case.make(*of_q), case.make(*of_p)
    support = q.enumerate_support()
    log_q, log_p = q.log_prob(support), p.log_prob(support)
    torch.testing.assert_close(kl_divergence(q, p), (log_q.exp() * (log_q - log_p)).sum())

    def divergence(*parameters: Tensor) -> Tensor:
        half = len(parameters) // 2
        return kl_divergence(case.make(*parameters[:half]), case.make(*parameters[half:]))

    assert torch.autograd.gradcheck(divergence, (*of_q, *of_p))


@codes
def test_values_outside_the_support_raise(case: Case) -> None:
    q = case.make(*case.parameters())
    outside = torch.zeros(case.features, dtype=torch.float64)
    for value in (-1.0, 0.5, case.budget + 1.0):
        outside[0] = value
        assert not q.support.check(outside)
        with pytest.raises(ValueError, match="within the support"):
            q.log_prob(outside)
