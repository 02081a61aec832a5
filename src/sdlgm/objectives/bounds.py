"""Training objectives and reported bounds, in nats per sample; lower is better.

Only the last two of these are bounds:

- ``relaxed_objective``: the objective of the paper, evaluated at relaxed samples. **Not a bound.**
- ``negative_elbo``: evaluated at discrete codes with the exact KL; in expectation an upper bound of
  ``-log p(x)``.
- ``nll_bound``: the importance-weighted bound of ``M`` discrete codes, which is tighter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.distributions import Grouped, KLForm, KLTerms, kl_terms, log_ratio
from sdlgm.errors import ConfigError
from sdlgm.gradients import Code, Estimator, Loss, get_estimator, multi_sample

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = [
    "ObjectiveTerms",
    "elbo_surrogate",
    "negative_elbo",
    "nll_bound",
    "relaxed_objective",
    "training_objective",
]


@dataclass(frozen=True)
class ObjectiveTerms:
    """The terms of an objective (nats), each of shape ``(*batch,)``."""

    reconstruction: Tensor
    """Minus the log-likelihood of the data given the drawn code (eq. 11)."""
    kl_gates: Tensor
    """KL divergence of the gates from their prior (eq. 13)."""
    kl_features: Tensor
    """KL divergence of the features from their prior (eq. 14, or weighted by open gates)."""
    codes: Tensor
    """The decoded codes, shape ``(*batch, K)``."""

    @property
    def total(self) -> Tensor:
        """Sum of the three terms (nats)."""
        return self.reconstruction + self.kl_gates + self.kl_features


def training_objective(
    model: SDLGM,
    x: Tensor,
    estimator: Estimator,
    *,
    kl: KLForm = "exact",
    kl_weight: Tensor | float = 1.0,
    slot_cost: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, ObjectiveTerms]:
    r"""Compute the surrogate to differentiate (a scalar), and the detached terms of the objective.

    The gradient of the surrogate is that of the batch mean of ``reconstruction + kl_weight * KL +
    slot_cost * E[L]``, where ``L`` is the number of open slots. ``estimator`` passes the gradient
    of the reconstruction through the draw. The terms do not include the slot cost.

    An estimator of the importance-weighted bound (``vimco``) receives ``reconstruction + kl_weight
    * (log q(z) - log p(z))`` as its loss, and no KL is added. Its gradient is that of

    .. math:: -\log \frac1M \sum_{m=1}^M p(x \mid z_m)\, \big(p(z_m) / q(z_m \mid x)\big)^w

    which is a bound only for ``kl_weight`` :math:`w = 1`. The terms are those of the ELBO in this
    case too: the mean reconstruction of the codes, and the KL in closed form.

    Parameters
    ----------
    model, x
        Model and batch of data, shape ``(n, D)``.
    estimator
        Gradient estimator; see :func:`~sdlgm.gradients.get_estimator`.
    kl
        Form of the KL, ``"exact"`` or ``"paper"``.
    kl_weight
        Weight of the KL.
    slot_cost
        Penalty (nats) per expected open slot.
    generator
        Source of randomness; ``None`` uses torch's global generator.

    Raises
    ------
    ConfigError
        If an estimator of the importance-weighted bound is combined with the paper's form of the
        KL, which has no log-ratio.
    """
    posterior, prior, loss = model(x), model.prior(), _Reconstruction(model, x)
    charge = slot_cost * posterior.mean_total.mean() if slot_cost else 0.0
    if not multi_sample(estimator):
        rows, terms = elbo_surrogate(
            posterior, prior, loss, estimator, kl=kl, kl_weight=kl_weight, generator=generator
        )
        return rows.mean() + charge, terms
    if kl != "exact":
        raise ConfigError(
            f"An estimator of the importance-weighted bound needs kl='exact', got {kl!r}."
        )
    ratio = _WeightedLogRatio(loss, posterior, prior, kl_weight)
    estimate = estimator(posterior, ratio, generator=generator)
    terms = _terms(ratio.reconstruction, kl_terms(posterior, prior, kl), estimate.codes)
    return estimate.surrogate.mean() + charge, terms


def elbo_surrogate(
    posterior: Code,
    prior: Code,
    loss: Loss,
    estimator: Estimator,
    *,
    kl: KLForm = "exact",
    kl_weight: Tensor | float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, ObjectiveTerms]:
    """Compute the surrogate of each sample, shape ``(*batch,)``, and the detached terms.

    The gradient of the surrogate is that of ``loss + kl_weight * KL``, where ``loss`` maps codes to
    minus the log-likelihood of the samples. Estimators of the importance-weighted bound are not
    supported.
    """
    divergence = kl_terms(posterior, prior, kl)
    estimate = estimator(posterior, loss, generator=generator)
    terms = _terms(estimate.loss, divergence, estimate.codes)
    if isinstance(kl_weight, Tensor):  # on the device, where no number has to be read
        return torch.addcmul(estimate.surrogate, kl_weight, divergence.total), terms
    return torch.add(estimate.surrogate, divergence.total, alpha=kl_weight), terms


@torch.no_grad()
def negative_elbo(
    model: SDLGM,
    x: Tensor,
    *,
    samples: int = 1,
    kl: KLForm = "exact",
    posterior: Grouped | None = None,
    generator: torch.Generator | None = None,
) -> ObjectiveTerms:
    r"""Estimate the negative ELBO (minus eq. 6) with discrete codes, in nats per sample.

    .. math:: -\mathbb{E}_{q(z|x)} \log p(x \mid z) + \mathrm{KL}(q(z|x) \| p(z))

    The expectation is estimated without bias from ``samples`` codes per sample; the KL is computed
    in closed form. ``codes`` holds the last draw. ``posterior`` replaces that of the model, for
    example by a refined one (:func:`~sdlgm.inference.refinement.refine_posterior`).
    """
    posterior = model(x) if posterior is None else posterior
    divergence = kl_terms(posterior, model.prior(), kl)
    loss = _Reconstruction(model, x)
    total = torch.zeros_like(divergence.gates)
    codes = torch.empty(0)
    for _ in range(samples):
        codes = posterior.sample(generator=generator)
        total += loss(codes)
    return _terms(total / samples, divergence, codes)


@torch.no_grad()
def relaxed_objective(
    model: SDLGM, x: Tensor, *, generator: torch.Generator | None = None
) -> ObjectiveTerms:
    """Compute the relaxed objective of the paper (eqs. 11 - 14), which is **not a bound**.

    It decodes relaxed samples at the temperatures of the model, but uses the KL of discrete codes
    (eqs. 13 and 14).
    """
    estimator = get_estimator("gumbel_softmax", **temperatures(model))
    return training_objective(model, x, estimator, kl="paper", generator=generator)[1]


@torch.no_grad()
def nll_bound(
    model: SDLGM,
    x: Tensor,
    importance_samples: int,
    *,
    posterior: Grouped | None = None,
    generator: torch.Generator | None = None,
    codes_at_once: int = 2_000,
) -> Tensor:
    r"""Compute the importance-weighted bound of ``-log p(x)`` (nats), shape ``(*batch,)``.

    .. math:: -\log \frac1M \sum_{m=1}^M \frac{p(x \mid z_m)\, p(z_m)}{q(z_m \mid x)},
        \qquad z_m \sim q(z \mid x)

    with ``M = importance_samples`` discrete codes. In expectation it is an upper bound of ``-log
    p(x)`` that falls with ``M``.

    Parameters
    ----------
    model, x
        Model and batch of data, shape ``(*batch, D)``.
    importance_samples
        Number of codes ``M`` per sample.
    posterior
        Replaces the posterior of the model, as for :func:`negative_elbo`.
    generator
        Source of randomness; ``None`` uses torch's global generator.
    codes_at_once
        Codes decoded at a time; the default fits the processor's cache.

    Raises
    ------
    ValueError
        If ``importance_samples`` is less than 1.

    References
    ----------
    Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
    """
    if importance_samples < 1:
        raise ValueError(f"importance_samples must be at least 1, got {importance_samples}.")
    posterior, prior = model(x) if posterior is None else posterior, model.prior()
    loss = _Reconstruction(model, x)
    chunk = max(1, codes_at_once // max(1, posterior.batch_shape.numel()))
    log_sum = torch.full_like(x[..., 0], -math.inf)
    for start in range(0, importance_samples, chunk):
        draws = min(chunk, importance_samples - start)
        codes = posterior.sample((draws,), generator=generator)
        log_weights = log_ratio(prior, posterior, codes) - loss(codes)
        log_sum = torch.logaddexp(log_sum, log_weights.logsumexp(0))
    return math.log(importance_samples) - log_sum


def temperatures(model: SDLGM) -> dict[str, Tensor]:
    """Return the temperatures of a model as options of ``gumbel_softmax``."""
    return {
        "gate_temperature": model.gate_temperature,
        "feature_temperature": model.feature_temperature,
    }


class _Reconstruction:
    """Maps codes to minus the log-likelihood (nats) of ``x`` under a model."""

    def __init__(self, model: SDLGM, x: Tensor) -> None:
        self.model, self.x = model, x

    def __call__(self, codes: Tensor) -> Tensor:
        return -self.model.data_distribution(codes).log_prob(self.x)


class _WeightedLogRatio:
    """Maps codes to reconstruction + weight * (log q(z) - log p(z))."""

    def __init__(
        self, loss: _Reconstruction, posterior: Grouped, prior: Grouped, weight: Tensor | float
    ) -> None:
        self.loss, self.posterior, self.prior, self.weight = loss, posterior, prior, weight
        self.reconstruction = torch.zeros(posterior.batch_shape)
        """Mean reconstruction over the codes of the last call."""

    def __call__(self, codes: Tensor) -> Tensor:
        value = self.loss(codes)
        self.reconstruction = value.detach().mean(0)
        return value - self.weight * log_ratio(self.prior, self.posterior, codes)


def _terms(reconstruction: Tensor, divergence: KLTerms, codes: Tensor) -> ObjectiveTerms:
    return ObjectiveTerms(
        reconstruction.detach(), divergence.gates.detach(), divergence.features.detach(), codes
    )


def active_features(codes: Tensor) -> Tensor:
    """Count the features present in each code, shape ``(*batch,)`` (int64).

    Examples
    --------
    >>> active_features(torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    tensor([2, 0])
    """
    return (codes > 0).sum(-1)
