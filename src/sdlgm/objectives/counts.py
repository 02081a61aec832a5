"""What a counting network's outputs mean: one likelihood of counts each."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.distributions import GatedMultinomial, PoissonMultinomial

__all__ = ["Head", "PoissonHead", "SoftmaxHead", "TiedSlots", "UntiedSlots"]


@dataclass(frozen=True)
class Head(ABC):
    """A law of ``K`` counts, given a network's outputs for ``n`` samples."""

    features: int
    """Number K of classes."""
    budget: int
    """Largest sum L0 of counts."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[int, ...]:
        """Shape of the outputs of one sample."""

    @abstractmethod
    def average(self, outputs: Tensor) -> Tensor:
        """Average laws along a first dimension of outputs, so that expected counts average."""

    @abstractmethod
    def log_prob(self, outputs: Tensor, counts: Tensor) -> Tensor:
        """Log-probability (nats) of counts ``(n, K)``, shape ``(n,)``."""

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        """Expected counts, shape ``(n, K)``."""

    @abstractmethod
    def mode(self, outputs: Tensor) -> Tensor:
        """Most probable counts, shape ``(n, K)``."""

    @abstractmethod
    def presence(self, outputs: Tensor) -> Tensor:
        """Probability of a count of at least one, shape ``(n, K)``."""

    @abstractmethod
    def total(self, outputs: Tensor) -> Tensor:
        """Probabilities of the sum of the counts, shape ``(n, L0 + 1)``."""


class TiedSlots(Head):
    """The paper's model: one gate and one choice of features for all slots (exact multinomial)."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """One gate, last, after ``K`` features."""
        return (self.features + 1,)

    def law(self, outputs: Tensor) -> GatedMultinomial:
        """Return the distribution."""
        return GatedMultinomial(self.budget, outputs[:, -1], outputs[:, :-1], validate_args=False)

    def average(self, outputs: Tensor) -> Tensor:
        """Average the probabilities of a slot's ``K + 1`` outcomes."""
        law = GatedMultinomial(self.budget, outputs[..., -1], outputs[..., :-1], False)
        probs = _log_mean(law.slot_log_probs)
        gates = torch.logsumexp(probs[..., :-1], dim=-1) - probs[..., -1]
        return torch.cat([probs[..., :-1], gates.unsqueeze(-1)], dim=-1)

    def log_prob(self, outputs: Tensor, counts: Tensor) -> Tensor:
        """Multinomial likelihood."""
        return self.law(outputs).log_prob(counts)

    def mean(self, outputs: Tensor) -> Tensor:
        """Expected counts ``L0 lambda pi``."""
        return self.law(outputs).mean

    def mode(self, outputs: Tensor) -> Tensor:
        """Exact mode."""
        return self.law(outputs).mode

    def presence(self, outputs: Tensor) -> Tensor:
        """``1 - (1 - lambda pi_k)^L0``."""
        return self.law(outputs).presence_probs

    def total(self, outputs: Tensor) -> Tensor:
        """Binomial law."""
        totals = torch.arange(self.budget + 1).unsqueeze(-1)
        return self.law(outputs).total_log_prob(totals).exp().T


class UntiedSlots(Head):
    """Slots with a law of their own each; the number of slots is read off the outputs."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """``K + 1`` logits a slot, "closed" last."""
        return (self.budget, self.features + 1)

    def law(self, outputs: Tensor) -> PoissonMultinomial:
        """Return the distribution."""
        return PoissonMultinomial(outputs, validate_args=False)

    def average(self, outputs: Tensor) -> Tensor:
        """Average the probabilities of each slot's ``K + 1`` outcomes."""
        return _log_mean(F.log_softmax(outputs, -1))

    def log_prob(self, outputs: Tensor, counts: Tensor) -> Tensor:
        """Permanent over products of factorials."""
        return self.law(outputs).log_prob(counts)

    def mean(self, outputs: Tensor) -> Tensor:
        """Sum of the slots' probabilities."""
        return self.law(outputs).mean

    def mode(self, outputs: Tensor) -> Tensor:
        """Counts of the slots' most probable outcomes."""
        return self.law(outputs).slot_mode

    def presence(self, outputs: Tensor) -> Tensor:
        """One minus the probability that no slot holds the feature."""
        return self.law(outputs).presence_probs

    def total(self, outputs: Tensor) -> Tensor:
        """Poisson-binomial law."""
        totals = torch.arange(outputs.shape[1] + 1).unsqueeze(-1)
        return self.law(outputs).total_log_prob(totals).exp().T


class PoissonHead(Head):
    """Independent Poisson counts: no budget, no competition between classes."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """Log of the rate of each class."""
        return (self.features,)

    def average(self, outputs: Tensor) -> Tensor:
        """Average the rates."""
        return _log_mean(outputs)

    def log_prob(self, outputs: Tensor, counts: Tensor) -> Tensor:
        """Sum of the classes' Poisson log-probabilities."""
        return (counts * outputs - outputs.exp() - torch.lgamma(counts + 1)).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the rates."""
        return outputs.exp()

    def mode(self, outputs: Tensor) -> Tensor:
        """Rates rounded down."""
        return outputs.exp().floor()

    def presence(self, outputs: Tensor) -> Tensor:
        """``1 - exp(-rate)``."""
        return -torch.expm1(-outputs.exp())

    def total(self, outputs: Tensor) -> Tensor:
        """Poisson law of the sum; the last entry holds ``L0`` and all that is over it."""
        totals = torch.arange(self.budget)
        rate = outputs.exp().sum(-1, keepdim=True)
        below = (totals * rate.log() - rate - torch.lgamma(totals + 1.0)).exp()
        return torch.cat([below, (1 - below.sum(-1, keepdim=True)).clamp_min(0)], dim=-1)


class SoftmaxHead(Head):
    """For each class a categorical law over ``0..L0``, independent of the other classes."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """Logits of the counts ``0..L0`` of each class."""
        return (self.features, self.budget + 1)

    def average(self, outputs: Tensor) -> Tensor:
        """Average the probabilities of each count."""
        return _log_mean(F.log_softmax(outputs, -1))

    def log_prob(self, outputs: Tensor, counts: Tensor) -> Tensor:
        """Sum of the classes' categorical log-probabilities."""
        index = counts.long().unsqueeze(-1)
        return F.log_softmax(outputs, -1).gather(-1, index).squeeze(-1).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the means of the categorical laws."""
        return outputs.softmax(-1) @ torch.arange(self.budget + 1.0)

    def mode(self, outputs: Tensor) -> Tensor:
        """Most probable count of each class; together they may be over the budget."""
        return outputs.argmax(-1).to(outputs)

    def presence(self, outputs: Tensor) -> Tensor:
        """One minus the probability of none."""
        return 1 - outputs.softmax(-1)[..., 0]

    def total(self, outputs: Tensor) -> Tensor:
        """Return the law of the sum; the last entry holds ``L0`` and all that is over it."""
        parts = outputs.softmax(-1)
        law = parts[:, 0]
        for k in range(1, self.features):
            sums = torch.zeros_like(law)
            for count in range(self.budget + 1):
                moved = law * parts[:, k, count, None]
                sums[:, count:] += moved[:, : self.budget + 1 - count]
            sums[:, -1] += 1 - sums.sum(-1)  # whatever ran over
            law = sums
        return law


def _log_mean(logs: Tensor) -> Tensor:
    """Log of the mean along the first dimension of what has these logs."""
    return torch.logsumexp(logs, dim=0) - math.log(len(logs))
