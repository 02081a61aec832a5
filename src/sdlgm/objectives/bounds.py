"""Training objectives and reported bounds, in nats per sample; lower is better.

Only the last two of these are bounds:

- ``relaxed_objective``: the objective of the paper, evaluated at relaxed samples. **Not a bound.**
- ``negative_elbo``: evaluated at discrete codes with the exact KL; in expectation an upper bound of
  ``-log p(x)``.
- ``nll_bound``: the importance-weighted bound of ``M`` discrete codes, which is tighter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.distributions import (
    Chain,
    GatedMultinomial,
    Grouped,
    KLForm,
    KLTerms,
    conditionals,
    kl_terms,
    log_ratio,
)
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
        Weight of the KL: a number, or a scalar tensor.
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
    structured = isinstance(posterior, Chain) or isinstance(prior, Chain)
    if not multi_sample(estimator):
        rows, terms = elbo_surrogate(
            posterior, prior, loss, estimator, kl=kl, kl_weight=kl_weight,
            slot_cost=slot_cost if structured else 0.0, generator=generator,
        )  # fmt: skip
        loss_of_batch = rows.mean()
        if slot_cost and not structured:
            loss_of_batch = loss_of_batch + slot_cost * posterior.mean_total.mean()
        return loss_of_batch, terms
    if kl != "exact":
        raise ConfigError(
            f"An estimator of the importance-weighted bound needs kl='exact', got {kl!r}."
        )
    if slot_cost and isinstance(posterior, Chain):
        raise ConfigError(
            "slot_cost cannot be charged by an estimator of the importance-weighted bound if the "
            "posterior has levels. Use slot_cost = 0, estimator = 'reinmax', or levels = 1."
        )
    ratio = _WeightedLogRatio(loss, posterior, prior, kl_weight)
    estimate = estimator(posterior, ratio, generator=generator)
    at_draw = conditionals(posterior, estimate.codes)
    divergence = kl_terms(at_draw, conditionals(prior, estimate.codes), kl)
    charge = slot_cost * posterior.mean_total.mean() if slot_cost else 0.0
    terms = _terms(ratio.reconstruction, divergence, estimate.codes)
    return estimate.surrogate.mean() + charge, terms


def elbo_surrogate(
    posterior: Code,
    prior: Code,
    loss: Loss,
    estimator: Estimator,
    *,
    kl: KLForm = "exact",
    kl_weight: Tensor | float = 1.0,
    slot_cost: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, ObjectiveTerms]:
    r"""Compute the surrogate of each sample, shape ``(*batch,)``, and the detached terms.

    The gradient of the surrogate is that of ``loss + kl_weight * KL + slot_cost * E[L]``, where
    ``loss`` maps codes to minus the log-likelihood of the samples. Estimators of the
    importance-weighted bound are not supported.

    If posterior and prior are products over groups, the KL has a closed form and is added to the
    estimate. Otherwise (:class:`~sdlgm.distributions.Chain`) each group has one given the groups
    before it,

    .. math:: \mathrm{KL}(q \| p) = \mathbb{E}_{q(z)} \sum_g
        \mathrm{KL}\big(q_g(\cdot \mid z_{<g}) \,\|\, p_g(\cdot \mid z_{<g})\big)

    and the estimator receives ``loss`` plus this sum as its loss: its gradient passes through the
    drawn code into both, and directly to the parameters of ``q`` and ``p``.
    """
    if isinstance(posterior, Chain) or isinstance(prior, Chain):
        whole = _StructuredLoss(loss, posterior, prior, kl, kl_weight, slot_cost)
        estimate = estimator(posterior, whole, generator=generator)
        return estimate.surrogate, _terms(*whole.terms(), estimate.codes)
    divergence = kl_terms(posterior, prior, kl)
    estimate = estimator(posterior, loss, generator=generator)
    terms = _terms(estimate.loss, divergence, estimate.codes)
    surrogate = _plus(estimate.surrogate, divergence.total, kl_weight)
    return surrogate + slot_cost * posterior.mean_total if slot_cost else surrogate, terms


@torch.no_grad()
def negative_elbo(
    model: SDLGM,
    x: Tensor,
    *,
    samples: int = 1,
    kl: KLForm = "exact",
    posterior: Grouped | Chain | None = None,
    generator: torch.Generator | None = None,
) -> ObjectiveTerms:
    r"""Estimate the negative ELBO (minus eq. 6) with discrete codes, in nats per sample.

    .. math:: -\mathbb{E}_{q(z|x)} \log p(x \mid z) + \mathrm{KL}(q(z|x) \| p(z))

    The expectation is estimated without bias from ``samples`` codes per sample; the KL is computed
    in closed form, that of a structured code for each group given the drawn groups before it.
    ``codes`` holds the last draw. ``posterior`` replaces that of the model, for
    example by a refined one (:func:`~sdlgm.inference.refinement.refine_posterior`).
    """
    posterior, prior = model(x) if posterior is None else posterior, model.prior()
    structured = isinstance(posterior, Chain) or isinstance(prior, Chain)
    loss = _Reconstruction(model, x)
    total: Tensor | float = 0.0
    divergences: list[KLTerms] = []
    codes = torch.empty(0)
    for _ in range(samples):
        codes = posterior.sample(generator=generator)
        total = total + loss(codes)
        if structured or not divergences:
            given = conditionals(posterior, codes), conditionals(prior, codes)
            divergences.append(kl_terms(*given, kl))
    return _terms(torch.as_tensor(total / samples), _mean(divergences), codes)


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
    posterior: Grouped | Chain | None = None,
    generator: torch.Generator | None = None,
    codes_at_once: int | None = None,
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
        Codes decoded at a time. Default: 2,000 on a CPU, which fit its cache, and 100,000 on other
        devices.

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
    if codes_at_once is None:
        codes_at_once = 2_000 if x.device.type == "cpu" else 100_000
    chunk = max(1, codes_at_once // max(1, posterior.batch_shape.numel()))
    log_sum = torch.full_like(x[..., 0], -math.inf)
    for start in range(0, importance_samples, chunk):
        draws = min(chunk, importance_samples - start)
        codes = posterior.sample((draws,), generator=generator)
        ratio = log_ratio(conditionals(prior, codes), conditionals(posterior, codes), codes)
        log_weights = ratio - loss(codes)
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
        likelihood = self.model.data_distribution(codes)
        direct: Callable[[Tensor], Tensor] | None = getattr(likelihood, "negative_log_prob", None)
        return -likelihood.log_prob(self.x) if direct is None else direct(self.x)


class _WeightedLogRatio:
    """Maps codes to reconstruction + weight * (log q(z) - log p(z))."""

    def __init__(
        self,
        loss: _Reconstruction,
        posterior: Grouped | Chain,
        prior: Grouped | Chain,
        weight: Tensor | float,
    ) -> None:
        self.loss, self.posterior, self.prior, self.weight = loss, posterior, prior, weight
        self.reconstruction = torch.zeros(posterior.batch_shape)
        """Mean reconstruction over the codes of the last call."""

    def __call__(self, codes: Tensor) -> Tensor:
        value = self.loss(codes)
        self.reconstruction = value.detach().mean(0)
        given = conditionals(self.prior, codes), conditionals(self.posterior, codes)
        return value - self.weight * log_ratio(*given, codes)


class _StructuredLoss:
    """Maps codes to reconstruction + weight * KL of the groups + slot cost * open slots.

    The KL and the number of open slots are expectations for each group given those before it.
    """

    def __init__(
        self,
        loss: Loss,
        posterior: Code,
        prior: Code,
        kl: KLForm,
        weight: Tensor | float,
        slot_cost: float,
    ) -> None:
        self.loss, self.posterior, self.prior = loss, posterior, prior
        self.kl, self.weight, self.slot_cost = kl, weight, slot_cost
        self.first: tuple[Tensor, KLTerms] | None = None

    def __call__(self, codes: Tensor) -> Tensor:
        reconstruction = self.loss(codes)
        posterior = _given(self.posterior, codes)
        if posterior.batch_shape != codes.shape[:-1]:  # several codes of a product over groups
            posterior = posterior.expand(codes.shape[:-1])
        divergence = kl_terms(posterior, _given(self.prior, codes), self.kl)
        if self.first is None:  # later calls, of control variates, are not at drawn codes
            self.first = (reconstruction.detach(), divergence)
        value = reconstruction + self.weight * divergence.total
        return value + self.slot_cost * posterior.mean_total if self.slot_cost else value

    def terms(self) -> tuple[Tensor, KLTerms]:
        """Return the reconstruction and the KL of the drawn codes, means over several draws."""
        if self.first is None:
            raise RuntimeError("The estimator did not evaluate its loss.")
        batch, (reconstruction, divergence) = len(self.posterior.batch_shape), self.first
        of_codes = KLTerms(*(_over_draws(term, batch) for term in divergence))
        return _over_draws(reconstruction, batch), of_codes


def _given(distribution: Code, codes: Tensor) -> Grouped:
    if isinstance(distribution, GatedMultinomial):
        raise TypeError("A structured code consists of groups; got a distribution without them.")
    return conditionals(distribution, codes)


def _over_draws(values: Tensor, batch: int) -> Tensor:
    """Return the means over leading dimensions, which hold several draws of a batch."""
    return values.flatten(0, -batch - 1).mean(0) if values.dim() > batch else values


def _mean(terms: list[KLTerms]) -> KLTerms:
    """Return the mean of each term."""
    if len(terms) == 1:
        return terms[0]
    gates, features = zip(*terms, strict=True)
    return KLTerms(torch.stack(gates).mean(0), torch.stack(features).mean(0))


def _plus(value: Tensor, term: Tensor, weight: Tensor | float) -> Tensor:
    """Return ``value + weight * term``."""
    if isinstance(weight, Tensor):  # on the device, where no number has to be read
        return torch.addcmul(value, weight, term)
    return torch.add(value, term, alpha=weight)


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
