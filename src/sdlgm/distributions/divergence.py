"""Kullback-Leibler divergences between codes, in closed form and with their terms."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import register_kl

from sdlgm.distributions.gated_multinomial import GatedMultinomial, weighted
from sdlgm.distributions.grouped import Grouped

__all__ = ["KLForm", "KLTerms", "kl_terms", "log_ratio"]

KLForm = Literal["exact", "paper"]
"""``"exact"`` is the divergence itself; ``"paper"`` the looser bound of eqs. 13 + 14."""


class KLTerms(NamedTuple):
    """The two parts of a divergence (nats), each of shape ``(*batch,)``."""

    gates: Tensor
    """Divergence of the gates (eq. 13)."""
    features: Tensor
    """Divergence of the features (eq. 14; weighted by the open gates in the exact form)."""

    @property
    def total(self) -> Tensor:
        """Their sum (nats)."""
        return self.gates + self.features


def kl_terms(
    q: GatedMultinomial | Grouped, p: GatedMultinomial | Grouped, form: KLForm = "exact"
) -> KLTerms:
    r"""Terms of :math:`\mathrm{KL}(q \| p)` (nats) between two codes.

    .. math::

        \mathrm{KL}(q \| p) = L_0 \big[ \mathrm{KL}(\mathrm{Bern}(\lambda) \|
        \mathrm{Bern}(\lambda_0)) + w\, \mathrm{KL}(\pi \| \alpha) \big]

    with :math:`w = \lambda` (``form="exact"``) or :math:`w = 1` (``form="paper"``: eqs. 13 and 14
    charge for features behind closed gates too, which is a valid but looser bound).

    Raises
    ------
    ValueError
        If the budgets, groups or numbers of features differ, or ``form`` is unknown.
    """
    if isinstance(q, Grouped) and isinstance(p, Grouped):
        if q.groups != p.groups:
            raise ValueError(f"KL needs equal groups, got {q.groups} and {p.groups}.")
        terms = kl_terms(q._discrete, p._discrete, form)
        return KLTerms(terms.gates.sum(-1), terms.features.sum(-1))
    if isinstance(q, Grouped) or isinstance(p, Grouped):
        raise ValueError("KL needs both codes grouped or both not.")
    if q.total_count != p.total_count or q.event_shape != p.event_shape:
        raise ValueError(
            "KL needs equal budgets and features, got "
            f"L0 = {q.total_count}, K = {q.event_shape[0]} and "
            f"L0 = {p.total_count}, K = {p.event_shape[0]}."
        )
    if form not in ("exact", "paper"):
        raise ValueError(f"The form of the KL is 'exact' or 'paper', got {form!r}.")
    open_prob, closed_prob = q.open_log_prob.exp(), q.closed_log_prob.exp()
    gates = (
        weighted(open_prob, q.open_log_prob)
        + weighted(closed_prob, q.closed_log_prob)
        - weighted(open_prob, p.open_log_prob)
        - weighted(closed_prob, p.closed_log_prob)
    )
    probs = q.feature_log_probs.exp()
    features = weighted(probs, q.feature_log_probs) - weighted(probs, p.feature_log_probs)
    divergence = features.sum(-1)
    if form == "exact":
        divergence = open_prob * divergence
    return KLTerms(q.total_count * gates, q.total_count * divergence)


@register_kl(GatedMultinomial, GatedMultinomial)
def _kl_gated(q: GatedMultinomial, p: GatedMultinomial) -> Tensor:
    return kl_terms(q, p).total


@register_kl(Grouped, Grouped)
def _kl_grouped(q: Grouped, p: Grouped) -> Tensor:
    return kl_terms(q, p).total


def log_ratio(p: Grouped, q: Grouped, value: Tensor) -> Tensor:
    r"""Compute :math:`\log p(z) - \log q(z)` (nats) of codes of shape ``(*sample, *batch, K)``.

    The number of orderings of the slots cancels, so that what is left is a product of the counts
    with the difference of the slots' log-probabilities: no log-gamma, one matrix product.
    """
    weights = p._discrete.slot_log_probs - q._discrete.slot_log_probs
    counts = q.split(value)
    closed = q._discrete.total_count - counts.sum(-1, keepdim=True)
    counts = torch.cat([counts, closed], dim=-1)
    # An outcome without a count is worth nothing, however impossible (inf - inf) it is.
    return torch.where(counts == 0, 0.0, counts * weights).sum((-2, -1))
