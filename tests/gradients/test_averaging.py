"""Estimates from several codes of each sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sdlgm.distributions import GatedMultinomial, Grouped
from sdlgm.errors import ConfigError
from sdlgm.gradients import averaged, get_estimator

WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)


def loss(codes: Tensor) -> Tensor:
    return (codes * WEIGHTS).sum(-1) ** 2


def posterior(logits: Tensor) -> Grouped:
    return Grouped(GatedMultinomial(1, logits[..., :2], logits[..., 2:].unflatten(-1, (2, 2))))


def gradients(estimator: str, draws: int, generator: torch.Generator) -> Tensor:
    """Estimates for 4,000 samples with the same logits."""
    start = torch.tensor([0.3, -0.2, 0.4, 0.1, -0.6, 0.0], dtype=torch.float64)
    logits = start.expand(4_000, -1).clone().requires_grad_()
    method = averaged(get_estimator(estimator), draws)
    estimate = method(posterior(logits), loss, generator=generator)
    assert estimate.surrogate.shape == estimate.loss.shape == (4_000,)
    assert estimate.codes.shape == (4_000, 4)
    return torch.autograd.grad(estimate.surrogate.sum(), logits)[0]


@pytest.mark.parametrize("estimator", ["reinmax", "score_function", "gumbel_softmax"])
def test_the_mean_of_five_has_the_expectation_of_one_and_a_fifth_of_its_variance(
    estimator: str, generator: torch.Generator
) -> None:
    one, five = (gradients(estimator, draws, generator) for draws in (1, 5))
    error = (one.var(0) / len(one) + five.var(0) / len(five)).sqrt()
    assert ((one.mean(0) - five.mean(0)).abs() < 4.5 * error).all()
    ratio = five.var(0).sum() / one.var(0).sum()
    assert 0.15 < ratio < 0.26


def test_one_code_is_the_estimator_itself() -> None:
    method = get_estimator("reinmax")
    assert averaged(method, 1) is method


def test_objectives_of_several_codes_and_no_codes_are_refused() -> None:
    with pytest.raises(ConfigError, match="option samples"):
        averaged(get_estimator("vimco"), 3)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        averaged(get_estimator("reinmax"), 0)
