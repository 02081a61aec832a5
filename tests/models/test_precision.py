"""Single and half precision against double, in sums over many features and slots."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from helpers import PLAIN
from sdlgm.config import ModelConfig
from sdlgm.distributions import GatedMultinomial, Grouped, kl_terms, log_ratio
from sdlgm.gradients import get_estimator
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.objectives.bounds import negative_elbo, temperatures, training_objective

FEATURES, BUDGET, INPUTS = 20_000, 1_000, 784


def hard_model(groups: int = 1, likelihood: str = "bernoulli") -> SDLGM:
    """A model whose features have probabilities down to 1e-8 that differ from their prior's."""
    statistics = DataStatistics(torch.full((INPUTS,), 0.3), torch.ones(INPUTS), 3)
    shape = ModelConfig(
        features=FEATURES, budget=BUDGET, groups=groups, likelihood=likelihood,
        encoder_hidden=(16,), sparsity_hidden=(8,), **PLAIN,
    )  # fmt: skip
    model = SDLGM(shape, statistics)
    order = torch.Generator().manual_seed(1)
    spread = torch.linspace(-math.log(1e8), 0, FEATURES)
    with torch.no_grad():
        model.feature_head.bias.copy_(spread[torch.randperm(FEATURES, generator=order)])
        model.prior_feature_logits.copy_(spread[torch.randperm(FEATURES, generator=order)])
        model.prior_gate_logits.fill_(-3.0)
    return model


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return torch.bernoulli(torch.full((6, INPUTS), 0.3), generator=generator)


def bound(model: SDLGM, x: Tensor, codes: Tensor) -> dict[str, Tensor]:
    """Terms of the discrete bound and of the importance-weighted bound at given codes."""
    q, p = model(x), model.prior()
    divergence = kl_terms(q, p)
    found = {
        "gates": divergence.gates,
        "features": divergence.features,
        "reconstruction": -model.data_distribution(codes).log_prob(x),
        "log ratio": log_ratio(p, q, codes),
        "log q": q.log_prob(codes),
        "log p": p.log_prob(codes),
        "absence": q.absence_log_probs.sum(-1),
    }
    return {**found, "bound": found["reconstruction"] + divergence.total}


def gap(found: Tensor, exact: Tensor) -> float:
    """Largest relative error."""
    return float(((found.double() - exact).abs() / exact.abs()).max())


@pytest.mark.parametrize("groups", [1, BUDGET])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "poisson", "categorical"])
@torch.no_grad()
def test_the_bound_in_single_and_half_precision(groups: int, likelihood: str, x: Tensor) -> None:
    """Single precision is exact to 1e-5; bfloat16 to 3 %, the rounding of the networks."""
    model = hard_model(groups, likelihood)
    codes = model(x).sample(generator=torch.Generator().manual_seed(3))
    exact = bound(copy.deepcopy(model).double(), x.double(), codes.double())
    single = bound(model, x, codes)
    with torch.autocast("cpu", torch.bfloat16):
        half = bound(model, x, codes)
    for name, value in exact.items():
        assert gap(single[name], value) < 1e-5, name
        assert half[name].dtype == torch.float32
        assert gap(half[name], value) < 0.03, name


@pytest.mark.parametrize("groups", [1, BUDGET])
@torch.no_grad()
def test_distributions_compute_in_single_precision_under_autocast(groups: int, x: Tensor) -> None:
    """Sums over the logits that bfloat16 gave agree with float64."""
    model = hard_model(groups)
    with torch.autocast("cpu", torch.bfloat16):
        q, p = model(x), model.prior()
        codes = q.sample(generator=torch.Generator().manual_seed(3))
        found = [*kl_terms(q, p), log_ratio(p, q, codes), q.log_prob(codes)]
    assert {t.dtype for t in found} == {torch.float32}
    q64, p64 = (
        Grouped(
            GatedMultinomial(
                d.base.total_count, d.base.gate_logits.double(), d.base.feature_logits.double()
            )
        )
        for d in (q, p)
    )
    codes = codes.double()
    exact = [*kl_terms(q64, p64), log_ratio(p64, q64, codes), q64.log_prob(codes)]
    for value, wanted in zip(found, exact, strict=True):
        assert gap(value, wanted) < 1e-5


@torch.no_grad()
def test_counts_above_256_are_exact(x: Tensor) -> None:
    """bfloat16 cannot represent 257: a sum of ones would stop at 256."""
    model = hard_model()
    model.feature_head.bias[7] = 40.0
    model.gate_head.bias.fill_(20.0)
    with torch.autocast("cpu", torch.bfloat16):
        codes = negative_elbo(model, x).codes
        drawn = model.sample(2, torch.Generator().manual_seed(0))[0]
    assert (codes[:, 7] == BUDGET).all()
    assert (drawn == drawn.round()).all()


@pytest.mark.parametrize("estimator", ["reinmax", "gumbel_softmax"])
@pytest.mark.parametrize("half", [False, True])
def test_gradients_stay_finite(estimator: str, half: bool, x: Tensor) -> None:
    model = hard_model()
    settings = temperatures(model) if estimator == "gumbel_softmax" else {}
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss, terms = training_objective(
            model,
            x[:2],
            get_estimator(estimator, **settings),
            generator=torch.Generator().manual_seed(0),
        )
    loss.backward()
    assert terms.codes.dtype == torch.float32
    assert terms.total.isfinite().all()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
    assert all(
        part.grad.abs().sum() > 0 for part in (model.feature_head.bias, model.gate_head.bias)
    )


def test_log_probs_are_accurate_where_large_terms_cancel(generator: torch.Generator) -> None:
    """The log of the orderings is thousands of nats, the log-probability of a total a few."""
    gate, logits = torch.randn(5, generator=generator), torch.zeros(5, 1)
    single = GatedMultinomial(BUDGET, gate, logits)
    exact = GatedMultinomial(BUDGET, gate.double(), logits.double())
    total = exact.mean.sum(-1).round()
    torch.testing.assert_close(
        single.total_log_prob(total.float()).double(),
        exact.total_log_prob(total),
        rtol=3e-5,
        atol=0,
    )
    torch.testing.assert_close(
        single.log_prob(total.float().unsqueeze(-1)).double(),
        exact.log_prob(total.unsqueeze(-1)),
        rtol=3e-5,
        atol=0,
    )
