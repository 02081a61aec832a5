r"""Recalibration of an ensemble: one offset and one slope for the log-odds of all its members.

.. math:: p_k = \frac{1}{M} \sum_m \sigma(a + b\, s_{mk})

for the log-odds :math:`s_{mk}` of label k by member m. Offset and slope maximise the likelihood of
rows by the members that were not fitted on them. The members stay independent given a row, so that
the distribution of the number of labels is corrected as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from sdlgm.objectives.labels import log1mexp

__all__ = ["MemberRecalibration", "fit_member_recalibration"]

MOST = 30.0
"""Largest log-odds that count."""
SMALLEST_SLOPE = 0.05


class MemberRecalibration(NamedTuple):
    """Offset and slope of log-odds."""

    offset: float
    slope: float

    def __call__(self, absent: Tensor) -> Tensor:
        """Return corrected log-probabilities of absence, of the same shape and type."""
        odds = self.offset + self.slope * absence_log_odds(absent)
        return -torch.nn.functional.softplus(odds).to(absent)


def absence_log_odds(absent: Tensor) -> Tensor:
    """Return the log-odds of presence, float64, from log-probabilities of absence."""
    absent = absent.double()
    return (log1mexp(absent) - absent).clamp(-MOST, MOST)


def fit_member_recalibration(log_odds: Tensor, held: Tensor, labels: Tensor) -> MemberRecalibration:
    """Learn offset and slope by maximum likelihood.

    A weak prior, worth one label, keeps them near 0 and 1.

    Parameters
    ----------
    log_odds
        Log-odds of each member, shape ``(members, n, K)``.
    held
        Whether a member was not fitted on a row, shape ``(members, n)``; at least one for each row.
    labels
        0 or 1, shape ``(n, K)``; NaN where unknown.
    """
    weight = held.double()
    weight = weight / weight.sum(0)
    known = ~labels.isnan()
    present, absent = known & (labels > 0), known & (labels == 0)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = torch.tensor(values, requires_grad=True)
        each = torch.sigmoid(parameters[0] + parameters[1] * log_odds)
        proba = torch.einsum("mn,mnk->nk", weight, each).clamp(1e-12, 1 - 1e-12)
        total = -(proba[present].log().sum() + torch.log1p(-proba[absent]).sum())
        total = total + (parameters - torch.tensor([0.0, 1.0])).square().sum() / 2
        (slope,) = torch.autograd.grad(total, parameters)
        return total.item(), slope.numpy()

    bounds = [(None, None), (SMALLEST_SLOPE, None)]
    found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return MemberRecalibration(float(found[0]), float(found[1]))
