"""Bounds against the exact likelihood, computed by enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import kl_divergence

from helpers import tiny_model
from sdlgm.gradients import estimators, get_estimator, multi_sample
from sdlgm.models import SDLGM
from sdlgm.objectives.bounds import (
    negative_elbo,
    nll_bound,
    relaxed_objective,
    training_objective,
)


@pytest.fixture
def x(generator: torch.Generator) -> torch.Tensor:
    return (torch.rand(6, 5, generator=generator) < 0.5).float()


@torch.no_grad()
def exact(model: SDLGM, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact negative ELBO and negative log-likelihood, summed over all codes."""
    prior, posterior = model.prior(), model(x)
    codes = prior.enumerate_support()
    likelihood = (
        model.data_distribution(codes).base_dist.log_prob(x.unsqueeze(1)).sum(-1)
    )  # (n, codes)
    log_q = posterior.log_prob(codes.unsqueeze(1)).T
    log_joint = likelihood + prior.log_prob(codes)
    elbo = (log_q.exp() * (log_joint - log_q)).sum(-1)
    return -elbo, -log_joint.logsumexp(-1)


def perturbed(model: SDLGM, generator: torch.Generator) -> SDLGM:
    """Add noise to all weights, so that posterior and prior differ."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("groups", [1, 3])
def test_negative_elbo_is_unbiased(
    groups: int, x: torch.Tensor, generator: torch.Generator
) -> None:
    model = perturbed(tiny_model(groups=groups), generator)
    truth, nll = exact(model, x)
    assert (truth > nll).all()
    draws = torch.stack(
        [negative_elbo(model, x.repeat(500, 1), generator=generator).total for _ in range(8)]
    ).view(-1, 6)
    error = (draws.mean(0) - truth) / (draws.std(0) / math.sqrt(len(draws)))
    assert error.abs().max() < 4.5


def test_nll_bound_approaches_the_likelihood_with_more_samples(
    x: torch.Tensor, generator: torch.Generator
) -> None:
    model = perturbed(tiny_model(), generator)
    elbo, nll = exact(model, x)
    one = torch.stack([nll_bound(model, x, 1, generator=generator) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(one, elbo, atol=0.2, rtol=0.02)
    many = nll_bound(model, x, 40_000, generator=generator, codes_at_once=7000)
    torch.testing.assert_close(many, nll, atol=0.05, rtol=0)
    few = torch.stack([nll_bound(model, x, 10, generator=generator) for _ in range(400)]).mean(0)
    assert (few > nll - 0.05).all()
    assert (few < elbo).all()


def test_negative_elbo_averages_the_reconstruction_over_samples(
    x: torch.Tensor, generator: torch.Generator
) -> None:
    model = perturbed(tiny_model(), generator)
    truth, _ = exact(model, x)
    with torch.no_grad():
        terms = negative_elbo(model, x, samples=20_000, generator=generator)
    torch.testing.assert_close(terms.total, truth, atol=0.1, rtol=0)


def test_terms_sum_to_the_total_and_the_papers_kl_is_looser(
    x: torch.Tensor, generator: torch.Generator
) -> None:
    model = perturbed(tiny_model(), generator)
    terms = negative_elbo(model, x, generator=generator)
    divergence = kl_divergence(model(x), model.prior())
    torch.testing.assert_close(terms.kl_gates + terms.kl_features, divergence.detach())
    torch.testing.assert_close(
        terms.total, terms.reconstruction + terms.kl_gates + terms.kl_features
    )
    paper = negative_elbo(model, x, kl="paper", generator=generator)
    assert (paper.kl_features > terms.kl_features).all()
    torch.testing.assert_close(paper.kl_gates, terms.kl_gates)


def test_the_relaxed_objective_is_discrete_at_low_and_no_bound_at_high_temperatures(
    generator: torch.Generator,
) -> None:
    """Hot relaxed codes carry almost no noise, while the KL remains that of discrete codes."""
    cold = perturbed(tiny_model(gate_temperature=1e-3, feature_temperature=1e-3), generator)
    x = torch.ones(4000, 5)
    relaxed = relaxed_objective(cold, x, generator=generator).total.mean()
    hard = negative_elbo(cold, x, kl="paper", generator=generator).total.mean()
    assert relaxed.item() == pytest.approx(hard.item(), abs=0.15)

    hot = tiny_model(gate_temperature=50.0, feature_temperature=50.0)
    q = hot(x[:1])
    relaxed_codes = q.relax(50.0, 50.0).sample((2000,), generator=generator)
    assert relaxed_codes.std() < 0.05  # nearly equal draws: the KL charges for noise that is absent
    assert q.sample((2000,), generator=generator).std() > 0.3


@pytest.mark.parametrize("estimator", [n for n in estimators() if not multi_sample(n)])
def test_the_training_objective_has_gradients_for_all_networks(
    estimator: str, x: torch.Tensor, generator: torch.Generator
) -> None:
    model = tiny_model()
    surrogate, terms = training_objective(
        model, x, get_estimator(estimator), kl_weight=0.0, generator=generator
    )
    assert surrogate.item() == pytest.approx(terms.reconstruction.mean().item(), rel=1e-5)
    surrogate.backward()
    for name in ("encoder.0.weight", "sparsity.0.weight", "decoder.0.weight"):
        gradient = dict(model.named_parameters())[name].grad
        assert gradient is not None
        assert gradient.abs().sum() > 0
    assert not any(t.requires_grad for t in (terms.total, terms.codes))


def test_the_kl_weight_scales_the_gradient_of_the_kl(
    x: torch.Tensor, generator: torch.Generator
) -> None:
    model = tiny_model()
    state = generator.get_state()

    def slope(weight: float) -> torch.Tensor:
        model.zero_grad()
        generator.set_state(state)
        training_objective(
            model, x, get_estimator("reinmax"), kl_weight=weight, generator=generator
        )[0].backward()
        return model.gate_head.weight.grad.clone()  # type: ignore[union-attr]

    torch.testing.assert_close(slope(2.0) - slope(1.0), slope(1.0) - slope(0.0))


@pytest.mark.parametrize("estimator", ["reinmax", "vimco"])
def test_the_slot_cost_changes_the_gradient_but_not_the_terms(
    estimator: str, x: torch.Tensor, generator: torch.Generator
) -> None:
    model = tiny_model()
    state = generator.get_state()

    def slope(cost: float) -> tuple[torch.Tensor, torch.Tensor]:
        model.zero_grad()
        generator.set_state(state)
        surrogate, terms = training_objective(
            model, x, get_estimator(estimator), slot_cost=cost, generator=generator
        )
        surrogate.backward()
        return model.gate_head.bias.grad.clone(), terms.total  # type: ignore[union-attr]

    (with_cost, total), (without, same) = slope(0.5), slope(0.0)
    model.zero_grad()
    open_slots = model.config.budget / model.groups * torch.sigmoid(model(x).base.gate_logits)
    (0.5 * open_slots.sum(-1).mean()).backward()
    torch.testing.assert_close(with_cost - without, model.gate_head.bias.grad)
    assert torch.equal(total, same)


def test_importance_samples_must_be_positive(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        nll_bound(tiny_model(), x, 0)


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_vimco_is_unbiased_for_the_importance_weighted_bound(
    weight: float, x: torch.Tensor, generator: torch.Generator
) -> None:
    """20,000 draws against all pairs of the 20 codes, for networks, prior and posterior."""
    model = perturbed(tiny_model(), generator).double()
    x = x[:1].double()
    wanted = [model.gate_head.bias, model.feature_head.bias, model.output_head.bias]
    wanted += [model.prior_feature_logits, model.prior_gate_logits]

    posterior, prior = model(x), model.prior()
    codes = prior.enumerate_support()
    log_q = posterior.log_prob(codes.unsqueeze(1)).squeeze(1)
    likelihood = model.data_distribution(codes).log_prob(x)
    log_weight = likelihood + weight * (prior.log_prob(codes) - log_q)
    pairs = torch.cartesian_prod(*[torch.arange(len(codes))] * 2)
    bound = math.log(2) - log_weight[pairs].logsumexp(-1)
    exact_bound = (log_q[pairs].sum(-1).exp() * bound).sum()
    truth = torch.autograd.grad(exact_bound, wanted)

    vimco = get_estimator("vimco", samples=2)
    parts, values = [], []
    for _ in range(40):
        surrogate, terms = training_objective(
            model, x.expand(500, -1), vimco, kl_weight=weight, generator=generator
        )
        parts.append(torch.cat([g.flatten() for g in torch.autograd.grad(surrogate, wanted)]))
        values.append(surrogate.detach())
    got = torch.stack(parts)
    error = got.std(0) / math.sqrt(len(got))
    z = (got.mean(0) - torch.cat([g.flatten() for g in truth])) / error
    assert z[error > 1e-12].abs().max() < 4.5
    torch.testing.assert_close(torch.stack(values).mean(), exact_bound.detach(), atol=0.05, rtol=0)
    # The terms are those of the ELBO.
    torch.testing.assert_close(
        terms.kl_gates + terms.kl_features, kl_divergence(posterior, prior).detach().expand(500)
    )
    elbo = -(log_q.exp() * (likelihood + prior.log_prob(codes) - log_q)).sum()
    torch.testing.assert_close(terms.total.mean(), elbo.detach(), atol=0.3, rtol=0)
    assert not any(t.requires_grad for t in (terms.total, terms.codes))


def test_vimco_rejects_the_papers_kl(x: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="needs kl='exact', got 'paper'"):
        training_objective(tiny_model(), x, get_estimator("vimco"), kl="paper")
