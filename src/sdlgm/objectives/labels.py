r"""Losses of the supervised variants (Xu et al. 2021, section III.C), in nats per sample.

A code has a label if at least one of its slots holds it. All label likelihoods here are those of
independent labels, given by the log-probability :math:`a_k` that label k is *absent*:

.. math:: -\log p(y \mid x) = -\sum_{k=1}^{K} w_k a_k
    - \sum_{k:\, y_k = 1} w_k \big[ \log(1 - e^{a_k}) - a_k \big]

so that only the list of present labels is needed, however many labels there are. Weights may also
differ by sample, :math:`w_{ik}`; a weight of 0 masks a label that is unknown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdlgm.distributions import GatedMultinomial
from sdlgm.gradients import get_estimator
from sdlgm.objectives.bounds import elbo_surrogate

if TYPE_CHECKING:
    from sdlgm.models import SupervisedSDLGM

__all__ = [
    "LabelLikelihood",
    "absence",
    "label_nll",
    "negative_labelled_elbo",
    "presence_gradients",
]

LabelLikelihood = Literal["presence", "relaxed"]
"""How a code gives the probability of a label: exactly, or by the paper's relaxed samples."""


def absence(
    posterior: GatedMultinomial,
    labels: int,
    likelihood: LabelLikelihood,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    r"""Log-probabilities :math:`a_k` that labels are absent, shape ``(*batch, labels)``.

    - ``"presence"``: exactly :math:`a_k = L_0 \log(1 - \lambda \pi_k)`, without sampling.
    - ``"relaxed"``: :math:`a_k = \sum_\ell \log(1 - \omega_\ell z_{\ell,k})` of one relaxed sample
      (eqs. 8, 10) at a temperature for gates and features. The paper does not define a likelihood
      of labels for relaxed codes. This one is the presence in a hard code if the sample is hard,
      and is always a probability (the sum over the slots, eq. 12, may exceed 1).
    """
    if likelihood == "presence":
        absent = posterior.absence_log_probs
    else:
        relaxed = posterior.relax(temperature, temperature)
        absent = relaxed.rsample_absence(generator=generator)
    # backward would copy a slice, even of all labels.
    return absent if absent.shape[-1] == labels else absent[..., :labels]


def label_nll(
    absent: Tensor, rows: Tensor, columns: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Minus the log-likelihood of labels (nats), shape ``(*batch,)``.

    Parameters
    ----------
    absent
        Log-probabilities of absence, shape ``(*batch, K)``.
    rows, columns
        The present labels: indices of their samples in the flattened batch, and of the labels.
    weights
        Weight of each label, shape ``(K,)``, or of each label of each sample, ``(*batch, K)``; 1 by
        default.
    """
    return _LabelNLL.apply(absent, rows, columns, weights)


class _LabelNLL(torch.autograd.Function):
    r"""See :func:`label_nll`; with the gradient in closed form.

    With respect to :math:`a_k` it is :math:`w_k / (e^{-a_k} - 1)` for a present label and
    :math:`-w_k` for an absent one.
    """

    @staticmethod
    def forward(
        ctx: Any, absent: Tensor, rows: Tensor, columns: Tensor, weights: Tensor | None
    ) -> Tensor:
        table = absent.reshape(-1, absent.shape[-1])
        present = table[rows, columns]
        gain = log1mexp(present) - present
        if weights is None:
            total = table.sum(-1)
        elif weights.dim() == 1:
            total, gain = table @ weights, gain * weights[columns]
        else:
            weights = weights.reshape(table.shape)
            total, gain = (table * weights).sum(-1), gain * weights[rows, columns]
        ctx.save_for_backward(present, rows, columns, weights)
        ctx.shape = absent.shape
        return total.index_add_(0, rows, gain).neg_().view(absent.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        present, rows, columns, weights = ctx.saved_tensors
        flat = grad.reshape(-1)
        slope = flat[rows] / torch.expm1(-present.clamp(max=-torch.finfo(present.dtype).tiny))
        if weights is None:
            table = flat.neg().unsqueeze(-1).repeat(1, ctx.shape[-1])
        elif weights.dim() == 1:
            table = torch.outer(-flat, weights)
            slope = slope * weights[columns]
        else:
            table = -flat.unsqueeze(-1) * weights
            slope = slope * weights[rows, columns]
        table[rows, columns] = slope
        return table.view(ctx.shape), None, None, None


@torch.no_grad()
def presence_gradients(
    total_count: int,
    gates: Tensor,
    features: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Mean of :func:`label_nll` for exact presence, and its gradients, of dense labels.

    With the probability :math:`t_k = \lambda \pi_k` that a slot holds label k, and
    :math:`p_k = 1 - (1 - t_k)^{L_0}` that a code does, the gradient with respect to
    :math:`\log t_k` is, for n samples,

    .. math:: u_k = \frac{L_0}{n} w_k \frac{t_k - t_k y_k / p_k}{1 - t_k},

    and with respect to the logits of gate and features :math:`(1 - \lambda) \sum_k u_k` and
    :math:`u_k - \pi_k \sum_j u_j`. As in
    :attr:`~sdlgm.distributions.GatedMultinomial.absence_log_probs`, :math:`t_k` is clamped; the
    gradients are those at the clamped value, and not 0 as there.

    Parameters
    ----------
    total_count, gates, features
        The budget and the logits ``(m, 1, b)`` and ``(m, K, b)`` of a
        :class:`~sdlgm.distributions.GatedMultinomial` whose K features are the labels.
    labels
        0 or 1, in the type of the logits, shape ``(m, K, b)``.
    weights
        Weight of each label, of a shape that broadcasts with that of ``labels``; 1 by default.

    Returns
    -------
    The mean, and the gradients with respect to ``gates`` and ``features``.
    """
    number, limits = gates.numel(), torch.finfo(features.dtype)
    probs, opened = features.softmax(1), gates.sigmoid()
    taken = (probs * opened).clamp_(max=1 - limits.eps)
    absent = taken.neg().log1p_().mul_(total_count)
    present = absent.expm1().neg_().clamp_(min=limits.tiny)
    slope = taken.addcdiv(taken * labels, present, value=-1)
    slope /= torch.rsub(taken, number / total_count, alpha=number / total_count)
    each = absent.lerp_(present.log_(), labels)
    if weights is not None:
        each, slope = each * weights, slope * weights
    total = slope.sum(1, keepdim=True)
    into_features = slope.addcmul_(probs, total, value=-1)
    return each.sum() / -number, total.addcmul_(total, opened, value=-1), into_features


def negative_labelled_elbo(
    model: SupervisedSDLGM,
    posterior: GatedMultinomial,
    x: Tensor,
    likelihood: LabelLikelihood,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    r"""Surrogate of the negative ELBO (eq. 6) of samples ``x``, nats, shape ``(members, b)``.

    .. math:: -\mathbb{E}_{q(y, z \mid x)} \log p(x \mid y, z) + \mathrm{KL}(q(y, z|x) \| p(y, z))

    Labels and latent features are sampled from the encoder, as in section III.B; the known labels
    enter by the "extra loss" of section III.C, :func:`label_nll`. The gradient estimator is ReinMax
    (with the exact KL) or, for the relaxed likelihood, the paper's Gumbel-Softmax (with the KL of
    eqs. 13 and 14), whose value is not a bound.
    """
    if likelihood == "presence":
        estimator = get_estimator("reinmax")
    else:
        estimator = get_estimator(
            "gumbel_softmax", gate_temperature=temperature, feature_temperature=temperature
        )
    surrogate, _ = elbo_surrogate(
        posterior,
        model.prior().expand(posterior.batch_shape),
        lambda codes: -model.data_distribution(codes).log_prob(x),
        estimator,
        kl="exact" if likelihood == "presence" else "paper",
        generator=generator,
    )
    return surrogate


def log1mexp(log_probs: Tensor) -> Tensor:
    """``log(1 - exp(a))`` for ``a <= 0``, accurate at both ends and finite."""
    a = log_probs.clamp(max=-torch.finfo(log_probs.dtype).tiny)
    small = a > -math.log(2)
    # The unused branch gets harmless values, so that its gradient is not NaN.
    near = torch.log(-torch.expm1(torch.where(small, a, -1.0)))
    far = torch.log1p(-torch.exp(torch.where(small, -1.0, a)))
    return torch.where(small, near, far)
