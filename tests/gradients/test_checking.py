"""The checks themselves: independent exact gradients, and a wrong estimator that is detected."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from helpers import random_code
from sdlgm.distributions import GatedMultinomial
from sdlgm.gradients import Estimate, get_estimator
from sdlgm.gradients.checking import (
    FAMILIES,
    check_gradient,
    compare,
    curved_loss,
    exact_gradient,
    exact_importance_gradient,
    gradient_draws,
    random_posterior,
    uniform_prior,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_exact_gradient_equals_finite_differences(
    family: str, generator: torch.Generator
) -> None:
    """Finite differences of the mean loss over all outcomes of all slots, without a multinomial."""
    shape = FAMILIES[family]
    q, loss = random_posterior(shape, generator), curved_loss(shape.features, generator)

    def mean(features: Tensor) -> Tensor:
        moved = type(q)(GatedMultinomial(q.base.total_count, q.base.gate_logits, features))
        slots = moved.base.slot_log_probs.repeat_interleave(moved.base.total_count, 0)
        total = torch.zeros((), dtype=torch.float64)
        width = slots.shape[-1] - 1
        for outcome in torch.cartesian_prod(*[torch.arange(width + 1)] * len(slots)):
            outcome = outcome.view(-1)
            code = torch.zeros(len(q.base.feature_logits), width, dtype=torch.float64)
            for slot, held in enumerate(outcome):
                if held < width:
                    code[slot // moved.base.total_count, held] += 1
            log_prob = slots[torch.arange(len(slots)), outcome].sum()
            total = total + log_prob.exp() * loss(code.flatten())
        return total

    direction = torch.randn(q.base.feature_logits.shape, generator=generator, dtype=torch.float64)
    logits = q.base.feature_logits
    slope = (mean(logits + 1e-4 * direction) - mean(logits - 1e-4 * direction)) / 2e-4
    got = exact_gradient(q, loss)[-direction.numel() :] @ direction.flatten()
    torch.testing.assert_close(got, slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", ["one group", "categorical", "bernoulli"])
def test_with_one_importance_sample_the_bound_is_the_elbo(
    family: str, generator: torch.Generator
) -> None:
    """E[f + log q - log p] = E f + KL, whose gradient has a closed form."""
    shape = FAMILIES[family]
    q, loss = random_posterior(shape, generator), curved_loss(shape.features, generator)
    prior = uniform_prior(q)
    gates, features = q.base.gate_logits.requires_grad_(), q.base.feature_logits.requires_grad_()
    moved = type(q)(GatedMultinomial(q.base.total_count, gates, features, validate_args=False))
    kl = torch.distributions.kl_divergence(moved, prior)
    of_kl = torch.cat([g.flatten() for g in torch.autograd.grad(kl, (gates, features))])
    torch.testing.assert_close(
        exact_importance_gradient(q, loss, prior, 1), exact_gradient(q, loss) + of_kl
    )


@pytest.mark.parametrize("samples", [2, 3])
def test_vimco_is_unbiased_for_any_number_of_samples(
    samples: int, generator: torch.Generator
) -> None:
    q = random_posterior(FAMILIES["one group"], generator)
    found = check_gradient("vimco", q, curved_loss(3, generator), generator=generator,
                           samples=samples)  # fmt: skip
    assert found.max_z < 4.5
    assert found.decoder_calls == samples


def test_a_wrong_estimator_is_detected(generator: torch.Generator) -> None:
    """A gradient 5 % too long, with as much noise as signal."""

    def wrong(posterior, loss, *, generator=None) -> Estimate:
        right = get_estimator("reinforce_loo")(posterior, loss, generator=generator)
        return right._replace(surrogate=1.05 * right.surrogate)

    q, loss = random_posterior(FAMILIES["groups"], generator), curved_loss(6, generator)
    found = compare(
        gradient_draws(wrong, q, loss, 20_000, generator=generator), exact_gradient(q, loss)
    )
    assert found.max_z > 4.8
    assert math.isnan(found.decoder_calls)


def test_invalid_arguments_raise(generator: torch.Generator) -> None:
    q, loss = random_posterior(FAMILIES["groups"], generator), curved_loss(6, generator)
    with pytest.raises(ValueError, match=r"without batch dimensions, this one has \(2,\)"):
        exact_gradient(random_code(generator, batch=(2,)), loss)
    with pytest.raises(
        ValueError, match="100 codes have 1,000,000 tuples of 3, more than the limit of 100"
    ):
        exact_importance_gradient(q, loss, uniform_prior(q), 3)
    with pytest.raises(ValueError, match="needs a prior"):
        gradient_draws("vimco", q, loss, 10)

    def flat(posterior, loss, *, generator=None) -> Estimate:
        found = get_estimator("reinmax")(posterior, loss, generator=generator)
        return found._replace(surrogate=found.surrogate.mean())

    with pytest.raises(ValueError, match=r"one number per sample, shape \(10,\), got \(\)"):
        gradient_draws(flat, q, loss, 10)
