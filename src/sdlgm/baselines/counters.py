"""Counters that :class:`~sdlgm.estimators.SDLGMCounter` is compared with."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sdlgm.errors import ConfigError
from sdlgm.estimators.counter import SDLGMCounter
from sdlgm.estimators.counting import BaseCounter, check_totals
from sdlgm.objectives.counts import CountDistribution, log_mean

__all__ = [
    "ConstantCounter",
    "IndependentPoisson",
    "IndependentSoftmax",
    "PoissonCounter",
    "SoftmaxCounter",
]

MOST_OUTPUTS = 1_000_000
"""Most outputs of a network, each with weights of its own."""


class ConstantCounter(BaseCounter):
    """Predict the mean counts of the training data for every sample.

    Parameters
    ----------
    budget
        See :class:`~sdlgm.estimators.SDLGMCounter`.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Take the means of y; X is only checked."""
        _, counts, weights = self._fit_checked(X, y, sample_weight, self.budget)
        values, weight = counts.numpy(), weights.double().numpy()
        self.mean_ = np.average(values, axis=0, weights=weight)
        self.presence_ = np.average(values > 0, axis=0, weights=weight)
        totals = np.bincount(values.sum(1), weight, minlength=self.budget_ + 1)
        self.total_ = totals / weight.sum()
        return self

    def predict_mean(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the mean counts of the training data, ``(n, K)``."""
        return self._repeat(X, "mean_")

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the share of training samples with at least one of each class, ``(n, K)``."""
        return self._repeat(X, "presence_")

    def predict_total(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Predict the training samples' distribution of the sum, ``(n, L0 + 1)``."""
        check_totals(len(self._inputs(X)), self.budget_ + 1)
        return self._repeat(X, "total_")

    def _repeat(self, X: Any, name: str) -> NDArray[np.float64]:  # noqa: N803
        number = len(self._inputs(X))
        return np.tile(getattr(self, name), (number, 1))


class _IndependentCounter(SDLGMCounter):
    """A network with an independent count distribution for each class."""

    def _check_parameters(self) -> None:
        super()._check_parameters()
        name = type(self).__name__
        if self.encoder == "columns":
            raise ConfigError(
                f"{name} has one output for each class and no slots for columns: use "
                "encoder='mlp' or 'conv'."
            )
        if self.tied is not None:
            raise ConfigError(f"{name} has no slots to tie: leave out tied, got {self.tied!r}.")


class PoissonCounter(_IndependentCounter):
    """A network with an independent Poisson count for each class, without a budget.

    Parameters are those of :class:`~sdlgm.estimators.SDLGMCounter` except for ``tied``. The last
    entry of ``predict_total`` holds the probability of the budget and of all larger sums.
    """

    def _make_distribution(self, features: int, budget: int) -> CountDistribution:
        return IndependentPoisson(features, budget)


class SoftmaxCounter(_IndependentCounter):
    """A network with an independent softmax over the counts ``0..L0`` for each class.

    Parameters are those of :class:`~sdlgm.estimators.SDLGMCounter` except for ``tied``. The last
    entry of ``predict_total`` holds the probability of the budget and of all larger sums.
    """

    def _make_distribution(self, features: int, budget: int) -> CountDistribution:
        if features * (budget + 1) > MOST_OUTPUTS:
            raise ConfigError(
                f"SoftmaxCounter has an output for each count from 0 to the budget of each class, "
                f"{features:,} x {budget + 1:,}, more than {MOST_OUTPUTS:,}. Count in larger "
                "units, or use PoissonCounter."
            )
        return IndependentSoftmax(features, budget)


class IndependentPoisson(CountDistribution):
    """Independent Poisson counts: no budget, and no competition between classes."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """Log of the rate of each class."""
        return (self.features,)

    def average(self, outputs: Tensor) -> Tensor:
        """Average the rates."""
        return log_mean(outputs)

    def log_prob(self, outputs: Tensor, counts: Tensor) -> Tensor:
        """Sum of the classes' Poisson log-probabilities."""
        return (counts * outputs - outputs.exp() - torch.lgamma(counts + 1)).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the rates."""
        return outputs.exp()

    def mode(self, outputs: Tensor) -> Tensor:
        """Return the rates, rounded down."""
        return outputs.exp().floor()

    def presence(self, outputs: Tensor) -> Tensor:
        """``1 - exp(-rate)``."""
        return -torch.expm1(-outputs.exp())

    def total(self, outputs: Tensor) -> Tensor:
        """Poisson distribution of the sum; the last entry holds ``L0`` and all larger sums."""
        totals = torch.arange(self.budget, dtype=outputs.dtype, device=outputs.device)
        rate = outputs.exp().sum(-1, keepdim=True)
        below = (totals * rate.log() - rate - torch.lgamma(totals + 1)).exp()
        return torch.cat([below, (1 - below.sum(-1, keepdim=True)).clamp_min(0)], dim=-1)


class IndependentSoftmax(CountDistribution):
    """An independent categorical distribution over ``0..L0`` for each class."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """Logits of the counts ``0..L0`` of each class."""
        return (self.features, self.budget + 1)

    def average(self, outputs: Tensor) -> Tensor:
        """Average the probabilities of each count."""
        return log_mean(F.log_softmax(outputs, -1))

    def log_prob(self, outputs: Tensor, counts: Tensor) -> Tensor:
        """Sum of the classes' categorical log-probabilities."""
        index = counts.long().unsqueeze(-1)
        return F.log_softmax(outputs, -1).gather(-1, index).squeeze(-1).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the means of the categorical distributions."""
        return outputs.softmax(-1) @ torch.arange(self.budget + 1.0, device=outputs.device)

    def mode(self, outputs: Tensor) -> Tensor:
        """Most probable count of each class; their sum may exceed the budget."""
        return outputs.argmax(-1).to(outputs)

    def presence(self, outputs: Tensor) -> Tensor:
        """One minus the probability of a count of zero."""
        return 1 - outputs.softmax(-1)[..., 0]

    def total(self, outputs: Tensor) -> Tensor:
        """Distribution of the sum; the last entry holds ``L0`` and all larger sums."""
        parts = outputs.softmax(-1)
        total = parts[:, 0]
        for k in range(1, self.features):
            sums = torch.zeros_like(total)
            for count in range(self.budget + 1):
                moved = total * parts[:, k, count, None]
                sums[:, count:] += moved[:, : self.budget + 1 - count]
            sums[:, -1] += 1 - sums.sum(-1)  # the probability of sums above L0
            total = sums
        return total
