"""An estimator against the exact gradient by enumeration: for our tests, our table, and yours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.distributions import GatedMultinomial, Grouped, grouped_gated_multinomial
from sdlgm.errors import ConfigError
from sdlgm.gradients._surrogate import ungrouped
from sdlgm.gradients.registry import Code, Estimator, Loss, get_estimator, multi_sample

__all__ = [
    "FAMILIES",
    "Family",
    "GradientCheck",
    "check_gradient",
    "compare",
    "curved_loss",
    "exact_gradient",
    "exact_importance_gradient",
    "gradient_draws",
    "log_ratio_loss",
    "random_posterior",
    "uniform_prior",
]

MAX_TUPLES = 100_000
"""Largest number of tuples of codes that :func:`exact_importance_gradient` lists."""


@dataclass(frozen=True)
class Family:
    """A setting of the one distribution that is small enough to list its codes."""

    features: int
    """Number of features ``K``."""
    budget: int
    """Number of slots ``L0``."""
    groups: int
    """Number of groups ``G``."""
    open_gates: bool = False
    """Whether all gates are open for ever."""


FAMILIES = {
    "one group": Family(3, 3, 1),
    "groups": Family(6, 4, 2),
    "slot a group": Family(6, 3, 3),
    "categorical": Family(8, 2, 2, open_gates=True),
    "bernoulli": Family(4, 4, 4),
}
"""The settings that every registered estimator is checked on."""


@dataclass(frozen=True)
class GradientCheck:
    """Draws of an estimator beside the exact gradient."""

    max_z: float
    """Largest ``|mean - exact|`` of a coordinate in standard errors; 0 where nothing varies."""
    relative_bias: float
    """Norm of ``mean - exact`` over that of the exact gradient (sampling noise included)."""
    relative_std: float
    """Root of the trace of one draw's covariance over the norm of the exact gradient."""
    cosine: float
    """Cosine of the mean and the exact gradient."""
    decoder_calls: float
    """Codes decoded a draw."""


def random_posterior(family: Family, generator: torch.Generator) -> Grouped:
    """Return a posterior of a family with standard normal logits (float64), no batch dimension."""
    gates = torch.randn(family.groups, generator=generator, dtype=torch.float64)
    if family.open_gates:
        gates = torch.full_like(gates, math.inf)
    features = torch.randn(family.features, generator=generator, dtype=torch.float64)
    return grouped_gated_multinomial(family.budget, gates, features, validate_args=False)


def uniform_prior(posterior: Code) -> Code:
    """Return a code of a posterior's shape: even features, and gates even or open as there."""
    base = ungrouped(posterior)
    gates = torch.where(base.gate_logits.isposinf(), base.gate_logits, 0.0)
    return _like(posterior, gates.detach(), torch.zeros_like(base.feature_logits))


def curved_loss(features: int, generator: torch.Generator) -> Loss:
    """Return a smooth loss with all orders, such as a decoder gives: two random layers, tanh."""
    first = torch.randn(features, 8, generator=generator, dtype=torch.float64) * 0.5
    second = torch.randn(8, generator=generator, dtype=torch.float64)
    return lambda z: torch.tanh(z @ first + 0.3) @ second


def log_ratio_loss(loss: Loss, posterior: Code, prior: Code) -> Loss:
    r"""Return :math:`f(z) + \log q(z) - \log p(z)`: the loss that importance weighting needs."""
    return lambda z: loss(z) + posterior.log_prob(z) - prior.log_prob(z)


def exact_gradient(posterior: Code, loss: Loss) -> Tensor:
    r"""Gradient of :math:`\mathbb{E}_{q(z)} f(z)` by listing all codes.

    Parameters
    ----------
    posterior
        Without batch dimensions; its logits are taken as numbers.
    loss
        The loss :math:`f`; it must not depend on the posterior.

    Returns
    -------
    Tensor
        With respect to the gates' logits, then the features', shape ``(G + K,)``.
    """
    posterior, leaves = _copies(posterior, ())
    codes = _possible(posterior)
    return _flat((posterior.log_prob(codes).exp() * loss(codes)).sum(), leaves, ())


def exact_importance_gradient(posterior: Code, loss: Loss, prior: Code, samples: int) -> Tensor:
    r"""Gradient of :math:`\mathbb{E}[-\log \frac1M \sum_m e^{-f(z_m)} p(z_m) / q(z_m)]`.

    By listing all ``samples``-tuples of codes; arguments and result are as for
    :func:`exact_gradient`.

    Raises
    ------
    ValueError
        If there are more than ``MAX_TUPLES`` tuples.
    """
    posterior, leaves = _copies(posterior, ())
    codes = _possible(posterior)
    if len(codes) ** samples > MAX_TUPLES:
        raise ValueError(
            f"{len(codes)} codes have {len(codes) ** samples:,} tuples of {samples}, more than the "
            f"{MAX_TUPLES:,} that are listed; take fewer samples or a smaller code."
        )
    numbers = torch.arange(len(codes))
    index = torch.cartesian_prod(*[numbers] * samples).view(-1, samples)
    log_probs = posterior.log_prob(codes)
    losses = log_ratio_loss(loss, posterior, prior)(codes)
    bounds = math.log(samples) - torch.logsumexp(-losses[index], dim=-1)
    return _flat((log_probs[index].sum(-1).exp() * bounds).sum(), leaves, ())


def gradient_draws(
    estimator: str | Estimator,
    posterior: Code,
    loss: Loss,
    draws: int,
    *,
    prior: Code | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw an estimator's gradient many times, by a batch of copies of the posterior.

    Parameters
    ----------
    estimator
        A name, or an estimator with its options bound (``get_estimator(name, **options)``).
    posterior, loss
        As for :func:`exact_gradient`.
    draws
        How many.
    prior
        For an estimator of the importance-weighted bound, whose loss is made from it by
        :func:`log_ratio_loss`; others need none.
    generator
        Source of randomness.

    Returns
    -------
    Tensor
        Shape ``(draws, G + K)``.
    """
    if isinstance(estimator, str):
        estimator = get_estimator(estimator)
    wide, leaves = _copies(posterior, (draws,))
    if multi_sample(estimator):
        if prior is None:
            raise ConfigError("An estimator of the importance-weighted bound needs a prior here.")
        loss = log_ratio_loss(loss, wide, prior)
    surrogate = estimator(wide, loss, generator=generator).surrogate
    if surrogate.shape != (draws,):
        raise ValueError(
            f"A surrogate has a number a sample, here {draws}; got shape {tuple(surrogate.shape)}."
        )
    return _flat(surrogate.sum(), leaves, (draws,))


def check_gradient(
    estimator: str,
    posterior: Code,
    loss: Loss,
    draws: int = 20_000,
    *,
    generator: torch.Generator | None = None,
    **options: Any,
) -> GradientCheck:
    """Compare draws of an estimator with the exact gradient of its objective.

    That is the mean loss, or for an estimator of the importance-weighted bound the bound under
    :func:`uniform_prior` (with the option ``samples``, default 2, to keep the tuples few).
    """
    calls = _Calls(loss)
    if multi_sample(estimator):
        options = {"samples": 2, **options}
        prior = uniform_prior(posterior)
        truth = exact_importance_gradient(posterior, loss, prior, options["samples"])
    else:
        prior, truth = None, exact_gradient(posterior, loss)
    bound = get_estimator(estimator, **options)
    got = gradient_draws(bound, posterior, calls, draws, prior=prior, generator=generator)
    return compare(got, truth, calls.codes / draws)


def compare(draws: Tensor, truth: Tensor, decoder_calls: float = math.nan) -> GradientCheck:
    """Compare draws of a gradient, shape ``(n, d)``, with the exact one, shape ``(d,)``."""
    mean, spread = draws.mean(0), draws.std(0)
    gap, error = mean - truth, spread / math.sqrt(len(draws))
    varies = error > 1e-12 * truth.norm()
    scores = (gap[varies] / error[varies]).abs()
    return GradientCheck(
        max_z=float(scores.max()) if len(scores) else 0.0,
        relative_bias=float(gap.norm() / truth.norm()),
        relative_std=float(spread.norm() / truth.norm()),
        cosine=float(F.cosine_similarity(mean, truth, dim=0)),
        decoder_calls=decoder_calls,
    )


class _Calls:
    """A loss that counts the codes it is given."""

    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        self.loss, self.codes = loss, 0

    def __call__(self, codes: Tensor) -> Tensor:
        self.codes += codes.shape[:-1].numel()
        return self.loss(codes)


def _copies(posterior: Code, shape: tuple[int, ...]) -> tuple[Code, tuple[Tensor, Tensor]]:
    """Return a batch of copies of a posterior, and the logits that it is a function of."""
    if posterior.batch_shape:
        raise ValueError(
            "Gradients are checked on a posterior without batch dimensions, this one has "
            f"{tuple(posterior.batch_shape)}."
        )
    base = ungrouped(posterior)
    gates, features = (
        logits.detach().expand(*shape, *logits.shape).clone().requires_grad_()
        for logits in (base.gate_logits, base.feature_logits)
    )
    return _like(posterior, gates, features), (gates, features)


def _like(posterior: Code, gates: Tensor, features: Tensor) -> Code:
    base = GatedMultinomial(ungrouped(posterior).total_count, gates, features, validate_args=False)
    return Grouped(base) if isinstance(posterior, Grouped) else base


def _possible(posterior: Code) -> Tensor:
    """List the codes that can be drawn: with gates that are always open, not all of them."""
    codes = posterior.enumerate_support()
    return codes[~posterior.log_prob(codes).isneginf()]


def _flat(value: Tensor, leaves: tuple[Tensor, Tensor], batch: tuple[int, ...]) -> Tensor:
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([g.reshape(*batch, -1) for g in gradients], dim=-1)
