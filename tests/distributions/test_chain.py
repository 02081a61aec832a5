"""Structured codes: sums over all codes, draws, and the closed forms of their parts."""

from __future__ import annotations

import math

import pytest
import torch

from helpers import random_code, tiny_model
from sdlgm.distributions import (
    Chain,
    GatedMultinomial,
    Grouped,
    LevelChain,
    conditionals,
    greedy,
    kl_terms,
    log_ratio,
)
from sdlgm.models import SDLGM

STRUCTURES = {
    "two levels": {"levels": 2},
    "three levels of open gates": {"levels": 3, "gates": "open"},
    "two slots a group": {"levels": 3, "budget": 6, "groups": 3},
    "autoregressive": {"prior": "autoregressive"},
    "autoregressive, two slots a group": {"prior": "autoregressive", "budget": 6},
    "autoregressive, two layers": {"prior": "autoregressive", "prior_hidden": (7, 7)},
    "mixture": {"prior": "mixture", "mixture_components": 4},
    "mixture of open gates": {"prior": "mixture", "mixture_components": 4, "gates": "open"},
    "bernoulli": {"levels": 3, "features": 3},
}


def structured(name: str, generator: torch.Generator) -> SDLGM:
    """A model of three groups with random weights."""
    model = tiny_model(
        **{"features": 6, "budget": 3, "groups": 3, "prior": None, **STRUCTURES[name]}
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.7 * torch.randn(parameter.shape, generator=generator)
    return model.double()


STRUCTURES["two levels"] |= {"budget": 4, "groups": 4, "features": 8}


def chains(model: SDLGM, generator: torch.Generator) -> list[Chain]:
    x = torch.rand(5, 5, generator=generator, dtype=torch.float64)
    found = [model.prior(), model(x)]
    return [code for code in found if isinstance(code, Chain)]


@pytest.mark.parametrize("name", STRUCTURES)
@torch.no_grad()
def test_probabilities_sum_to_one(name: str, generator: torch.Generator) -> None:
    for code in chains(structured(name, generator), generator):
        every = code.enumerate_support()
        total = code.log_prob(every).exp().sum(0)
        torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("name", STRUCTURES)
@torch.no_grad()
def test_draws_have_their_probabilities(name: str, generator: torch.Generator) -> None:
    code = chains(structured(name, generator), generator)[0]
    code = code if not code.batch_shape else code.expand((5,))
    every = code.enumerate_support()
    number = 20_000
    drawn = code.sample((number,), generator=generator)
    weights = 3.0 ** torch.arange(drawn.shape[-1], dtype=torch.float64)
    keys, of_codes = drawn @ weights, every @ weights
    if code.batch_shape:
        keys, of_codes, probs = keys[:, 0], of_codes[:, 0], code.log_prob(every).exp()[:, 0]
    else:
        probs = code.log_prob(every).exp()
    shares = torch.stack([(keys == key).double().mean() for key in of_codes])
    error = (shares - probs) / (probs * (1 - probs) / number).sqrt().clamp_min(1e-9)
    assert error[probs * number > 5].abs().max() < 5


@pytest.mark.parametrize("name", STRUCTURES)
@torch.no_grad()
def test_parts_are_the_conditionals_of_the_whole(name: str, generator: torch.Generator) -> None:
    for code in chains(structured(name, generator), generator):
        z = code.sample((4,), generator=generator)
        whole = code.given(z)
        size, groups = z.shape[-1] // code.parts, code.groups // code.parts
        for number in range(code.parts):
            part = code.part(number, z[..., : number * size])
            owned = slice(number * groups, (number + 1) * groups)
            wanted = whole.base.slot_log_probs[..., owned, :]
            torch.testing.assert_close(
                part.base.slot_log_probs.exp().expand_as(wanted), wanted.exp()
            )


@pytest.mark.parametrize("name", STRUCTURES)
@torch.no_grad()
def test_groups_see_only_those_before_them(name: str, generator: torch.Generator) -> None:
    for code in chains(structured(name, generator), generator):
        z = code.sample((1,), generator=generator)
        size = z.shape[-1] // code.groups
        for group in range(code.groups):
            changed = z.clone()
            changed[..., group * size :] = torch.rand(
                changed[..., group * size :].shape, generator=generator, dtype=z.dtype
            )
            before = code.given(z).slot_log_probs[..., : group + 1, :]
            after = code.given(changed).slot_log_probs[..., : group + 1, :]
            assert torch.equal(before, after)


@pytest.mark.parametrize("name", STRUCTURES)
def test_each_group_but_the_first_sees_some_group_before(
    name: str, generator: torch.Generator
) -> None:
    for code in chains(structured(name, generator), generator):
        z = code.sample((), generator=generator).requires_grad_()
        size = z.shape[-1] // code.parts
        for number in range(1, code.parts):
            owned = slice(number * code.groups // code.parts, None)
            wanted = code.given(z).slot_log_probs[..., owned, 0].sum()
            slope = torch.autograd.grad(wanted, z, retain_graph=True)[0]
            assert (slope[..., : number * size] != 0).any()


@torch.no_grad()
def test_the_mode_is_greedy(generator: torch.Generator) -> None:
    model = structured("two levels", generator)
    posterior = model(torch.rand(3, 5, generator=generator, dtype=torch.float64))
    first = posterior.first.mode
    assert torch.equal(posterior.mode[..., :4], first)
    assert torch.equal(posterior.mode[..., 4:], posterior.part(1, first).mode)
    assert torch.equal(greedy(posterior).mode, posterior.mode)


@torch.no_grad()
def test_a_chain_of_independent_levels_is_their_product(generator: torch.Generator) -> None:
    whole = random_code(generator, features=8, budget=4, groups=4)
    gates, features = whole.base.gate_logits, whole.base.feature_logits
    parts = [Grouped(GatedMultinomial(1, gates[s], features[s])) for s in (slice(2), slice(2, 4))]
    chain = LevelChain(parts[0], [lambda z: parts[1].expand(z.shape[:-1])])
    z = whole.sample((7,), generator=generator)
    torch.testing.assert_close(chain.log_prob(z), whole.log_prob(z))
    assert torch.equal(chain.mode, whole.mode)
    torch.testing.assert_close(kl_terms(chain.given(z), whole).total, torch.zeros(7).double())


@pytest.mark.parametrize("name", STRUCTURES)
@torch.no_grad()
def test_the_kl_of_groups_given_drawn_ones_is_unbiased(
    name: str, generator: torch.Generator
) -> None:
    model = structured(name, generator)
    posterior = model(torch.rand(5, 5, generator=generator, dtype=torch.float64))
    prior = model.prior()
    every = prior.enumerate_support(expand=False)
    every = every.reshape(len(every), 1, -1)
    log_q, log_p = posterior.log_prob(every), prior.log_prob(every)
    chosen = torch.where(log_q == -math.inf, 0.0, log_q - log_p)
    exact = (log_q.exp() * chosen).sum(0)
    given = conditionals(posterior, every), conditionals(prior, every)
    mean = (log_q.exp() * kl_terms(*given).total).sum(0)
    torch.testing.assert_close(mean, exact)
    z = posterior.sample((3,), generator=generator)
    ratio = log_ratio(conditionals(prior, z), conditionals(posterior, z), z)
    torch.testing.assert_close(ratio, prior.log_prob(z) - posterior.log_prob(z))
