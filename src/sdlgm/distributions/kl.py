"""Kullback-Leibler divergences between distributions over codes, in closed form."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import register_kl

from sdlgm.distributions.gated_multinomial import GatedMultinomial
from sdlgm.distributions.grouped import Grouped
from sdlgm.kernels import codes as kernels
from sdlgm.kernels import launch

__all__ = ["KLForm", "KLTerms", "kl_terms", "log_ratio"]

KLForm = Literal["exact", "paper"]
"""``"exact"`` is the divergence itself, ``"paper"`` the looser bound of eqs. 13 and 14."""


class KLTerms(NamedTuple):
    """The two terms of a divergence (nats), each of shape ``(*batch,)``."""

    gates: Tensor
    """Divergence of the gates (eq. 13)."""
    features: Tensor
    """Divergence of the features (eq. 14; weighted by the open gates in the exact form)."""

    @property
    def total(self) -> Tensor:
        """Sum of both terms (nats)."""
        return self.gates + self.features


def kl_terms(
    q: GatedMultinomial | Grouped, p: GatedMultinomial | Grouped, form: KLForm = "exact"
) -> KLTerms:
    r"""Compute the terms of :math:`\mathrm{KL}(q \| p)` (nats) between two distributions of codes.

    .. math::

        \mathrm{KL}(q \| p) = L_0 \big[ \mathrm{KL}(\mathrm{Bern}(\lambda) \|
        \mathrm{Bern}(\lambda_0)) + w\, \mathrm{KL}(\pi \| \alpha) \big]

    with :math:`w = \lambda` for ``form="exact"`` and :math:`w = 1` for ``form="paper"``. Eqs. 13
    and 14 of the paper also charge for features behind closed gates, which gives a valid but looser
    bound. The KL between counts equals the KL between sequences of slots, since both are
    exchangeable. For :class:`Grouped` the terms are summed over the groups.

    Parameters
    ----------
    q, p
        Posterior and prior, both :class:`GatedMultinomial` or both :class:`Grouped`, with
        batch shapes that broadcast.
    form
        ``"exact"`` or ``"paper"``.

    Returns
    -------
    KLTerms
        Terms of the gates and of the features, each of shape ``(*batch,)``.

    Raises
    ------
    ValueError
        If the budgets, groups or numbers of features differ, or ``form`` is unknown.

    Examples
    --------
    >>> q = GatedMultinomial(4, torch.tensor(0.0), torch.tensor([2.0, 0.0]))
    >>> p = GatedMultinomial(4, torch.tensor(0.0), torch.tensor([0.0, 0.0]))
    >>> kl_terms(q, p)
    KLTerms(gates=tensor(0.), features=tensor(0.6556))
    >>> kl_terms(q, p, "paper").features
    tensor(1.3113)
    """
    if isinstance(q, Grouped) and isinstance(p, Grouped):
        if q.groups != p.groups:
            raise ValueError(f"The KL needs equal groups, got {q.groups} and {p.groups}.")
        return _kl_terms(q._discrete_base, p._discrete_base, form, groups=True)
    if isinstance(q, Grouped) or isinstance(p, Grouped):
        raise ValueError("The KL needs two grouped distributions, or two that are not grouped.")
    return _kl_terms(q, p, form, groups=False)


def _kl_terms(q: GatedMultinomial, p: GatedMultinomial, form: KLForm, *, groups: bool) -> KLTerms:
    """Terms of gated multinomials, summed over the last batch dimension if it holds groups."""
    if q.total_count != p.total_count or q.event_shape != p.event_shape:
        raise ValueError(
            "The KL needs equal budgets and features, got "
            f"L0 = {q.total_count}, K = {q.event_shape[0]} and "
            f"L0 = {p.total_count}, K = {p.event_shape[0]}."
        )
    if form not in ("exact", "paper"):
        raise ValueError(f"The form of the KL must be 'exact' or 'paper', got {form!r}.")
    logits = (q.gate_logits, q.feature_logits, p.gate_logits, p.feature_logits)
    repeats = q.batch_shape[len(q.batch_shape) - len(p.batch_shape) :] == p.batch_shape
    if repeats and all(map(launch.usable, (q.feature_logits, p.feature_logits))):
        count, shape = (q.batch_shape[-1], q.batch_shape[:-1]) if groups else (1, q.batch_shape)
        found = _KernelKL.apply(q.total_count, form == "exact", count, *logits)
        return KLTerms(*(each.view(shape) for each in found))
    return KLTerms(*_SlotsKL.apply(q, p, form == "exact", groups, *logits))


class _SlotsKL(torch.autograd.Function):
    r"""Both terms of the KL, with gradients in closed form.

    With :math:`D = \mathrm{KL}(\pi \| \alpha)` and :math:`w = \lambda` or 1, the gradients of
    gates + features (divided by L0) with respect to the logits are

    .. math::

        \lambda (1 - \lambda) \Big[ \log \frac{\lambda (1 - \lambda_0)}{(1 - \lambda) \lambda_0}
        + w' D \Big], \quad w \pi \Big[ \log \frac\pi\alpha - D \Big], \quad
        \lambda_0 - \lambda, \quad w (\alpha - \pi)

    for the gates and features of ``q``, then of ``p``, with :math:`w' = 1` in the exact form and
    0 in the paper's. An outcome that is impossible under ``q`` contributes 0, even if it is
    impossible under ``p`` as well.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: GatedMultinomial,
        p: GatedMultinomial,
        exact: bool,
        groups: bool,
        *logits: Tensor,
    ) -> tuple[Tensor, Tensor]:
        opened, closed, probs = q.open_prob, q.closed_log_prob.exp(), q.feature_probs
        open_ratio = _log_ratio(opened, q.open_log_prob, p.open_log_prob)
        closed_ratio = _log_ratio(closed, q.closed_log_prob, p.closed_log_prob)
        gates = torch.addcmul(opened * open_ratio, closed, closed_ratio)
        # Not in place: torch.compile cannot trace saved results of in-place operations.
        weighted = probs * _log_ratio(probs, q.feature_log_probs, p.feature_log_probs)
        divergence = weighted.sum(-1)
        features = opened * divergence if exact else divergence
        if groups:
            gates, features = gates.sum(-1), features.sum(-1)
        log_odds = open_ratio - closed_ratio
        ctx.save_for_backward(opened, closed, probs, log_odds, weighted, divergence)
        ctx.prior = (p.open_prob, p.feature_probs)
        ctx.total_count, ctx.exact, ctx.groups = q.total_count, exact, groups
        ctx.shapes = [t.shape for t in logits]
        return q.total_count * gates, q.total_count * features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        opened, closed, probs, log_odds, weighted, divergence = ctx.saved_tensors
        gates, features = (ctx.total_count * (g.unsqueeze(-1) if ctx.groups else g) for g in grads)
        weight = (opened * features if ctx.exact else features).unsqueeze(-1)
        found: list[Tensor | None] = [None] * 4
        if ctx.needs_input_grad[4]:
            slope = gates * log_odds
            if ctx.exact:
                slope.addcmul_(features, divergence)
            found[0] = slope.mul_(opened).mul_(closed)
        if ctx.needs_input_grad[5]:
            inner = torch.addcmul(weighted, probs, divergence.unsqueeze(-1), value=-1)
            found[1] = inner.mul_(weight)
        if ctx.needs_input_grad[6]:
            found[2] = gates * (ctx.prior[0] - opened)
        if ctx.needs_input_grad[7]:
            found[3] = weight * (ctx.prior[1] - probs)
        summed = [
            p if p is None else p.sum_to_size(s) for p, s in zip(found, ctx.shapes, strict=True)
        ]
        return *(None,) * 4, *summed


class _KernelKL(torch.autograd.Function):
    """The terms and gradients of :class:`_SlotsKL` on a GPU, summed over ``groups`` rows."""

    @staticmethod
    def forward(
        ctx: Any, total_count: int, exact: bool, groups: int, *logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        flat = _flat(*logits)
        ctx.save_for_backward(*flat)
        ctx.settings, ctx.shapes = (total_count, groups, exact), [each.shape for each in logits]
        return kernels.kl_sums(flat[:2], flat[2:], *ctx.settings)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat = ctx.saved_tensors
        found = kernels.kl_gradients(flat[:2], flat[2:], (grads[0], grads[1]), *ctx.settings)
        wanted = zip(found, ctx.shapes, ctx.needs_input_grad[3:], strict=True)
        return *(None,) * 3, *(
            each.view(shape) if needed else None for each, shape, needed in wanted
        )


def _flat(
    q_gates: Tensor, q_features: Tensor, p_gates: Tensor, p_features: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return logits of gates as ``(n,)`` and of features as ``(n, K)``."""
    width = q_features.shape[-1]
    return (
        q_gates.reshape(-1),
        q_features.reshape(-1, width),
        p_gates.reshape(-1),
        p_features.reshape(-1, width),
    )


def _log_ratio(probs: Tensor, log_q: Tensor, log_p: Tensor) -> Tensor:
    """Return ``log_q - log_p`` where the probabilities of q are positive, and 0 elsewhere."""
    return (log_q - log_p).masked_fill_(probs == 0, 0.0)


@register_kl(GatedMultinomial, GatedMultinomial)
def _kl_gated(q: GatedMultinomial, p: GatedMultinomial) -> Tensor:
    return kl_terms(q, p).total


@register_kl(Grouped, Grouped)
def _kl_grouped(q: Grouped, p: Grouped) -> Tensor:
    return kl_terms(q, p).total


def log_ratio(p: Grouped, q: Grouped, value: Tensor) -> Tensor:
    r"""Compute :math:`\log p(z) - \log q(z)` (nats) for codes of shape ``(*sample, *batch, K)``.

    The number of orderings of the slots cancels. What remains is a product of the counts with the
    differences of the slots' log-probabilities: one matrix product, no log-gamma.

    Examples
    --------
    >>> p = Grouped(GatedMultinomial(1, torch.zeros(2), torch.zeros(2, 3)))
    >>> q = Grouped(GatedMultinomial(1, torch.ones(2), torch.zeros(2, 3)))
    >>> z = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    >>> torch.allclose(log_ratio(p, q, z), p.log_prob(z) - q.log_prob(z))
    True
    """
    return q.slot_sum(value, p.slot_log_probs - q.slot_log_probs)
