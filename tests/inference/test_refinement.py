"""Refined posteriors: lower bounds than the encoder's that remain bounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import tiny_model
from sdlgm.data import Rows
from sdlgm.distributions import Grouped, kl_terms
from sdlgm.errors import ConfigError
from sdlgm.inference.evaluation import evaluate
from sdlgm.inference.refinement import refine_posterior
from sdlgm.models import SDLGM

X = torch.tensor([[1.0, 0, 1, 1, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
SETTINGS = [
    {"features": 3, "budget": 3, "groups": 1},
    {"features": 6, "budget": 4, "groups": 2, "joint_gates": True},
    {"features": 6, "budget": 2, "groups": 2, "gates": "open"},
    {"features": 4, "budget": 4, "groups": 4},
]


def wide_model(**settings: object) -> SDLGM:
    """A model whose codes matter, because its decoder has large weights."""
    model = tiny_model(**settings)
    with torch.no_grad():
        model.output_head.weight.mul_(8)
    return model


def exact(model: SDLGM, posterior: Grouped) -> tuple[Tensor, Tensor]:
    """Negative ELBO of each sample, and -log p(x), both by enumeration."""
    codes = posterior.enumerate_support()[:, :1]
    likelihood = model.data_distribution(codes).log_prob(X)
    elbo = kl_terms(posterior, model.prior()).total
    elbo = elbo - (posterior.log_prob(codes).exp() * likelihood).sum(0)
    return elbo, -(likelihood + model.prior().log_prob(codes)).logsumexp(0)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("settings", SETTINGS)
@torch.no_grad()
def test_refinement_lowers_the_bound_of_each_sample_and_keeps_it_a_bound(
    settings: dict[str, object],
) -> None:
    model = wide_model(**settings)
    before, evidence = exact(model, model.posterior(X))
    after, _ = exact(model, refine_posterior(model, X, 200, generator=seeded()))
    assert (after < before).all()
    assert (after >= evidence - 1e-5).all()
    assert (after - evidence).mean() < 0.5 * (before - evidence).mean()


def test_no_steps_return_the_posterior_of_the_encoder() -> None:
    model = tiny_model()
    found, own = refine_posterior(model, X, 0), model.posterior(X)
    assert torch.equal(found.base.gate_logits, own.base.gate_logits)
    assert torch.equal(found.base.feature_logits, own.base.feature_logits)


def test_the_model_does_not_change() -> None:
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    refined = refine_posterior(model, X, 3, generator=seeded())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not refined.base.gate_logits.requires_grad
    assert not refined.base.feature_logits.requires_grad


def test_open_gates_stay_open() -> None:
    model = tiny_model(features=6, budget=2, groups=2, gates="open")
    refined = refine_posterior(model, X, 5, generator=seeded())
    assert refined.base.gate_logits.isposinf().all()
    assert (refined.sample(generator=seeded()).sum(-1) == 2).all()


def test_one_seed_gives_one_posterior() -> None:
    model = tiny_model()
    one, again = (refine_posterior(model, X, 5, generator=seeded()) for _ in range(2))
    assert torch.equal(one.base.feature_logits, again.base.feature_logits)
    other = refine_posterior(model, X, 5, generator=torch.Generator().manual_seed(4))
    assert not torch.equal(one.base.feature_logits, other.base.feature_logits)


@torch.no_grad()
def test_evaluation_uses_refined_posteriors() -> None:
    model, rows = wide_model(), Rows(X.repeat(50, 1))
    plain = evaluate(model, rows, importance_samples=5)
    refined = evaluate(model, rows, importance_samples=5, refine_steps=60)
    assert (plain.refine_steps, refined.refine_steps) == (0, 60)
    assert refined.negative_elbo < plain.negative_elbo
    evidence = exact(model, model.posterior(X))[1].mean()
    assert refined.nll_bound > evidence - 0.05
    assert refined.relaxed_objective == pytest.approx(plain.relaxed_objective, abs=0.3)


def test_wrong_settings_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(ConfigError, match="must not be negative, got -1"):
        evaluate(model, Rows(X), refine_steps=-1)
    with pytest.raises(ConfigError, match="at least 1 draw and a positive rate, got 0 and 0.1"):
        refine_posterior(model, X, 1, draws=0)
