"""Control variates: predictions, unbiased estimates, checkpoints."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from helpers import random_code
from sdlgm.distributions import GatedMultinomial, grouped_gated_multinomial
from sdlgm.gradients import ControlVariate, get_estimator
from sdlgm.gradients.checking import (
    FAMILIES,
    compare,
    curved_loss,
    exact_gradient,
    gradient_draws,
    random_posterior,
)

WITH = ("score_function", "muprop", "darn")


def settled(control: ControlVariate, mean: float, variance: float) -> ControlVariate:
    """Give a control variate statistics from earlier batches and a network that is not zero."""
    control.mean.fill_(mean)
    control.variance.fill_(variance)
    control.batches.fill_(7)
    torch.nn.init.normal_(control.output.weight, generator=torch.Generator().manual_seed(3))
    return control


@pytest.mark.parametrize("variance", [0.5, 9.0])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["score_function", "muprop"])
def test_a_control_variate_leaves_the_mean_unchanged(
    name: str, family: str, variance: float, generator: torch.Generator
) -> None:
    shape = FAMILIES[family]
    posterior, loss = random_posterior(shape, generator), curved_loss(shape.features, generator)
    control = settled(ControlVariate(shape.features, shape.groups), -0.7, variance)
    estimator = get_estimator(name, control_variate=control)
    draws = gradient_draws(estimator, posterior, loss, 20_000, generator=generator)
    assert compare(draws, exact_gradient(posterior, loss)).max_z < 4.8


@pytest.mark.parametrize("family", FAMILIES)
def test_a_control_variate_leaves_the_bias_of_darn_unchanged(
    family: str, generator: torch.Generator
) -> None:
    shape = FAMILIES[family]
    posterior, loss = random_posterior(shape, generator), curved_loss(shape.features, generator)
    control = settled(ControlVariate(shape.features, shape.groups), -0.7, 2.0)
    estimator = get_estimator("darn", control_variate=control)
    plain, centred = (
        gradient_draws(e, posterior, loss, 20_000, generator=generator) for e in ("darn", estimator)
    )
    assert not torch.allclose(plain[:100], centred[:100])
    gap = (plain.mean(0) - centred.mean(0)).abs()
    error = ((plain.var(0) + centred.var(0)) / len(plain)).sqrt()
    assert (gap <= 4.5 * error).all()


@pytest.mark.parametrize("name", ["score_function", "muprop"])
def test_the_first_batch_is_unbiased(name: str, generator: torch.Generator) -> None:
    """It is centred with its other samples; small batches would reveal a dependence on its own."""
    posterior, loss = random_posterior(FAMILIES["groups"], generator), curved_loss(6, generator)
    control, parts = ControlVariate(6, 2, hidden=1), []
    for _ in range(500):
        control.batches.zero_()
        estimator = get_estimator(name, control_variate=control)
        parts.append(gradient_draws(estimator, posterior, loss, 2, generator=generator).mean(0))
    assert compare(torch.stack(parts), exact_gradient(posterior, loss)).max_z < 4.5


@pytest.mark.parametrize("name", ["score_function", "muprop"])
def test_variance_normalisation_divides_the_whole_estimate(
    name: str, generator: torch.Generator
) -> None:
    """A running deviation of 3 divides the mean by 3; one of at most 1 leaves it unchanged."""
    shape = FAMILIES["slot a group"]
    posterior, loss = random_posterior(shape, generator), curved_loss(shape.features, generator)
    for variance, factor in ((9.0, 1 / 3), (0.5, 1.0)):
        control = settled(ControlVariate(6, 3, normalise_variance=True), 0.2, variance)
        estimator = get_estimator(name, control_variate=control)
        draws = gradient_draws(estimator, posterior, loss, 20_000, generator=generator)
        assert compare(draws, factor * exact_gradient(posterior, loss)).max_z < 4.5


@pytest.mark.parametrize("name", ["score_function", "muprop"])
def test_a_control_variate_learns_and_lowers_the_variance(
    name: str, generator: torch.Generator
) -> None:
    """The mean losses of samples differ so much that a running mean cannot predict them."""
    gates = torch.randn(64, 2, generator=generator)
    logits = 2 * torch.randn(64, 6, generator=generator)
    offsets = 30 * logits[:, 0].tanh()

    def gradient(control: ControlVariate) -> Tensor:
        wanted = logits.clone().requires_grad_()
        posterior = grouped_gated_multinomial(4, gates, wanted)
        estimator = get_estimator(name, control_variate=control)
        surrogate = estimator(
            posterior,
            # The offset enters the curvature, since MuProp subtracts the tangent.
            lambda z: offsets * (1 + z.sum(-1).square()) + z.sin().sum(-1) - 100,
            generator=generator,
        ).surrogate
        surrogate.mean().backward()
        return wanted.grad  # type: ignore[return-value]

    def spread(control: ControlVariate) -> Tensor:
        control.eval()
        return torch.stack([gradient(control) for _ in range(60)]).var(0).sum()

    untrained, control = ControlVariate(6, 2), ControlVariate(6, 2)
    untrained.load_state_dict(control.state_dict())
    optimizer = torch.optim.Adam(control.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        gradient(control)
        optimizer.step()
    untrained.mean.copy_(control.mean)
    untrained.variance.copy_(control.variance)
    untrained.batches.copy_(control.batches)
    before = {key: value.clone() for key, value in control.state_dict().items()}
    assert spread(control) < 0.9 * spread(untrained)
    for key, value in control.state_dict().items():
        torch.testing.assert_close(
            value, before[key], rtol=0, atol=0
        )  # statistics stay fixed in eval mode


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_statistics_come_from_before_the_batch(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    posterior = random_code(generator, batch=(5,))
    control = ControlVariate(6, 2, decay=0.5)
    first = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=dtype)
    centred = control(posterior, first)
    others = (first.sum() - first) / 4
    torch.testing.assert_close(centred.signal, first - others)
    assert control.mean.item() == 3.0
    assert control.variance.item() == pytest.approx((first - others).square().mean().item())
    centred = control(posterior, first + 10)
    torch.testing.assert_close(centred.signal, first + 10 - 3.0)
    assert control.mean.item() == pytest.approx(0.5 * 3 + 0.5 * 13)
    assert control.batches.item() == 2
    assert centred.weight.item() == 1.0
    alone = ControlVariate(6, 2)(random_code(generator), torch.tensor(4.0))
    assert alone.signal.item() == 4.0


def test_training_continues_from_a_checkpoint() -> None:
    def step(control: ControlVariate, number: int) -> Tensor:
        posterior = random_code(torch.Generator().manual_seed(5), batch=(8,))
        source = torch.Generator().manual_seed(number)
        estimator = get_estimator("score_function", control_variate=control)
        surrogate = estimator(posterior, lambda z: z.square().sum(-1), generator=source).surrogate
        return torch.autograd.grad(surrogate.sum(), posterior.base.gate_logits)[0]

    one = ControlVariate(6, 2)
    step(one, 0)
    two = ControlVariate(6, 2, generator=torch.Generator().manual_seed(9))
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(step(one, 1), step(two, 1), rtol=0, atol=0)
    assert set(one.state_dict()) >= {"mean", "variance", "batches"}


def test_initial_weights_depend_on_the_generator_alone() -> None:
    one, two = (ControlVariate(4, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    torch.testing.assert_close(one.hidden.weight, two.hidden.weight, rtol=0, atol=0)
    other = ControlVariate(4, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(one.hidden.weight, other.hidden.weight)
    assert ControlVariate(4)(GatedMultinomial(2, torch.zeros(3), torch.zeros(3, 4)), torch.ones(3))


def test_always_open_gates_are_ignored(generator: torch.Generator) -> None:
    posterior = grouped_gated_multinomial(
        2, torch.full((5, 2), math.inf), torch.randn(5, 6, generator=generator)
    )
    for name in WITH:
        estimator = get_estimator(name, control_variate=ControlVariate(6, 2))
        estimate = estimator(posterior, lambda z: z.cos().sum(-1), generator=generator)
        assert estimate.surrogate.isfinite().all()


def test_invalid_arguments_raise(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=r"K = 5 features in 2 groups.*has 6 in 2"):
        ControlVariate(5, 2)(random_code(generator), torch.tensor(1.0))
    with pytest.raises(ValueError, match="groups of a control variate must be at least 1, got 0"):
        ControlVariate(5, 0)
    with pytest.raises(ValueError, match=r"decay of a control variate must lie in \[0, 1\), got 1"):
        ControlVariate(5, 1, decay=1.0)
