"""Bounds and gradients of structured codes against sums over all codes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from helpers import tiny_model
from sdlgm.distributions import Chain
from sdlgm.errors import ConfigError
from sdlgm.gradients import averaged, get_estimator
from sdlgm.models import SDLGM
from sdlgm.objectives.bounds import negative_elbo, nll_bound, training_objective

STRUCTURES = {
    "levels": {"levels": 3},
    "levels, factorised prior": {"levels": 3, "prior": "learned"},
    "levels, masked prior": {"levels": 3, "prior": "masked"},
    "autoregressive": {"prior": "autoregressive"},
    "mixture": {"prior": "mixture", "mixture_components": 3},
}


def structured(name: str, generator: torch.Generator, spread: float = 0.5) -> SDLGM:
    """A model of three groups of two features, with random weights."""
    settings = {"level_hidden": (6,)} if "levels" in name else {}
    if name in ("levels", "levels, masked prior", "autoregressive"):
        settings |= {"prior_hidden": (6,)}
    model = tiny_model(
        **{"features": 6, "budget": 3, "groups": 3, "prior": None, "encoder_hidden": (4,),
           **settings, **STRUCTURES[name]}
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += spread * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    return model


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return (torch.rand(4, 5, generator=generator) < 0.5).double()


def parts(model: SDLGM, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log q(z | x), log p(x | z) and log p(z) of all codes, shape ``(codes, n)``, and the codes."""
    prior, posterior = model.prior(), model(x)
    every = prior.enumerate_support().detach()
    log_q = posterior.log_prob(every.unsqueeze(1).expand(-1, len(x), -1))
    likelihood = model.data_distribution(every).base_dist.log_prob(x.unsqueeze(1)).sum(-1).T
    return log_q, likelihood, prior.log_prob(every).unsqueeze(-1), every


@pytest.mark.parametrize("name", STRUCTURES)
@torch.no_grad()
def test_the_negative_elbo_is_unbiased_and_above_the_importance_bound(
    name: str, x: Tensor, generator: torch.Generator
) -> None:
    model = structured(name, generator)
    log_q, likelihood, log_p, _ = parts(model, x)
    elbo = -(log_q.exp() * (likelihood + log_p - log_q)).sum(0)
    nll = -(likelihood + log_p).logsumexp(0)
    assert (elbo > nll).all()
    rows = x.repeat(500, 1)
    draws = torch.stack([negative_elbo(model, rows, generator=generator).total for _ in range(8)])
    draws = draws.view(-1, 4)
    error = (draws.mean(0) - elbo) / (draws.std(0) / math.sqrt(len(draws)))
    assert error.abs().max() < 4.5
    bounds = [nll_bound(model, rows, m, generator=generator).view(-1, 4) for m in (1, 8, 64)]
    means = [bound.mean(0) for bound in bounds]
    spread = bounds[0].std(0) / math.sqrt(500)
    assert ((means[0] - elbo).abs() < 4.5 * spread).all()
    assert (means[1] < means[0] + 4 * spread).all()
    assert (means[2] < means[1] + 4 * spread).all()
    assert (means[2] > nll - 4 * spread).all()


def exact_gradient(model: SDLGM, x: Tensor, weight: float, slot_cost: float) -> Tensor:
    log_q, likelihood, log_p, every = parts(model, x)
    cost = -likelihood + weight * (log_q - log_p) + slot_cost * every.sum(-1, keepdim=True)
    return flat(model, (log_q.exp() * cost).sum(0).mean())


def flat(model: SDLGM, value: Tensor) -> Tensor:
    leaves = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([slope.flatten() for slope in found])


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(
    ("estimator", "codes"),
    [("reinforce_loo", 1), ("score_function", 1), ("score_function", 3), ("reinmax", 1)],
)
def test_gradients_are_those_of_the_bound(
    name: str, estimator: str, codes: int, x: Tensor, generator: torch.Generator
) -> None:
    model = structured(name, generator)
    weight, slot_cost = 0.7, 0.2
    truth = exact_gradient(model, x, weight, slot_cost)
    method, rows = averaged(get_estimator(estimator), codes), x.repeat(250, 1)
    draws = torch.stack(
        [
            flat(
                model,
                training_objective(
                    model, rows, method,
                    kl_weight=torch.tensor(weight), slot_cost=slot_cost, generator=generator,
                )[0],
            )
            for _ in range(30)
        ]
    )  # fmt: skip
    mean, error = draws.mean(0), draws.std(0) / math.sqrt(len(draws))
    bias = (mean - truth).norm() / truth.norm()
    if estimator == "reinmax":
        assert bias < 0.25
        assert torch.cosine_similarity(mean, truth, 0) > 0.97
        return
    varies = error > 1e-9 * truth.norm()
    assert ((mean - truth)[varies] / error[varies]).abs().max() < 5.5
    torch.testing.assert_close(mean[~varies], truth[~varies])


def test_the_prior_takes_its_exact_gradient_from_each_draw(
    x: Tensor, generator: torch.Generator
) -> None:
    model = structured("autoregressive", generator)
    leaves = list(model.prior_network.parameters())
    posterior = model(x)
    _, terms = training_objective(model, x, get_estimator("reinmax"), generator=generator)
    prior = model.prior()
    assert isinstance(prior, Chain)
    source = torch.Generator().manual_seed(3)
    surrogate, _ = training_objective(model, x, get_estimator("reinmax"), generator=source)
    got = torch.autograd.grad(surrogate, leaves)
    codes = posterior.sample(generator=torch.Generator().manual_seed(3))
    q, p = posterior, prior.given(codes)
    every = q.base.enumerate_support(expand=False)  # of one group
    every = every.view(len(every), 1, 1, -1)
    cross = -(q.base.log_prob(every).exp() * p.base.log_prob(every)).sum((0, 2)).mean()
    for slope, wanted in zip(got, torch.autograd.grad(cross, leaves), strict=True):
        torch.testing.assert_close(slope, wanted)
    assert terms.total.shape == (4,)


def test_the_whole_log_ratio_of_vimco_holds_the_structure(
    x: Tensor, generator: torch.Generator
) -> None:
    model = structured("levels", generator)
    vimco = get_estimator("vimco", samples=3)
    surrogate, terms = training_objective(model, x, vimco, generator=generator)
    surrogate.backward()
    free = [p for n, p in model.named_parameters() if p.requires_grad and "temperature" not in n]
    assert all(p.grad is not None for p in free)
    assert (terms.kl_features > 0).all()
    with pytest.raises(ConfigError, match="slot_cost"):
        training_objective(model, x, vimco, slot_cost=0.1)


@pytest.mark.parametrize("estimator", ["darn", "muprop"])
def test_estimators_of_a_single_product_refuse_levels(estimator: str, x: Tensor) -> None:
    model = structured("levels", torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match="levels = 1"):
        training_objective(model, x, get_estimator(estimator))


class NoReads(TorchDispatchMode):
    """Raises where a number is read by the host, or a shape depends on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "unique"), name
        if name in ("index", "index_put_"):
            assert all(i is None or i.dtype != torch.bool for i in args[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("estimator", ["reinmax", "gumbel_softmax"])
def test_a_step_reads_no_number_back(
    name: str, estimator: str, x: Tensor, generator: torch.Generator
) -> None:
    model = structured(name, generator)
    weight = torch.tensor(0.5, dtype=torch.float64)
    with NoReads():
        surrogate, _ = training_objective(
            model, x, get_estimator(estimator), kl_weight=weight, generator=generator
        )
        surrogate.backward()
