"""What a score-function estimator subtracts: a learned prediction of the loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sdlgm.errors import ConfigError
from sdlgm.gradients._surrogate import ungrouped
from sdlgm.gradients.registry import Code

__all__ = ["Baseline", "Centred", "centre"]


class Centred(NamedTuple):
    """A learning signal from which a baseline was subtracted."""

    signal: Tensor
    """The signal minus its baseline (nats), detached, of the signal's shape."""
    weight: Tensor
    """What the estimate is multiplied by, shape ``()`` or that of a sample: 1, or less under
    variance normalisation."""
    error: Tensor
    """The baseline's own loss, shape ``(*batch,)``; zero where there is nothing to learn."""


class Baseline(nn.Module):
    r"""Input-dependent baseline in the manner of NVIL.

    .. math:: b(x) = c + s\, C_\psi(q(z \mid x)), \qquad s = \max(1, \sqrt v)

    with running mean :math:`c` and variance :math:`v` of the signal that is left, and a small
    network :math:`C_\psi` of the *detached* parameters of the posterior, whose last layer starts
    at 0. Its squared error, in units of :math:`s^2`, is part of an estimator's surrogate: hand
    ``parameters()`` to the optimizer of the model. (A clipping of the gradient's norm sees both.)

    :math:`b` does not depend on the drawn code, so that it changes the variance of a
    score-function estimator and not its mean. To that end a batch is centred on statistics from
    *before* it, and the first one, which has none, on those of its other samples. The statistics
    are buffers; they move in training mode only.

    Parameters
    ----------
    features, groups
        ``K`` and ``G`` of the posteriors.
    generator
        Source of the initial weights. Default: one seeded with 0.
    hidden
        Width of the network's one hidden layer (tanh).
    decay
        Of the running statistics, in [0, 1).
    normalise
        Also divide the estimate by :math:`s` (NVIL's variance normalisation). It is then
        proportional to an unbiased one, with a factor that falls as the loss gets noisier. With a
        KL in closed form beside it, which is not divided, that amounts to another weight of the
        KL, namely :math:`s`; so it is off by default.

    Raises
    ------
    ConfigError
        If a number is out of range.

    References
    ----------
    Mnih, Gregor, "Neural Variational Inference and Learning in Belief Networks", ICML 2014,
    section 2.3 and its algorithm 1.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(
        self,
        features: int,
        groups: int = 1,
        *,
        generator: torch.Generator | None = None,
        hidden: int = 100,
        decay: float = 0.9,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        for name, number in (("features", features), ("groups", groups), ("hidden", hidden)):
            if number < 1:
                raise ConfigError(f"{name} of a baseline must be at least 1, got {number}.")
        if not 0 <= decay < 1:
            raise ConfigError(f"decay of a baseline must lie in [0, 1), got {decay}.")
        self.features, self.groups, self.decay = features, groups, decay
        self.normalise = normalise
        self.hidden = nn.Linear(features + groups, hidden)
        self.output = nn.Linear(hidden, 1)
        generator = generator or torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            bound = (features + groups) ** -0.5
            self.hidden.weight.uniform_(-bound, bound, generator=generator)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, posterior: Code, signal: Tensor) -> Centred:
        """Centre a signal of shape ``(*batch,)``, or ``(*batch, G)``: a number a group.

        All groups of a sample get the same baseline.
        """
        signal = signal.detach()
        grouped = signal.dim() > len(posterior.batch_shape)
        own = posterior.batch_shape[0] if posterior.batch_shape else 1
        mean, variance = self._statistics(signal, own)
        scale = variance.sqrt().clamp_min(1.0)
        predicted = self._predict(posterior).to(signal)
        left = signal - scale * (predicted.unsqueeze(-1) if grouped else predicted)
        error = 0.5 * ((left - mean) / scale).square()
        if self.training:
            self._update(left.detach(), mean)
        weight = 1 / scale if self.normalise else torch.ones_like(scale)
        return Centred((left - mean).detach(), weight, error.mean(-1) if grouped else error)

    def _predict(self, posterior: Code) -> Tensor:
        base = ungrouped(posterior)
        gates, features = base.gate_logits.detach(), base.feature_logits.detach()
        if features.dim() > len(posterior.batch_shape) + 1:
            features = features.flatten(-2)
        else:
            gates = gates.unsqueeze(-1)
        if (features.shape[-1], gates.shape[-1]) != (self.features, self.groups):
            raise ValueError(
                f"This baseline is of K = {self.features} features in {self.groups} groups, the "
                f"posterior has {features.shape[-1]} in {gates.shape[-1]}."
            )
        gates = torch.where(gates.isinf(), 0.0, gates)  # open for ever: nothing to tell
        inputs = torch.cat([gates, features], dim=-1).to(self.hidden.weight)
        return self.output(torch.tanh(self.hidden(inputs))).squeeze(-1)

    def _statistics(self, signal: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Mean and variance to use for a batch: none of them depends on a sample's own draw."""
        if self.batches > 0 or samples < 2:
            # Copies, for the buffers move before the caller is done.
            return self.mean.to(signal, copy=True), self.variance.to(signal, copy=True)
        # The first batch has none from before: take those of the other samples.
        rows = signal.reshape(samples, -1)
        others = rows.numel() - rows.shape[1]
        gap = rows - rows.mean()
        shift = -gap.sum(-1) / others
        square = gap.square().sum(-1)
        variance = ((square.sum() - square) / others - shift.square()).clamp_min(0.0)
        shape = (samples, *(1,) * (signal.dim() - 1))
        return (rows.mean() + shift).view(shape), variance.view(shape)

    @torch.no_grad()
    def _update(self, left: Tensor, mean: Tensor) -> None:
        step = 1 - self.decay if self.batches > 0 else 1.0
        self.mean.lerp_(left.mean().to(self.mean), step)
        self.variance.lerp_((left - mean).square().mean().to(self.variance), step)
        self.batches += 1


def centre(baseline: Baseline | None, posterior: Code, signal: Tensor) -> Centred:
    """Centre a signal on a baseline, or leave it as it is."""
    if baseline is None:
        zero = torch.zeros(posterior.batch_shape, dtype=signal.dtype, device=signal.device)
        return Centred(signal.detach(), zero.new_ones(()), zero)
    return baseline(posterior, signal)
