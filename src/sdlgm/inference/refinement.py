"""Posteriors that are fitted to one sample each, from where the encoder puts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.distributions import Grouped, grouped_gated_multinomial, kl_terms
from sdlgm.errors import ConfigError
from sdlgm.gradients import get_estimator

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["check_refinement", "refine_posterior"]


def refine_posterior(
    model: SDLGM,
    x: Tensor,
    steps: int,
    *,
    draws: int = 4,
    rate: float = 0.1,
    generator: torch.Generator | None = None,
) -> Grouped:
    r"""Fit the posterior of each sample by gradient steps on its own negative ELBO.

    From the logits that the encoder gives, ``steps`` steps of Adam, each sample for itself, on

    .. math:: -\mathbb{E}_{q(z)} \log p(x \mid z) + \mathrm{KL}(q(z) \| p(z))

    with ReinMax gradients of ``draws`` codes a step and a rate that falls linearly to zero. The
    model stays as it is. What comes out is a posterior of the same family, so that every bound that
    is taken at it, with codes drawn anew, is a bound; what it makes up for is that one network
    serves all samples (the amortisation gap: Cremer et al., ICML 2018; the method: Kim et al.,
    "Semi-amortized variational autoencoders", ICML 2018, whose training we leave alone).

    Parameters
    ----------
    model
        Gives the start, the prior and the decoder.
    x
        Samples, shape ``(n, D)``.
    steps
        Number of steps; 0 returns the encoder's posterior. A step decodes ``draws`` codes a sample
        and goes back through the decoder.
    draws
        Codes a sample and step, at least 1.
    rate
        Rate of the first step, in units of logits.
    generator
        Source of the codes; ``None`` is torch's global one, as for any torch distribution.

    Returns
    -------
    Grouped
        Of batch shape ``(n,)``, detached.

    Raises
    ------
    ConfigError
        If ``steps`` is negative, ``draws`` below 1 or ``rate`` not positive.
    """
    check_refinement(steps, draws, rate)
    with torch.no_grad():
        start, prior = model.posterior(x), model.prior()
    if not steps:
        return start
    base = start.base
    gates, features = base.gate_logits.clone(), base.feature_logits.flatten(-2).clone()
    # Gates that are always open stay so, and a group of one feature has nothing to choose.
    free = ((gates, model.config.gates == "learned"), (features, model.chooses))
    leaves = [logits.requires_grad_() for logits, moves in free if moves]
    if not leaves:
        return start
    adam = torch.optim.Adam(leaves, lr=rate, fused=x.device.type in ("cpu", "cuda"))
    reinmax = get_estimator("reinmax")

    def code(gates: Tensor, features: Tensor) -> Grouped:
        return grouped_gated_multinomial(model.config.budget, gates, features, validate_args=False)

    def loss(codes: Tensor) -> Tensor:
        return -model.data_distribution(codes).log_prob(x)

    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        with torch.enable_grad():
            posterior = code(gates, features)
            drawn = posterior.expand((draws, *posterior.batch_shape))
            surrogate = reinmax(drawn, loss, generator=generator).surrogate.mean(0)
            total = (surrogate + kl_terms(posterior, prior).total).sum()
        # Of the logits alone: the model's parameters get no gradient.
        for leaf, slope in zip(leaves, torch.autograd.grad(total, leaves), strict=True):
            leaf.grad = slope
        adam.step()
    return code(gates.detach(), features.detach())


def check_refinement(steps: int, draws: int = 1, rate: float = 1.0) -> None:
    """Raise :class:`ConfigError` unless :func:`refine_posterior` can do what is asked of it."""
    if steps < 0:
        raise ConfigError(f"The number of refining steps must not be negative, got {steps}.")
    if draws < 1 or not rate > 0:
        raise ConfigError(
            f"Refining needs at least 1 draw and a positive rate, got {draws} and {rate}."
        )
