"""Baselines: what they predict, what they leave unbiased, what a checkpoint of them holds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from helpers import random_code
from sdlgm.distributions import GatedMultinomial, grouped_gated_multinomial
from sdlgm.gradients import Baseline, get_estimator
from sdlgm.gradients.checking import (
    FAMILIES,
    compare,
    curved_loss,
    exact_gradient,
    gradient_draws,
    random_posterior,
)

WITH = ("score_function", "muprop", "darn")


def settled(baseline: Baseline, mean: float, variance: float) -> Baseline:
    """A baseline with statistics from earlier batches, and a network that says something."""
    baseline.mean.fill_(mean)
    baseline.variance.fill_(variance)
    baseline.batches.fill_(7)
    torch.nn.init.normal_(baseline.output.weight, generator=torch.Generator().manual_seed(3))
    return baseline


@pytest.mark.parametrize("variance", [0.5, 9.0])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["score_function", "muprop"])
def test_a_baseline_leaves_the_mean_alone(
    name: str, family: str, variance: float, generator: torch.Generator
) -> None:
    shape = FAMILIES[family]
    posterior, loss = random_posterior(shape, generator), curved_loss(shape.features, generator)
    baseline = settled(Baseline(shape.features, shape.groups), -0.7, variance)
    estimator = get_estimator(name, baseline=baseline)
    draws = gradient_draws(estimator, posterior, loss, 20_000, generator=generator)
    assert compare(draws, exact_gradient(posterior, loss)).max_z < 4.8


@pytest.mark.parametrize("family", FAMILIES)
def test_a_baseline_adds_no_bias_to_darns_own(family: str, generator: torch.Generator) -> None:
    shape = FAMILIES[family]
    posterior, loss = random_posterior(shape, generator), curved_loss(shape.features, generator)
    baseline = settled(Baseline(shape.features, shape.groups), -0.7, 2.0)
    estimator = get_estimator("darn", baseline=baseline)
    plain, centred = (
        gradient_draws(e, posterior, loss, 20_000, generator=generator) for e in ("darn", estimator)
    )
    assert not torch.allclose(plain[:100], centred[:100])
    gap = (plain.mean(0) - centred.mean(0)).abs()
    error = ((plain.var(0) + centred.var(0)) / len(plain)).sqrt()
    assert (gap <= 4.5 * error).all()


@pytest.mark.parametrize("name", ["score_function", "muprop"])
def test_the_first_batch_is_unbiased_too(name: str, generator: torch.Generator) -> None:
    """It is centred on the other samples: small batches, where the own sample would show."""
    posterior, loss = random_posterior(FAMILIES["groups"], generator), curved_loss(6, generator)
    baseline, parts = Baseline(6, 2, hidden=1), []
    for _ in range(500):
        baseline.batches.zero_()
        estimator = get_estimator(name, baseline=baseline)
        parts.append(gradient_draws(estimator, posterior, loss, 2, generator=generator).mean(0))
    assert compare(torch.stack(parts), exact_gradient(posterior, loss)).max_z < 4.5


@pytest.mark.parametrize("name", ["score_function", "muprop"])
def test_normalisation_divides_the_whole_estimate(name: str, generator: torch.Generator) -> None:
    """At a running deviation of 3 the mean is a third; of at most 1, the gradient itself."""
    shape = FAMILIES["slot a group"]
    posterior, loss = random_posterior(shape, generator), curved_loss(shape.features, generator)
    for variance, factor in ((9.0, 1 / 3), (0.5, 1.0)):
        baseline = settled(Baseline(6, 3, normalise=True), 0.2, variance)
        estimator = get_estimator(name, baseline=baseline)
        draws = gradient_draws(estimator, posterior, loss, 20_000, generator=generator)
        assert compare(draws, factor * exact_gradient(posterior, loss)).max_z < 4.5


@pytest.mark.parametrize("name", ["score_function", "muprop"])
def test_it_learns_to_predict_and_lowers_the_variance(
    name: str, generator: torch.Generator
) -> None:
    """Losses of very different means a sample, which a running mean cannot follow."""
    gates = torch.randn(64, 2, generator=generator)
    logits = 2 * torch.randn(64, 6, generator=generator)
    offsets = 30 * logits[:, 0].tanh()

    def gradient(baseline: Baseline) -> Tensor:
        wanted = logits.clone().requires_grad_()
        posterior = grouped_gated_multinomial(4, gates, wanted)
        estimator = get_estimator(name, baseline=baseline)
        surrogate = estimator(
            posterior,
            # For the tangents of MuProp the offset has to be in the curvature.
            lambda z: offsets * (1 + z.sum(-1).square()) + z.sin().sum(-1) - 100,
            generator=generator,
        ).surrogate
        surrogate.mean().backward()
        return wanted.grad  # type: ignore[return-value]

    def spread(baseline: Baseline) -> Tensor:
        baseline.eval()
        return torch.stack([gradient(baseline) for _ in range(60)]).var(0).sum()

    untrained, baseline = Baseline(6, 2), Baseline(6, 2)
    untrained.load_state_dict(baseline.state_dict())
    optimizer = torch.optim.Adam(baseline.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        gradient(baseline)
        optimizer.step()
    untrained.mean.copy_(baseline.mean)
    untrained.variance.copy_(baseline.variance)
    untrained.batches.copy_(baseline.batches)
    before = {key: value.clone() for key, value in baseline.state_dict().items()}
    assert spread(baseline) < 0.9 * spread(untrained)
    for key, value in baseline.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)  # not in eval mode


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_statistics_are_from_before_the_batch(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    posterior = random_code(generator, batch=(5,))
    baseline = Baseline(6, 2, decay=0.5)
    first = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=dtype)
    centred = baseline(posterior, first)
    others = (first.sum() - first) / 4
    torch.testing.assert_close(centred.signal, first - others)
    assert baseline.mean.item() == 3.0
    assert baseline.variance.item() == pytest.approx((first - others).square().mean().item())
    centred = baseline(posterior, first + 10)
    torch.testing.assert_close(centred.signal, first + 10 - 3.0)
    assert baseline.mean.item() == pytest.approx(0.5 * 3 + 0.5 * 13)
    assert baseline.batches.item() == 2
    assert centred.weight.item() == 1.0
    alone = Baseline(6, 2)(random_code(generator), torch.tensor(4.0))
    assert alone.signal.item() == 4.0


def test_training_goes_on_from_a_checkpoint() -> None:

    def step(baseline: Baseline, number: int) -> Tensor:
        posterior = random_code(torch.Generator().manual_seed(5), batch=(8,))
        source = torch.Generator().manual_seed(number)
        estimator = get_estimator("score_function", baseline=baseline)
        surrogate = estimator(posterior, lambda z: z.square().sum(-1), generator=source).surrogate
        return torch.autograd.grad(surrogate.sum(), posterior.base.gate_logits)[0]

    one = Baseline(6, 2)
    step(one, 0)
    two = Baseline(6, 2, generator=torch.Generator().manual_seed(9))
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(step(one, 1), step(two, 1), rtol=0, atol=0)
    assert set(one.state_dict()) >= {"mean", "variance", "batches"}


def test_weights_are_functions_of_the_generator() -> None:
    one, two = (Baseline(4, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    torch.testing.assert_close(one.hidden.weight, two.hidden.weight, rtol=0, atol=0)
    other = Baseline(4, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(one.hidden.weight, other.hidden.weight)
    assert Baseline(4)(GatedMultinomial(2, torch.zeros(3), torch.zeros(3, 4)), torch.ones(3))


def test_open_gates_are_no_input(generator: torch.Generator) -> None:
    posterior = grouped_gated_multinomial(
        2, torch.full((5, 2), math.inf), torch.randn(5, 6, generator=generator)
    )
    for name in WITH:
        estimator = get_estimator(name, baseline=Baseline(6, 2))
        estimate = estimator(posterior, lambda z: z.cos().sum(-1), generator=generator)
        assert estimate.surrogate.isfinite().all()


def test_errors(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=r"K = 5 features in 2 groups.*has 6 in 2"):
        Baseline(5, 2)(random_code(generator), torch.tensor(1.0))
    with pytest.raises(ValueError, match="groups of a baseline must be at least 1, got 0"):
        Baseline(5, 0)
    with pytest.raises(ValueError, match=r"decay of a baseline must lie in \[0, 1\), got 1"):
        Baseline(5, 1, decay=1.0)
