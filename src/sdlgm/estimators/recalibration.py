r"""Recalibrated and stacked probabilities: a logistic regression on log-odds, for all labels.

With the log-odds :math:`s_j` of some models,

.. math:: p = \sigma\Big(a + \sum_j b_j s_j\Big), \quad b_j \ge 0,

has an offset a and one slope a model, which are learned on rows that the models were not fitted on.
One model keeps the order of its scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

__all__ = ["Recalibration", "clipped_probabilities", "fit_recalibration", "log_odds"]

Floats = NDArray[np.float64]

SMALLEST = 1e-7
"""Probabilities are clipped to this distance from 0 and 1."""


def clipped_probabilities(proba: NDArray[Any]) -> Floats:
    """Return probabilities that have finite log-odds."""
    return np.clip(np.asarray(proba, np.float64), SMALLEST, 1 - SMALLEST)


def log_odds(proba: NDArray[Any]) -> Floats:
    """Return the log-odds of probabilities, which are clipped to be finite."""
    clipped = clipped_probabilities(proba)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


@dataclass(frozen=True)
class Recalibration:
    """An offset, and the slope of each model."""

    offset: float
    slopes: tuple[float, ...]

    def __call__(self, *proba: NDArray[Any]) -> Floats:
        """Return the probabilities ``(n, K)`` of one or more models as one table."""
        total = np.full(proba[0].shape, self.offset)
        for slope, part in zip(self.slopes, proba, strict=True):
            total += slope * log_odds(part)
        return np.asarray(expit(total))


def fit_recalibration(proba: Sequence[NDArray[Any]], Y: Any) -> Recalibration:  # noqa: N803
    """Learn offset and slopes by maximum likelihood.

    A weak prior, worth one row, keeps them near those of the mean of the log-odds (0 and ``1 / J``
    for J models), so that rows that models tell apart without error do no harm.

    Parameters
    ----------
    proba
        Probabilities of each model, ``(n, K)``, of rows that they were not fitted on.
    Y
        Their labels, 0 or 1, ``(n, K)``, dense or sparse; NaN (dense) where unknown.
    """
    truth = np.asarray(Y.toarray() if sp.issparse(Y) else Y, np.float64).ravel()
    known = ~np.isnan(truth)
    scores = np.stack([log_odds(part).ravel()[known] for part in proba], 1)
    signs = 2 * truth[known] - 1
    start = np.array([0.0, *[1 / len(proba)] * len(proba)])

    def loss(values: Floats) -> tuple[float, Floats]:
        margins = signs * (values[0] + scores @ values[1:])
        pull = -signs * expit(-margins)
        change = values - start
        slope = np.array([pull.sum(), *(pull @ scores)]) + change
        return float(np.logaddexp(0, -margins).sum() + change @ change / 2), slope

    bounds = [(None, None), *[(0.0, None)] * len(proba)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    if len(proba) == 1 and found[1] <= 0:  # scores that say nothing keep their order
        found = start
    return Recalibration(float(found[0]), tuple(map(float, found[1:])))
