"""Refit the decoder and the prior of a model to given codes, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.environment import neutral
from sdlgm.errors import ConfigError
from sdlgm.inference.linear import is_linear, shares_of, weights_of_errors
from sdlgm.inference.slots import counts_of, slots_of
from sdlgm.nn.likelihoods import Gaussian
from sdlgm.nn.statistics import standardise

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["least_squares", "refit_decoder", "refit_prior", "set_prior", "weighted_counts"]

ROWS_AT_ONCE = 8192
"""Rows that are held in double precision at a time."""


@neutral()
@torch.no_grad()
def refit_decoder(
    model: SDLGM, x: Tensor, codes: Tensor, *, weight: Tensor | float = 1.0, ridge: float = 1.0
) -> None:
    r"""Fit a linear decoder to codes by weighted ridge regression, in place.

    .. math:: \min_{W, b}\ \sum_n w_n \|t_n - W z_n - b\|^2 + \rho\, \bar w\, \|W\|^2

    where :math:`t` are the samples in standard units and :math:`\bar w` is the mean weight. With
    ``prefixes``, the squared error is the mean of those of the prefixes and of the whole code. The
    likelihood's scale does not change.

    Parameters
    ----------
    model
        A model with a Gaussian likelihood and no hidden layers.
    x, codes
        Samples ``(n, D)`` and their codes ``(n, K)``.
    weight
        Positive weights of the samples: a number or shape ``(n,)``.
    ridge
        The penalty ``rho``, positive. It acts like this many mean samples in which a feature is
        present.

    Raises
    ------
    ConfigError
        If the decoder has hidden layers, the likelihood is not Gaussian, or ``ridge`` is not
        positive.
    """
    likelihood = model.likelihood
    if not isinstance(likelihood, Gaussian) or not is_linear(model):
        raise ConfigError(
            "Only a linear decoder can be refitted: train the model with "
            "likelihood='gaussian' and decoder_hidden=(), got "
            f"{model.config.likelihood!r} and {model.config.decoder_hidden!r}."
        )
    if not ridge > 0:
        raise ConfigError(f"ridge must be positive, got {ridge}.")
    target = standardise(x.to(model.device), likelihood.shift, likelihood.unit)
    slots = slots_of(codes.to(model.device), model.groups, model.config.budget)
    weights = torch.as_tensor(weight, dtype=torch.float64, device=target.device).expand(len(x))
    size = model.config.features // model.groups
    entries, bias = least_squares(
        target, slots, model.groups, size, weights=weights, ridge=ridge,
        error_weights=weights_of_errors(model.config),
    )  # fmt: skip
    model.output_head.weight.copy_(entries.T)
    model.output_head.bias.copy_(bias)


def least_squares(
    x: Tensor,
    slots: Tensor,
    groups: int,
    size: int,
    *,
    weights: Tensor | None = None,
    ridge: float = 1.0,
    error_weights: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the entries ``(K, D)`` and the bias ``(D,)`` that fit vectors best, in float64.

    This is the problem of :func:`refit_decoder`. Its normal equations are sums over pairs of slots,
    so that no matrix of shape ``(n, K)`` is made.

    Parameters
    ----------
    x
        Vectors, shape ``(n, D)``.
    slots
        Their codes as slots, shape ``(n, L0)``: see :mod:`sdlgm.inference.slots`.
    groups, size
        Number of groups, and of features in each.
    weights
        Positive weights ``(n,)``. Default: ones.
    ridge
        The penalty, in units of a mean row.
    error_weights
        Weights ``(G,)`` of the squared errors of the first 1, ..., G groups, whose weighted sum is
        minimised: see :class:`~sdlgm.inference.linear.AdditiveSearch`. Default: that of all groups.
    """
    features = groups * size
    if weights is None:
        weights = torch.ones(len(x), dtype=torch.float64, device=x.device)
    weights = weights / weights.mean()
    gram = x.new_zeros(features + 1, features + 1, dtype=torch.float64)
    moments = x.new_zeros(features + 1, x.shape[1], dtype=torch.float64)
    add = _add_equations if x.device.type == "cpu" else _add_products
    for part in torch.arange(len(x), device=x.device).split(ROWS_AT_ONCE):
        add(gram, moments, x[part].double(), slots[part], weights[part], size, groups)
    gram.diagonal()[:-1] += ridge
    if error_weights is not None:
        of_groups = shares_of(error_weights)
        shares = gram.new_tensor(of_groups).repeat_interleave(size)
        shares = F.pad(shares, (0, 1), value=of_groups[0])  # all prefixes hold the bias
        for rows, own in zip(gram.split(size), shares[::size], strict=True):
            rows *= torch.minimum(shares, own)  # of the prefixes that hold both
        moments *= shares.unsqueeze(-1)
    found = torch.cholesky_solve(moments, torch.linalg.cholesky(gram))
    return found[:-1], found[-1]


def _add_equations(
    gram: Tensor,
    moments: Tensor,
    x: Tensor,
    slots: Tensor,
    weights: Tensor,
    size: int,
    groups: int,
) -> None:
    """Add some rows to the normal equations; the last unknown is the bias."""
    weighted, width = weights.unsqueeze(-1) * x, size + 1
    moments[-1] += weighted.sum(0)
    gram[-1, -1] += weights.sum()
    first = [group * size for group in range(groups) for _ in range(slots.shape[1] // groups)]
    for i, at in enumerate(first):
        mine, held = slice(at, at + size), slots[:, i]
        sums = moments.new_zeros(width, x.shape[1]).index_add_(0, held, weighted)
        moments[mine] += sums[:-1]  # the last is that of closed slots
        counts = torch.bincount(held, weights, width)[:-1]
        gram[mine, -1] += counts
        gram[-1, mine] += counts
        for j, other in enumerate(first[: i + 1]):
            pairs = torch.bincount(held * width + slots[:, j], weights, width**2)
            pairs, theirs = pairs.view(width, width)[:-1, :-1], slice(other, other + size)
            gram[mine, theirs] += pairs
            if j < i:
                gram[theirs, mine] += pairs.T


def _add_products(
    gram: Tensor,
    moments: Tensor,
    x: Tensor,
    slots: Tensor,
    weights: Tensor,
    size: int,
    groups: int,
) -> None:
    """Do the same by products of matrices, which a GPU adds up in one order, unlike single rows."""
    held = counts_of(slots, groups, size).double()
    held = torch.cat([held, torch.ones_like(held[:, :1])], 1)
    weighted = (weights.unsqueeze(-1) * held).T
    gram += weighted @ held
    moments += weighted @ x


def weighted_counts(held: Tensor, weights: Tensor, width: int) -> Tensor:
    """Sum the weights of the rows ``(n,)`` that hold each of ``width`` outcomes, in one order."""
    if held.device.type == "cpu":
        return torch.bincount(held, weights, width)
    parts = zip(held.split(ROWS_AT_ONCE), weights.split(ROWS_AT_ONCE), strict=True)
    sums = [part @ F.one_hot(each, width).to(weights.dtype) for each, part in parts]
    return torch.stack(sums).sum(0)


@neutral()
@torch.no_grad()
def refit_prior(model: SDLGM, codes: Tensor) -> None:
    """Set the prior of a model to the frequencies in codes of shape ``(n, K)``, in place.

    Each outcome of a slot (closed, or one of the features) is counted once more than it occurs, so
    that nothing becomes impossible. Gates that are always open stay open.

    Raises
    ------
    ConfigError
        If the prior is structured, as that of bits is by default: it has no frequencies to set.
        Fit such a prior with :func:`sdlgm.training.fit_prior`.
    """
    counts = codes.to(model.device).double().sum(0).unflatten(-1, (model.groups, -1)) + 1
    slots = len(codes) * model.config.budget // model.groups
    closed = slots - (counts.sum(-1) - counts.shape[-1]) + 1
    set_prior(model, torch.cat([counts, closed.unsqueeze(-1)], -1))


def set_prior(model: SDLGM, frequencies: Tensor) -> None:
    """Set the prior of a model in place.

    ``frequencies`` has shape ``(G, K/G + 1)``: how often, in any unit, a slot of each group holds
    each feature, and is closed. Gates that are always open stay open.

    Raises
    ------
    ConfigError
        If the prior is not a product over groups.
    """
    if model.config.prior in ("mixture", "autoregressive", "masked"):
        raise ConfigError(
            f"prior = {model.config.prior!r} is not a product over groups and has no frequencies "
            "to set. Fit it with sdlgm.training.fit_prior."
        )
    counts, closed = frequencies[:, :-1], frequencies[:, -1]
    opened = counts.sum(-1)
    with torch.no_grad():
        if model.config.gates == "learned":
            model.prior_gate_logits.copy_((opened / closed).log())
        model.prior_feature_logits.copy_((counts / opened.unsqueeze(-1)).log().flatten())
