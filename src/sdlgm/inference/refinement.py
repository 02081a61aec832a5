"""Refine the posterior of each sample, starting at the encoder's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.distributions import Grouped, LevelChain
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError
from sdlgm.gradients import get_estimator
from sdlgm.objectives.bounds import elbo_surrogate
from sdlgm.random import on_device

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["check_refinement", "refine_posterior"]


@neutral()
def refine_posterior(
    model: SDLGM,
    x: Tensor,
    steps: int,
    *,
    draws: int = 4,
    rate: float = 0.1,
    generator: torch.Generator | None = None,
) -> Grouped | LevelChain:
    r"""Refine the posterior of each sample by gradient descent on its own negative ELBO.

    Adds offsets to the encoder's logits, a vector for each sample. They start at 0 and move by
    ``steps`` steps of Adam on

    .. math:: -\mathbb{E}_{q(z)} \log p(x \mid z) + \mathrm{KL}(q(z) \| p(z))

    with ReinMax gradients of ``draws`` codes per step and a learning rate that falls linearly to
    zero. The model does not change. The offsets of a level do not depend on the codes of the levels
    before it; its logits still do. The result is a posterior of the same family, so bounds that
    use it with newly drawn codes remain bounds. Refinement reduces the amortisation gap, the cost
    of serving all samples with one network (Cremer et al., ICML 2018).

    Parameters
    ----------
    model
        Gives the start, the prior and the decoder.
    x
        Samples, shape ``(n, D)``.
    steps
        Number of steps; 0 returns the encoder's posterior. A step decodes ``draws`` codes per
        sample and backpropagates through the decoder.
    draws
        Codes per sample and step, at least 1.
    rate
        Learning rate of the first step, in units of logits.
    generator
        Source of the codes; ``None`` is torch's global one, as for any torch distribution.

    Returns
    -------
    Grouped or LevelChain
        Posteriors of batch shape ``(n,)``, detached, on the model's device; without steps, those
        of the encoder.

    Raises
    ------
    ConfigError
        If ``steps`` is negative, ``draws`` below 1 or ``rate`` not positive.

    References
    ----------
    Kim et al., "Semi-amortized variational autoencoders", ICML 2018 (without their training).
    """
    check_refinement(steps, draws, rate)
    x = (x.clone() if x.is_inference() else x).to(model.device)
    generator = on_device(generator, model.device)
    with torch.no_grad():
        start, prior = model.posterior(x), model.prior()
    # Gates that are always open stay open; a group of one feature has no feature to choose.
    like = model.log_gate_temperature
    gates, features = (
        like.new_zeros(len(x), model.groups),
        like.new_zeros(len(x), start.event_shape[0]),
    )
    free = ((gates, model.config.gates == "learned"), (features, model.chooses))
    leaves = [offsets.requires_grad_() for offsets, moves in free if moves]
    if not steps or not leaves:
        return start
    adam = torch.optim.Adam(leaves, lr=rate, fused=x.device.type in ("cpu", "cuda"))
    reinmax = get_estimator("reinmax")

    def loss(codes: Tensor) -> Tensor:
        return -model.data_distribution(codes).log_prob(x)

    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        with torch.enable_grad():
            posterior = start.shifted(gates, features)
            drawn = posterior.expand((draws, *posterior.batch_shape))
            rows, _ = elbo_surrogate(drawn, prior, loss, reinmax, generator=generator)
            total = rows.mean(0).sum()
        # Only the offsets get a gradient, the model's parameters none.
        for leaf, slope in zip(leaves, torch.autograd.grad(total, leaves), strict=True):
            leaf.grad = slope
        adam.step()
    return start.shifted(gates.detach(), features.detach())


def check_refinement(steps: int, draws: int = 1, rate: float = 1.0) -> None:
    """Raise :class:`ConfigError` unless the options suit :func:`refine_posterior`."""
    if steps < 0:
        raise ConfigError(f"The number of refinement steps must not be negative, got {steps}.")
    if draws < 1 or not rate > 0:
        raise ConfigError(
            f"Refinement needs at least 1 draw and a positive rate, got {draws} and {rate}."
        )
