r"""The distribution of the number of labels, corrected on rows that a model was not fitted on.

Given a row, a model takes its labels as independent, so that their number n is Poisson-binomial
with probabilities :math:`P_n`. Labels that exclude or imply each other make the true distribution
narrower or wider. The corrected one is

.. math:: \tilde P_n \propto P_n^a\, e^{b_n}, \qquad a > 0,

with one power and one offset for each number, learned by maximum likelihood.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

__all__ = ["LEAST_ROWS", "SizeCorrection", "fit_size_correction", "median_sizes"]

Floats = NDArray[np.float64]

SMALLEST = 1e-12
"""Probabilities are raised to this before the correction."""
POWERS = (0.05, 20.0)
"""Range of the power."""
LEAST_ROWS = 20
"""Fewest rows that a correction is learned from."""


class SizeCorrection(NamedTuple):
    """A power, and an offset for each number of labels from the smallest to the largest."""

    smallest: int
    power: float
    offsets: tuple[float, ...]

    @classmethod
    def restore(cls, values: object, smallest: int, largest: int) -> SizeCorrection | None:
        """Return a correction from the values of a file, or ``None`` if they do not fit."""
        if not (isinstance(values, tuple) and len(values) == len(cls._fields)):
            return None
        found = cls(*values)
        if not (isinstance(found.offsets, tuple) and found.smallest == smallest):
            return None
        numbers = (found.power, *found.offsets)
        if len(numbers) != largest - smallest + 2 or not all(
            isinstance(each, float) and math.isfinite(each) for each in numbers
        ):
            return None
        return found if found.power > 0 else None

    def __call__(self, sizes: Floats, smallest: int) -> Floats:
        """Return corrected probabilities of 0, 1, ... labels, ``(n, largest + 1)``.

        Numbers below the smallest keep a probability of 0. Those that nothing was learned about
        have the offset of the nearest one.
        """
        place = np.arange(smallest, sizes.shape[1]) - self.smallest
        offsets = np.array(self.offsets)[np.clip(place, 0, len(self.offsets) - 1)]
        corrected = np.zeros_like(sizes)
        logs = self.power * _logs(sizes, smallest) + offsets
        corrected[:, smallest:] = np.exp(log_softmax(logs, 1))
        return corrected


def fit_size_correction(sizes: Floats, numbers: ArrayLike, smallest: int) -> SizeCorrection | None:
    """Learn a correction by maximum likelihood; ``None`` if there are too few rows.

    A weak prior keeps the power near 1 and the offsets near 0.

    Parameters
    ----------
    sizes
        Probabilities of 0, 1, ... labels, ``(n, largest + 1)``, of rows that the model was not
        fitted on; 0 below the smallest number.
    numbers
        Their numbers of labels, ``(n,)``, which are clipped to the range.
    smallest
        Smallest number of labels.
    """
    rows, largest = len(sizes), sizes.shape[1] - 1
    if rows < LEAST_ROWS or smallest >= largest:
        return None
    place = np.arange(rows), np.clip(np.asarray(numbers, np.int64), smallest, largest) - smallest
    logs = _logs(sizes, smallest)
    start = np.zeros(1 + logs.shape[1])
    start[0] = 1.0

    def loss(values: Floats) -> tuple[float, Floats]:
        log_probs = log_softmax(values[0] * logs + values[1:], 1)
        pull = np.exp(log_probs)
        pull[place] -= 1
        change = values - start
        slope = np.array([(pull * logs).sum(), *pull.sum(0)]) + change
        return float(change @ change / 2 - log_probs[place].sum()), slope

    bounds = [POWERS, *[(None, None)] * logs.shape[1]]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return SizeCorrection(smallest, float(found[0]), tuple(map(float, found[1:])))


def median_sizes(sizes: Floats) -> NDArray[np.int64]:
    """Return the median number of labels of each row, which has the least expected error."""
    below = sizes.cumsum(1) < 0.5 - 1e-9  # a half is a half, whatever is rounded
    return np.minimum(below.sum(1), sizes.shape[1] - 1)


def _logs(sizes: Floats, smallest: int) -> Floats:
    return np.asarray(np.log(np.maximum(sizes[:, smallest:], SMALLEST)))
