"""Compare an estimator with the exact gradient, computed by enumeration."""

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
"""Largest number of tuples of codes that :func:`exact_importance_gradient` enumerates."""


@dataclass(frozen=True)
class Family:
    """A family of distributions small enough to enumerate all codes."""

    features: int
    """Number of features ``K``."""
    budget: int
    """Number of slots ``L0``."""
    groups: int
    """Number of groups ``G``."""
    open_gates: bool = False
    """Whether all gates are always open."""


FAMILIES = {
    "one group": Family(3, 3, 1),
    "groups": Family(6, 4, 2),
    "slot a group": Family(6, 3, 3),
    "categorical": Family(8, 2, 2, open_gates=True),
    "bernoulli": Family(4, 4, 4),
}
"""The families on which every registered estimator is tested."""


@dataclass(frozen=True)
class GradientCheck:
    """Statistics of an estimator's draws compared with the exact gradient."""

    max_z: float
    """Largest ``|mean - exact|`` of a coordinate in standard errors; 0 if no coordinate varies."""
    relative_bias: float
    """Norm of ``mean - exact`` relative to the exact gradient; includes sampling noise."""
    relative_std: float
    """Square root of the trace of a draw's covariance, relative to the norm of the gradient."""
    cosine: float
    """Cosine between the mean and the exact gradient."""
    decoder_calls: float
    """Codes decoded per draw."""


def random_posterior(family: Family, generator: torch.Generator) -> Grouped:
    """Return a posterior with standard normal logits (float64) and no batch dimension."""
    gates = torch.randn(family.groups, generator=generator, dtype=torch.float64)
    if family.open_gates:
        gates = torch.full_like(gates, math.inf)
    features = torch.randn(family.features, generator=generator, dtype=torch.float64)
    return grouped_gated_multinomial(family.budget, gates, features, validate_args=False)


def uniform_prior(posterior: Code) -> Code:
    """Return a prior with the posterior's shape: uniform features, gates at 1/2 or always open."""
    base = ungrouped(posterior)
    gates = torch.where(base.gate_logits.isposinf(), base.gate_logits, 0.0)
    return _like(posterior, gates.detach(), torch.zeros_like(base.feature_logits))


def curved_loss(features: int, generator: torch.Generator) -> Loss:
    """Return a smooth loss with derivatives of all orders: two random layers with a tanh."""
    first = torch.randn(features, 8, generator=generator, dtype=torch.float64) * 0.5
    second = torch.randn(8, generator=generator, dtype=torch.float64)
    return lambda z: torch.tanh(z @ first + 0.3) @ second


def log_ratio_loss(loss: Loss, posterior: Code, prior: Code) -> Loss:
    r"""Return the loss :math:`f(z) + \log q(z) - \log p(z)` of importance-weighted bounds."""
    return lambda z: loss(z) + posterior.log_prob(z) - prior.log_prob(z)


def exact_gradient(posterior: Code, loss: Loss) -> Tensor:
    r"""Compute the gradient of :math:`\mathbb{E}_{q(z)} f(z)` by enumerating all codes.

    Parameters
    ----------
    posterior
        A posterior without batch dimensions.
    loss
        The loss :math:`f`; it must not depend on the posterior.

    Returns
    -------
    Tensor
        Gradient with respect to the gate logits, then the feature logits, shape ``(G + K,)``.

    Examples
    --------
    For one slot that is open with probability 1/2, :math:`\partial \mathbb{E} L` is 1/4:

    >>> q = GatedMultinomial(1, torch.tensor(0.0), torch.zeros(2))
    >>> exact_gradient(q, lambda z: z.sum(-1))
    tensor([0.2500, 0.0000, 0.0000])
    """
    posterior, leaves = _copies(posterior, ())
    codes = _possible_codes(posterior)
    return _flat_gradient((posterior.log_prob(codes).exp() * loss(codes)).sum(), leaves, ())


def exact_importance_gradient(posterior: Code, loss: Loss, prior: Code, samples: int) -> Tensor:
    r"""Compute the gradient of the importance-weighted bound by enumeration.

    .. math:: \mathbb{E}\Big[-\log \frac1M \sum_{m=1}^M e^{-f(z_m)} \frac{p(z_m)}{q(z_m)}\Big]

    Enumerates all tuples of ``M = samples`` codes. Arguments and result are those of
    :func:`exact_gradient`.

    Raises
    ------
    ValueError
        If there are more than ``MAX_TUPLES`` tuples.
    """
    posterior, leaves = _copies(posterior, ())
    codes = _possible_codes(posterior)
    if len(codes) ** samples > MAX_TUPLES:
        raise ValueError(
            f"{len(codes)} codes have {len(codes) ** samples:,} tuples of {samples}, more than the "
            f"limit of {MAX_TUPLES:,}. Use fewer samples or fewer features."
        )
    numbers = torch.arange(len(codes))
    index = torch.cartesian_prod(*[numbers] * samples).view(-1, samples)
    log_probs = posterior.log_prob(codes)
    losses = log_ratio_loss(loss, posterior, prior)(codes)
    bounds = math.log(samples) - torch.logsumexp(-losses[index], dim=-1)
    return _flat_gradient((log_probs[index].sum(-1).exp() * bounds).sum(), leaves, ())


def gradient_draws(
    estimator: str | Estimator,
    posterior: Code,
    loss: Loss,
    draws: int,
    *,
    prior: Code | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw the gradient of an estimator many times, in one batch of copies of the posterior.

    Parameters
    ----------
    estimator
        A name, or an estimator with its options bound (``get_estimator(name, **options)``).
    posterior, loss
        As for :func:`exact_gradient`.
    draws
        Number of draws.
    prior
        Needed only by estimators of the importance-weighted bound; see :func:`log_ratio_loss`.
    generator
        Source of randomness; ``None`` uses torch's global generator.

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
            raise ConfigError("An estimator of the importance-weighted bound needs a prior.")
        loss = log_ratio_loss(loss, wide, prior)
    surrogate = estimator(wide, loss, generator=generator).surrogate
    if surrogate.shape != (draws,):
        raise ValueError(
            f"The surrogate must have one number per sample, shape ({draws},), got "
            f"{tuple(surrogate.shape)}."
        )
    return _flat_gradient(surrogate.sum(), leaves, (draws,))


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

    The objective is the expected loss. For an estimator of the importance-weighted bound it is the
    bound under :func:`uniform_prior` with ``samples`` codes (default here: 2).

    Parameters
    ----------
    estimator
        Name of a registered estimator.
    posterior, loss
        As for :func:`exact_gradient`.
    draws
        Number of draws.
    generator
        Source of randomness; ``None`` uses torch's global generator.
    **options
        Options of the estimator.

    Examples
    --------
    >>> q = GatedMultinomial(2, torch.tensor(0.0), torch.zeros(3))
    >>> source = torch.Generator().manual_seed(0)
    >>> found = check_gradient("reinmax", q, lambda z: z[..., 0] ** 2, 1000, generator=source)
    >>> found.max_z < 4, found.decoder_calls
    (True, 1.0)
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
    """Compare draws of a gradient, shape ``(n, d)``, with the exact gradient, shape ``(d,)``."""
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
    """A loss that counts the codes it is called with."""

    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        self.loss, self.codes = loss, 0

    def __call__(self, codes: Tensor) -> Tensor:
        self.codes += codes.shape[:-1].numel()
        return self.loss(codes)


def _copies(posterior: Code, shape: tuple[int, ...]) -> tuple[Code, tuple[Tensor, Tensor]]:
    """Return a batch of copies of a posterior, and its logits as leaves."""
    if posterior.batch_shape:
        raise ValueError(
            "Checking gradients needs a posterior without batch dimensions, this one has "
            f"{tuple(posterior.batch_shape)}."
        )
    base = ungrouped(posterior)
    gates, features = (
        logits.detach().expand((*shape, *logits.shape)).clone().requires_grad_()
        for logits in (base.gate_logits, base.feature_logits)
    )
    return _like(posterior, gates, features), (gates, features)


def _like(posterior: Code, gates: Tensor, features: Tensor) -> Code:
    base = GatedMultinomial(ungrouped(posterior).total_count, gates, features, validate_args=False)
    return Grouped(base) if isinstance(posterior, Grouped) else base


def _possible_codes(posterior: Code) -> Tensor:
    """List the codes of positive probability: always open gates exclude some."""
    codes = posterior.enumerate_support()
    return codes[~posterior.log_prob(codes).isneginf()]


def _flat_gradient(value: Tensor, leaves: tuple[Tensor, Tensor], batch: tuple[int, ...]) -> Tensor:
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return torch.cat([g.reshape(*batch, -1) for g in gradients], dim=-1)
