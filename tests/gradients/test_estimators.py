"""Properties of the estimators other than their bias: special cases, codes, parameters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from helpers import random_code
from sdlgm.distributions import Grouped, grouped_gated_multinomial
from sdlgm.gradients import estimators, get_estimator, multi_sample
from sdlgm.gradients.checking import (
    FAMILIES,
    compare,
    curved_loss,
    exact_gradient,
    gradient_draws,
    random_posterior,
)

SINGLE = [name for name in estimators() if not multi_sample(name)]
HARD = [name for name in estimators() if name != "gumbel_softmax"]
DRAWS = 20_000
# Slots of two outcomes, for which DARN is exact for quadratic losses.
PAIRS = ("bernoulli",)


def leaves(q: Grouped) -> tuple[Tensor, Tensor]:
    """The logits of a random_code."""
    return q.base.gate_logits, q.base.feature_logits


def flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([g.reshape(-1) for g in gradients])


def quadratic(features: int, generator: torch.Generator):
    matrix = torch.randn(features, features, generator=generator, dtype=torch.float64)
    return lambda z: ((z @ matrix) * z).sum(-1) + z.sum(-1)


@pytest.mark.parametrize("family", FAMILIES)
def test_estimators_are_exact_for_linear_losses(family: str, generator: torch.Generator) -> None:
    q = random_posterior(FAMILIES[family], generator)
    weights = torch.randn(FAMILIES[family].features, generator=generator, dtype=torch.float64)
    truth = exact_gradient(q, lambda z: z @ weights)
    for name in ("straight_through", "slope_annealed_st", "muprop"):
        got = gradient_draws(name, q, lambda z: z @ weights, 100, generator=generator)
        torch.testing.assert_close(got, truth.expand_as(got))
    got = gradient_draws("darn", q, lambda z: z @ weights, DRAWS, generator=generator)
    assert compare(got, truth).max_z < 4.5


@pytest.mark.parametrize("family", FAMILIES)
def test_second_order_estimators_are_unbiased_for_quadratic_losses(
    family: str, generator: torch.Generator
) -> None:
    q = random_posterior(FAMILIES[family], generator)
    loss = quadratic(FAMILIES[family].features, generator)
    truth = exact_gradient(q, loss)

    def worst(name: str) -> float:
        return compare(gradient_draws(name, q, loss, DRAWS, generator=generator), truth).max_z

    assert worst("reinmax") < 4.5
    assert worst("straight_through") > 10
    assert (worst("darn") < 4.5) == (family in PAIRS)


def test_darn_equals_reinmax_for_bernoullis(generator: torch.Generator) -> None:
    q = random_posterior(FAMILIES["bernoulli"], generator)
    loss = curved_loss(4, generator)
    state = generator.get_state()
    darn = gradient_draws("darn", q, loss, 1000, generator=generator)
    generator.set_state(state)
    torch.testing.assert_close(darn, gradient_draws("reinmax", q, loss, 1000, generator=generator))


@pytest.mark.parametrize("name", ["reinmax", "darn"])
def test_closed_forms_for_counts_equal_the_published_estimators_slot_by_slot(
    name: str, generator: torch.Generator
) -> None:
    """Closed forms against the published estimators applied to L0 explicit one-hot slots."""
    q = random_code(generator, features=4, budget=5, groups=1)
    loss = curved_loss(4, generator)
    seed = generator.get_state()
    surrogate = get_estimator(name)(q, loss, generator=generator).surrogate
    got = flat(torch.autograd.grad(surrogate, leaves(q), retain_graph=True))

    generator.set_state(seed)
    counts = q.sample(generator=generator).detach().requires_grad_()
    (g,) = torch.autograd.grad(loss(counts), counts)
    g = torch.cat([g, torch.zeros(1, dtype=g.dtype)])
    logits = q.base.slot_log_probs[0]
    p = logits.softmax(-1)
    onehots = torch.eye(5, dtype=g.dtype).repeat_interleave(
        torch.cat([counts.detach(), (5 - counts.detach().sum()).view(1)]).long(), 0
    )
    slope = torch.zeros_like(p)
    for slot in onehots:
        if name == "darn":
            # f - b = f'(z) (e - 1/5), times the slot's score.
            slope = slope + (g @ (slot - 0.2)) * (slot - p)
            continue
        # Liu et al. 2023: 2 * J(pi1) g - J(p) g / 2, with pi1 halfway between p and the draw.
        half = (p + slot) / 2
        jacobian = [torch.diag(v) - torch.outer(v, v) for v in (half, p)]
        slope = slope + 2 * jacobian[0] @ g - 0.5 * jacobian[1] @ g
    expected = flat(torch.autograd.grad(logits, leaves(q), slope.detach()))
    torch.testing.assert_close(got, expected)


def test_slope_annealing_starts_at_straight_through_and_sharpens(
    generator: torch.Generator,
) -> None:
    q, loss = random_posterior(FAMILIES["groups"], generator), curved_loss(6, generator)
    state = generator.get_state()

    def draws(name: str, **options: object) -> Tensor:
        generator.set_state(state)
        estimator = get_estimator(name, **options)
        return gradient_draws(estimator, q, loss, 1000, generator=generator)

    plain = draws("straight_through")
    torch.testing.assert_close(draws("slope_annealed_st", slope=1.0), plain)
    torch.testing.assert_close(draws("slope_annealed_st", slope=torch.tensor(1.0)), plain)
    # The chain rule through logits times 3, by hand.
    sharp = draws("slope_annealed_st", slope=3.0)
    assert not torch.allclose(sharp, plain)
    base = q.base
    gates, features = (t.clone().requires_grad_() for t in (base.gate_logits, base.feature_logits))
    mean = 2 * torch.sigmoid(3 * gates).unsqueeze(-1) * torch.softmax(3 * features, -1)
    generator.set_state(state)
    codes = q.expand((1000,)).sample(generator=generator).requires_grad_()
    (of_codes,) = torch.autograd.grad(loss(codes).sum(), codes)
    gradients = torch.autograd.grad(mean.flatten(), (gates, features), of_codes.mean(0))
    torch.testing.assert_close(sharp.mean(0), flat(gradients))


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_hardened_gumbel_codes_follow_the_posterior(
    temperature: float, generator: torch.Generator
) -> None:
    q = random_posterior(FAMILIES["groups"], generator)
    estimator = get_estimator(
        "st_gumbel_softmax", gate_temperature=temperature, feature_temperature=temperature
    )
    codes = estimator(q.expand((DRAWS,)), lambda z: z.sum(-1), generator=generator).codes
    assert q.support.check(codes).all()
    support = q.enumerate_support()
    seen = (codes.unsqueeze(1) == support).all(-1).double().mean(0)
    expected = q.log_prob(support).exp()
    error = (expected * (1 - expected) / DRAWS).sqrt()
    assert ((seen - expected) / error)[expected > 1e-3].abs().max() < 4.5


@pytest.mark.parametrize("name", SINGLE)
def test_parameters_of_the_loss_receive_their_gradient(
    name: str, generator: torch.Generator
) -> None:
    q = random_code(generator, batch=(4,))
    weight = torch.ones(6, dtype=torch.float64, requires_grad=True)
    seen: list[Tensor] = []

    def loss(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return z @ weight

    estimate = get_estimator(name)(q, loss, generator=generator)
    (gradient,) = torch.autograd.grad(estimate.surrogate.sum(), weight)
    codes = seen[0] if seen[0].dim() == 3 else seen[0].unsqueeze(0)
    torch.testing.assert_close(gradient, codes.mean(0).sum(0))
    torch.testing.assert_close(estimate.loss, (codes @ weight.detach()).mean(0))
    torch.testing.assert_close(estimate.codes, codes[0])
    torch.testing.assert_close(estimate.surrogate.detach(), estimate.loss)
    assert not estimate.loss.requires_grad


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_evaluated_at_real_codes(
    name: str, family: str, generator: torch.Generator
) -> None:
    q = random_posterior(FAMILIES[family], generator).expand((50,))
    seen: list[Tensor] = []

    def loss(z: Tensor) -> Tensor:
        seen.append(z.detach())
        return z.square().sum(-1)

    estimate = get_estimator(name)(q, loss, generator=generator)
    assert q.support.check(seen[0].round()).all()
    torch.testing.assert_close(seen[0], seen[0].round())
    assert q.support.check(estimate.codes).all()
    assert estimate.codes.shape == (50, *q.event_shape)
    if FAMILIES[family].open_gates:
        assert (estimate.codes.sum(-1) == q.total_count).all()


@pytest.mark.parametrize("name", estimators())
def test_always_open_gates_give_finite_gradients(name: str, generator: torch.Generator) -> None:
    logits = torch.randn(6, generator=generator, requires_grad=True)
    q = grouped_gated_multinomial(3, torch.full((3,), math.inf), logits)
    surrogate = get_estimator(name)(q, lambda z: z.cos().sum(-1), generator=generator).surrogate
    (gradient,) = torch.autograd.grad(surrogate, logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", estimators())
def test_a_gated_multinomial_equals_one_group(name: str, generator: torch.Generator) -> None:
    """A gated multinomial without groups gives the same draws and gradients as one group."""
    grouped = random_code(generator, features=4, groups=1, batch=(3,))
    state = generator.get_state()
    one = get_estimator(name)(grouped, lambda z: z.cos().sum(-1), generator=generator)
    generator.set_state(state)
    bare = type(grouped.base)(4, grouped.base.gate_logits[:, 0], grouped.base.feature_logits[:, 0])
    two = get_estimator(name)(bare, lambda z: z.cos().sum(-1), generator=generator)
    torch.testing.assert_close(one.codes, two.codes)
    gradients = [torch.autograd.grad(e.surrogate.sum(), leaves(grouped)) for e in (one, two)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", ["gumbel_softmax", "st_gumbel_softmax"])
@pytest.mark.parametrize("open_gates", [False, True])
def test_temperatures_are_options_that_receive_gradients(
    name: str, open_gates: bool, generator: torch.Generator
) -> None:
    gate, feature = (torch.tensor(1.5, requires_grad=True) for _ in range(2))
    estimator = get_estimator(name, gate_temperature=gate, feature_temperature=feature)
    q = random_code(generator, dtype=torch.float32)
    if open_gates:
        q = grouped_gated_multinomial(4, torch.full((2,), math.inf), torch.ones(6))
    surrogate = estimator(q, lambda z: z.square().sum(-1), generator=generator).surrogate
    of_gate, of_feature = torch.autograd.grad(surrogate, (gate, feature))
    assert of_feature.abs() > 0
    assert (of_gate == 0) == open_gates


@pytest.mark.parametrize("name", SINGLE)
def test_estimators_work_under_no_grad(name: str, generator: torch.Generator) -> None:
    with torch.no_grad():
        q = random_code(generator, batch=(3,))
        estimate = get_estimator(name)(q, lambda z: z.cos().sum(-1), generator=generator)
    assert estimate.loss.shape == (3,)
