r"""Recalibration of an ensemble: one offset and one slope for the log-odds of all its members.

.. math:: p_k = \frac{1}{M} \sum_m \sigma(a + b\, s_{mk})

for the log-odds :math:`s_{mk}` of label k by member m. Offset and slope maximise the likelihood of
rows by the members that were not fitted on them. The members stay independent given a row, so that
the distribution of the number of labels is corrected as well.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

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
        odds = absence_log_odds(absent).mul_(self.slope).add_(self.offset)
        return torch.nn.functional.softplus(odds).neg_().to(absent)


def absence_log_odds(absent: Tensor) -> Tensor:
    r"""Return the log-odds of presence, float64, from log-probabilities of absence a.

    They are :math:`\log(e^{-a} - 1)`.
    """
    bounded = torch.neg(absent.double()).clamp_(math.exp(-MOST), MOST)
    return bounded.expm1_().log_().clamp_(-MOST, MOST)


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
    odds, weight = _held_alone(log_odds, held)
    truth = labels.nan_to_num(0.0)
    known = ~labels.isnan()

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        offset, slope = map(float, values)
        each = [torch.sigmoid(offset + slope * part) for part in odds]
        proba = sum(w * p for w, p in zip(weight, each, strict=True))
        proba = torch.as_tensor(proba).clamp_(1e-12, 1 - 1e-12)
        likelihood = torch.where(truth > 0, proba, 1 - proba).log_().mul_(known)
        # The derivative of the loss with respect to the probability, then by each member.
        slopes = (proba - truth).div_(proba * (1 - proba)).mul_(known)
        pulls = [slopes * w * p * (1 - p) for w, p in zip(weight, each, strict=True)]
        change = values - np.array([0.0, 1.0])
        total = -likelihood.sum().item() + change @ change / 2
        by_slope = [(pull * part).sum().item() for pull, part in zip(pulls, odds, strict=True)]
        gradient = np.array([sum(pull.sum().item() for pull in pulls), sum(by_slope)])
        return float(total), gradient + change

    bounds = [(None, None), (SMALLEST_SLOPE, None)]
    found = minimize(loss, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return MemberRecalibration(float(found[0]), float(found[1]))


def _held_alone(log_odds: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Return what members that hold a row out say of it, ``(h, n, K)``, and weights ``(h, n, 1)``.

    h is the largest number of members that hold a row out; others have a weight of 0.
    """
    number = held.sum(0)
    first = held.int().sort(dim=0, descending=True, stable=True).indices[: int(number.max())]
    weight = held.double().gather(0, first) / number
    return log_odds[first, torch.arange(held.shape[1])], weight.unsqueeze(-1)
