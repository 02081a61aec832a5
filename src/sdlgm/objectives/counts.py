"""Distributions of counts that a network's outputs describe: slots that are tied or untied."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.distributions import GatedMultinomial, PoissonMultinomial

__all__ = ["CountDistribution", "TiedSlots", "UntiedSlots", "log_mean"]


@dataclass(frozen=True)
class CountDistribution(ABC):
    """A family of distributions over ``K`` counts, indexed by the outputs of a network."""

    features: int
    """Number K of classes."""
    budget: int
    """Budget L0: the largest sum of the counts."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[int, ...]:
        """Shape of the network's outputs for one sample."""

    @abstractmethod
    def average(self, outputs: Tensor) -> Tensor:
        """Average distributions over the first dimension, so that expected counts average."""

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

    def largest_sum(self, outputs: Tensor) -> int:
        """Return the largest sum of the counts for these outputs."""
        return self.budget


class TiedSlots(CountDistribution):
    """All slots share one gate and one distribution over features: a multinomial."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """``K`` feature logits, then one gate logit."""
        return (self.features + 1,)

    def distribution(self, outputs: Tensor) -> GatedMultinomial:
        """Return the distribution of these outputs."""
        return GatedMultinomial(
            self.budget, outputs[..., -1], outputs[..., :-1], validate_args=False
        )

    def average(self, outputs: Tensor) -> Tensor:
        """Average the probabilities of a slot's ``K + 1`` outcomes."""
        log_probs = log_mean(self.distribution(outputs).slot_log_probs)
        gates = torch.logsumexp(log_probs[..., :-1], dim=-1) - log_probs[..., -1]
        return torch.cat([log_probs[..., :-1], gates.unsqueeze(-1)], dim=-1)

    def log_prob(self, outputs: Tensor, counts: Tensor) -> Tensor:
        """Exact multinomial log-likelihood."""
        return self.distribution(outputs).log_prob(counts)

    def mean(self, outputs: Tensor) -> Tensor:
        """Expected counts ``L0 lambda pi``."""
        return self.distribution(outputs).mean

    def mode(self, outputs: Tensor) -> Tensor:
        """Exact mode."""
        return self.distribution(outputs).mode

    def presence(self, outputs: Tensor) -> Tensor:
        """``1 - (1 - lambda pi_k)^L0``."""
        return self.distribution(outputs).presence_probs

    def total(self, outputs: Tensor) -> Tensor:
        """Binomial distribution of the sum."""
        totals = torch.arange(self.budget + 1, device=outputs.device).unsqueeze(-1)
        return self.distribution(outputs).total_log_prob(totals).exp().T


class UntiedSlots(CountDistribution):
    """Each slot has its own distribution; the number of slots is that of the outputs."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """``K + 1`` logits for each slot, "closed" last."""
        return (self.budget, self.features + 1)

    def distribution(self, outputs: Tensor) -> PoissonMultinomial:
        """Return the distribution of these outputs."""
        return PoissonMultinomial(outputs, validate_args=False)

    def average(self, outputs: Tensor) -> Tensor:
        """Average the probabilities of each slot's ``K + 1`` outcomes."""
        return log_mean(F.log_softmax(outputs, -1))

    def log_prob(self, outputs: Tensor, counts: Tensor) -> Tensor:
        """Exact log-likelihood: a permanent divided by the factorials of the counts."""
        return self.distribution(outputs).log_prob(counts)

    def mean(self, outputs: Tensor) -> Tensor:
        """Sum of the slots' probabilities."""
        return self.distribution(outputs).mean

    def mode(self, outputs: Tensor) -> Tensor:
        """Counts of the slots' most probable outcomes."""
        return self.distribution(outputs).slot_mode

    def presence(self, outputs: Tensor) -> Tensor:
        """One minus the probability that no slot holds the feature."""
        return self.distribution(outputs).presence_probs

    def total(self, outputs: Tensor) -> Tensor:
        """Poisson-binomial distribution of the sum."""
        totals = torch.arange(self.largest_sum(outputs) + 1, device=outputs.device).unsqueeze(-1)
        return self.distribution(outputs).total_log_prob(totals).exp().T

    def largest_sum(self, outputs: Tensor) -> int:
        """Return the number of slots of the outputs."""
        return outputs.shape[1]


def log_mean(logs: Tensor) -> Tensor:
    """Return the log of the mean over the first dimension of ``exp(logs)``."""
    return torch.logsumexp(logs, dim=0) - math.log(len(logs))
