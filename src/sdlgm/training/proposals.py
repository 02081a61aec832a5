"""Train an encoder to propose the codes that a search finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.distributions import conditionals, kl_terms
from sdlgm.inference.linear import quadratic_search, standard_residual
from sdlgm.inference.prefixes import prefix_codes
from sdlgm.inference.slots import counts_of
from sdlgm.objectives.bounds import ObjectiveTerms

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["proposal_objective"]


def proposal_objective(
    model: SDLGM, x: Tensor, *, joint: bool = False
) -> tuple[Tensor, ObjectiveTerms]:
    r"""Return the cross-entropy of searched codes under the encoder, and terms for the log.

    .. math:: -\frac1n \sum_i \log q(z_i \mid x_i), \qquad z_i = \arg\min_z J(z; x_i)

    approximately, by a greedy search. Its gradient reaches the encoder alone. ``joint`` adds
    :math:`-\log p(x_i, z_i)`, whose gradient reaches decoder and prior; with ``prefixes``, the
    mean over them and the whole code of :math:`-\log p(x_i \mid z_i)`. The terms are the
    reconstruction from the searched codes and the KL of the posterior; their sum is not a bound.

    Parameters
    ----------
    model
        A model for which :func:`~sdlgm.inference.linear.is_quadratic` is true.
    x
        Batch of data, shape ``(n, D)``.
    joint
        Whether to train decoder and prior, too.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        search, residual = quadratic_search(model), standard_residual(model, x)
        slots = search(residual, rate=2 * model.rate_weight, width=1, sweeps=2)
        codes = counts_of(slots, model.groups, model.config.features // model.groups)
    with torch.set_grad_enabled(joint):
        reconstruction = -model.data_distribution(codes).log_prob(x)
        extra = _length(model, x, codes, reconstruction) if joint else 0.0
    posterior = model(x)
    with torch.no_grad():
        divergence = kl_terms(posterior, conditionals(model.prior(), codes))
    terms = ObjectiveTerms(reconstruction.detach(), divergence.gates, divergence.features, codes)
    return extra - posterior.log_prob(codes).mean(), terms


def _length(model: SDLGM, x: Tensor, codes: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the mean of ``-log p(x, z)``, and over the prefixes of codes that serve alone."""
    cut = (prefix_codes(model, codes, prefix) for prefix in model.config.prefixes)
    parts = [-model.data_distribution(part).log_prob(x) for part in cut]
    return torch.stack([reconstruction, *parts]).mean() - model.prior().log_prob(codes).mean()
