"""The distribution that this library is built on: a vector of counts under a budget."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Size, Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import constraints
from torch.distributions.utils import lazy_property
from torch.nn import functional as F

from sdlgm.distributions._base import CountDistribution, broadcast_logits
from sdlgm.distributions._chunks import in_chunks
from sdlgm.distributions._counts import (
    check_total,
    log_orderings,
    log_softmax,
    most_probable_counts,
    nearest_counts,
    weighted,
)
from sdlgm.distributions.relaxed import RelaxedGatedMultinomial
from sdlgm.kernels import codes as kernels
from sdlgm.kernels import launch
from sdlgm.random import draw_rows

__all__ = ["GatedMultinomial"]


class GatedMultinomial(CountDistribution):
    r"""Counts of ``K`` features in ``L0`` gated slots: a code under a hard budget.

    Each slot :math:`\ell = 1, \dots, L_0` is closed with probability :math:`1 - \lambda`;
    otherwise it holds feature :math:`k` with probability :math:`\pi_k`. The code :math:`z` counts
    the features, so that exactly

    .. math::

        (z_1, \dots, z_K, L_0 - \textstyle\sum_k z_k) \sim
        \mathrm{Multinomial}(L_0;\ \lambda\pi_1, \dots, \lambda\pi_K,\ 1 - \lambda)

    with :math:`\lambda` = sigmoid(``gate_logits``) and :math:`\pi` = softmax(``feature_logits``).
    Hence every code satisfies :math:`\|z\|_0 \le \sum_k z_k \le L_0`, and the number of open
    slots is :math:`L = \sum_k z_k \sim \mathrm{Binomial}(L_0, \lambda)`. No method builds an
    ``L0 x K`` tensor.

    Parameters
    ----------
    total_count
        Budget :math:`L_0 \ge 1`, the number of slots.
    gate_logits
        Log-odds of an open gate, shape ``(*batch,)``; ``inf`` keeps every gate open.
    feature_logits
        Unnormalised log-probabilities of the features, shape ``(*batch, K)``.
    validate_args
        As in :class:`torch.distributions.Distribution`.

    Raises
    ------
    ValueError
        If ``total_count`` is not a positive integer, ``feature_logits`` has no feature dimension,
        or a parameter is NaN.

    References
    ----------
    Xu, Onoro Rubio, Serra, Niepert, "Learning Sparsity of Representations with Discrete Latent
    Variables", IJCNN 2021, eqs. 1, 2, 7 and 9.

    Examples
    --------
    >>> q = GatedMultinomial(3, torch.tensor(0.0), torch.zeros(4))
    >>> q.mean
    tensor([0.3750, 0.3750, 0.3750, 0.3750])
    >>> q.log_prob(torch.tensor([1.0, 0.0, 2.0, 0.0])).exp()
    tensor(0.0059)
    >>> z = q.sample((1000,))
    >>> z.shape, bool((z.sum(-1) <= 3).all())
    (torch.Size([1000, 4]), True)
    """

    arg_constraints = {  # noqa: RUF012 (the signature torch expects)
        "gate_logits": constraints.real,
        "feature_logits": constraints.real_vector,
    }

    def __init__(
        self,
        total_count: int,
        gate_logits: Tensor,
        feature_logits: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.total_count = total_count
        self.gate_logits, self.feature_logits = broadcast_logits(
            total_count, gate_logits, feature_logits
        )
        batch_shape, event_shape = self.gate_logits.shape, self.feature_logits.shape[-1:]
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    # --- probabilities of gates and features --------------------------------------------------

    @lazy_property
    def open_log_prob(self) -> Tensor:
        r"""Log-probability of an open gate, :math:`\log \lambda`, shape ``(*batch,)``."""
        return F.logsigmoid(self.gate_logits)

    @lazy_property
    def closed_log_prob(self) -> Tensor:
        r"""Log-probability of a closed gate, :math:`\log(1 - \lambda)`, shape ``(*batch,)``."""
        return F.logsigmoid(-self.gate_logits)

    @lazy_property
    def feature_log_probs(self) -> Tensor:
        r"""Log-probabilities of the features, :math:`\log \pi`, shape ``(*batch, K)``."""
        return log_softmax(self.feature_logits)

    @lazy_property
    def open_prob(self) -> Tensor:
        r"""Probability of an open gate, :math:`\lambda`, shape ``(*batch,)``."""
        return self.open_log_prob.exp()

    @lazy_property
    def feature_probs(self) -> Tensor:
        r"""Probabilities of the features, :math:`\pi`, shape ``(*batch, K)``."""
        return self.feature_log_probs.exp()

    @cached_property
    def slot_log_probs(self) -> Tensor:  # type: ignore[override]
        r"""Log-probabilities of the outcomes of one slot, shape ``(*batch, K + 1)``.

        .. math:: (\log \lambda\pi_1, \dots, \log \lambda\pi_K, \log(1 - \lambda))
        """
        with torch.enable_grad():
            features = self.open_log_prob.unsqueeze(-1) + self.feature_log_probs
            return torch.cat([features, self.closed_log_prob.unsqueeze(-1)], dim=-1)

    # --- closed forms -------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        r"""Expected counts :math:`L_0 \lambda \pi`, shape ``(*batch, K)``."""
        return self.total_count * self.slot_log_probs[..., :-1].exp()

    @property
    def mean_total(self) -> Tensor:
        r"""Expected number of open slots :math:`L_0 \lambda`, shape ``(*batch,)``."""
        return self.total_count * self.open_prob

    @property
    def variance(self) -> Tensor:
        r"""Variance of each count, :math:`L_0 \lambda\pi_k (1 - \lambda\pi_k)`."""
        probs = self.slot_log_probs[..., :-1].exp()
        return self.total_count * probs * (1 - probs)

    @property
    def mode(self) -> Tensor:
        """A most probable code, shape ``(*batch, K)``.

        The log-probability is a sum of concave functions of the K + 1 counts, so assigning the
        slots one by one to the outcome with the largest gain is exact. If many slots share a flat
        posterior, the mode is often the empty code; :attr:`rounded_mean` keeps more information.
        """
        counts = most_probable_counts(self.total_count, self.slot_log_probs.detach().exp())
        return counts[..., :-1]

    @property
    def rounded_mean(self) -> Tensor:
        r"""The code nearest to the mean, shape ``(*batch, K)``.

        The expected counts :math:`s = L_0 (\lambda\pi_1, \dots, \lambda\pi_K, 1 - \lambda)` of
        the features and of "closed" are rounded down, and each remaining slot goes to one of the
        largest remainders (ties go to the lower index). The result minimises
        :math:`\sum_i |n_i - s_i|^p` over the K + 1 counts of all codes, for every
        :math:`p \ge 1`. With one slot it is the mode. If many slots share a flat posterior, the
        mode is empty, while this code opens the expected number of slots, up to rounding.
        """
        return nearest_counts(self.total_count, self.slot_log_probs.detach().exp())[..., :-1]

    @property
    def presence_probs(self) -> Tensor:
        r"""Probability that a feature is present, shape ``(*batch, K)``.

        .. math:: P(z_k \ge 1) = 1 - (1 - \lambda\pi_k)^{L_0}
        """
        return -torch.expm1(self.absence_log_probs)

    @property
    def absence_log_probs(self) -> Tensor:
        r"""Log-probability (nats) that a feature is absent, shape ``(*batch, K)``.

        .. math:: \log P(z_k = 0) = L_0 \log(1 - \lambda\pi_k)

        :math:`\lambda\pi_k` is clamped at 1 minus the dtype's machine epsilon, so that values and
        gradients stay finite for a feature that takes every slot.
        """
        return _Absence.apply(self.total_count, self.gate_logits, self.feature_logits)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log-probability (nats) of codes of shape ``(*sample, *batch, K)``.

        .. math:: \log \frac{L_0!}{z_1! \cdots z_K!\, n!} + \sum_k z_k \log \lambda\pi_k
            + n \log(1 - \lambda), \qquad n = L_0 - \textstyle\sum_k z_k

        Raises
        ------
        ValueError
            If ``validate_args`` is set and a value is not a code.
        """
        counts = self._with_closed(value)
        chosen = weighted(counts, self.slot_log_probs).sum(-1, dtype=torch.float64)
        return (log_orderings(self.total_count, counts) + chosen).to(self.slot_log_probs.dtype)

    def total_log_prob(self, total: Tensor) -> Tensor:
        r"""Log-probability (nats) of the number of open slots :math:`L = \sum_k z_k`.

        .. math:: L \sim \mathrm{Binomial}(L_0, \lambda)

        Parameters
        ----------
        total
            Integers in ``0..total_count``, of a shape that broadcasts with the batch. For a batch
            of one dimension, ``torch.arange(total_count + 1).unsqueeze(-1)`` gives the whole
            distribution.
        """
        check_total(total, self.total_count, self._validate_args)
        total = total.double()
        rest = self.total_count - total
        choose = log_orderings(self.total_count, torch.stack([total, rest], dim=-1))
        chosen = weighted(total, self.open_log_prob) + weighted(rest, self.closed_log_prob)
        return (choose + chosen).to(self.gate_logits.dtype)

    # --- draws --------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw codes of shape ``(*sample, *batch, K)``, in the dtype of the logits.

        One uniform number per slot decides whether its gate is open and, by inversion of the
        cumulative probabilities, which feature it holds. The inversion is done in float64, so that
        it stays accurate with 100,000 features. Time per code: ``O(K + L0 log K)``.

        Parameters
        ----------
        sample_shape
            Leading shape of the draws.
        generator
            Source of randomness; ``None`` uses torch's global generator.
        """
        sample_shape = Size(sample_shape)
        draws, features = sample_shape.numel(), self.event_shape[0]
        logits = self.feature_logits.reshape(-1, features)
        width = draws * self.total_count
        options: dict[str, Any] = {"device": logits.device, "generator": generator}
        uniform = draw_rows(
            lambda rows: torch.rand((rows, width), dtype=torch.float64, **options),
            len(logits),
            generator,
        )
        if launch.usable(logits):
            counts = kernels.draw_counts(
                self.gate_logits.reshape(-1), logits, uniform, self.total_count
            )
            return counts.view(self._extended_shape(sample_shape))
        probs = self.feature_probs.reshape(-1, features)
        open_prob = self.open_prob.reshape(-1, 1)
        counts = probs.new_zeros(len(probs), draws, features)
        in_chunks(_fill_counts, probs, open_prob, uniform, counts)
        return counts.transpose(0, 1).reshape(self._extended_shape(sample_shape))

    def relax(
        self, gate_temperature: Tensor | float, feature_temperature: Tensor | float
    ) -> RelaxedGatedMultinomial:
        """Return the continuous relaxation (eqs. 8, 10, 12 of the paper) at two temperatures."""
        return RelaxedGatedMultinomial(
            self.total_count,
            self.gate_logits,
            self.feature_logits,
            gate_temperature,
            feature_temperature,
            validate_args=self._validate_args,
        )


def _fill_counts(probs: Tensor, open_prob: Tensor, uniform: Tensor, counts: Tensor) -> None:
    """Fill ``counts`` from one uniform number per slot; overwrites ``uniform``."""
    cdf = probs.cumsum(-1, dtype=torch.float64)
    opened = (uniform < open_prob).to(probs)
    # Given an open gate, the number is uniform between 0 and the gate's probability.
    uniform.mul_(cdf[:, -1:] / open_prob)
    slots = torch.searchsorted(cdf, uniform, right=True).clamp_(max=probs.shape[-1] - 1)
    draws = counts.shape[1]
    shape = (len(counts), draws, slots.shape[-1] // max(1, draws))
    counts.scatter_add_(-1, slots.view(shape), opened.view(shape))


class _Absence(torch.autograd.Function):
    r"""Log-probabilities of absence, with gradients in closed form.

    Let :math:`u_k` be the gradient with respect to :math:`\log \lambda\pi_k`: the incoming
    gradient times :math:`-L_0 \lambda\pi_k / (1 - \lambda\pi_k)`. The gradients with respect to the
    logits of the gate and of the features are

    .. math:: (1 - \lambda) \sum_k u_k, \qquad u_k - \pi_k \sum_j u_j.

    Two tensors of K features are saved for backward, where autograd would save five.
    """

    @staticmethod
    def forward(ctx: Any, total_count: int, gates: Tensor, logits: Tensor) -> Tensor:
        features = log_softmax(logits)
        taken = (features + F.logsigmoid(gates).unsqueeze(-1)).exp_()
        taken.clamp_(max=1 - torch.finfo(taken.dtype).eps)
        ctx.total_count = total_count
        ctx.save_for_backward(gates, features, taken)
        return taken.neg().log1p_().mul_(total_count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        gates, features, taken = ctx.saved_tensors
        # The gradients of clamped probabilities are zero.
        clamped = taken == 1 - torch.finfo(taken.dtype).eps
        slope = (taken / (taken - 1)).mul_(grad).mul_(ctx.total_count).masked_fill_(clamped, 0.0)
        total = slope.sum(-1)
        gate = total * torch.sigmoid(-gates) if ctx.needs_input_grad[1] else None
        return None, gate, slope.addcmul_(features.exp(), total.unsqueeze(-1), value=-1)
