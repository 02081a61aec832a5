"""Control variates: a learned prediction of the loss that score-function estimators subtract."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sdlgm.distributions import Chain
from sdlgm.errors import ConfigError
from sdlgm.gradients._surrogate import ungrouped
from sdlgm.gradients.registry import Code

__all__ = ["Centred", "ControlVariate", "centre"]


class Centred(NamedTuple):
    """A learning signal from which a control variate was subtracted."""

    signal: Tensor
    """Signal minus control variate (nats), detached, with the shape of the signal."""
    weight: Tensor
    """Factor of the estimate, shape ``()`` or that of a sample: 1, or less under variance
    normalisation."""
    error: Tensor
    """Loss of the control variate itself, shape ``(*batch,)``; zero if nothing is learned."""


class ControlVariate(nn.Module):
    r"""Input-dependent control variate of NVIL: a running mean plus a small network.

    .. math:: b(x) = c + s\, C_\psi(q(z \mid x)), \qquad s = \max(1, \sqrt v)

    Here :math:`c` and :math:`v` are the running mean and variance of the remaining signal, and
    :math:`C_\psi` is a network of the *detached* parameters of the posterior whose last layer
    starts at 0. Its squared error, in units of :math:`s^2`, is part of the surrogate of an
    estimator: pass ``parameters()`` to the optimiser of the model. Clipping the gradient norm
    affects both.

    :math:`b` does not depend on the drawn code, so it changes the variance of a score-function
    estimator but not its mean. To ensure this, a batch is centred with statistics from *before*
    it, and the first batch with those of its other samples. The statistics are buffers and are
    updated in training mode only.

    Parameters
    ----------
    features, groups
        ``K`` and ``G`` of the posteriors.
    generator
        Source of the initial weights; ``None`` uses a generator seeded with 0.
    hidden
        Width of the hidden layer (tanh).
    decay
        Decay of the running statistics, in [0, 1).
    normalise_variance
        Also divide the estimate by :math:`s` (variance normalisation of NVIL). The estimate is then
        proportional to an unbiased one, with a factor that falls as the loss gets noisier. The KL
        of products over groups is not part of the loss and is not divided, so this effectively
        multiplies its weight by :math:`s`; it is off by default.

    Raises
    ------
    ConfigError
        If a number is out of range.

    References
    ----------
    Mnih, Gregor, "Neural Variational Inference and Learning in Belief Networks", ICML 2014,
    section 2.3 and algorithm 1.

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> from sdlgm.gradients import score_function
    >>> q = GatedMultinomial(2, torch.zeros(8), torch.zeros(8, 3, requires_grad=True))
    >>> control_variate = ControlVariate(features=3)
    >>> estimate = score_function(q, lambda z: z.sum(-1), control_variate=control_variate)
    >>> estimate.surrogate.mean().backward()
    >>> control_variate.batches
    tensor(1)
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
        normalise_variance: bool = False,
    ) -> None:
        super().__init__()
        for name, number in (("features", features), ("groups", groups), ("hidden", hidden)):
            if number < 1:
                raise ConfigError(f"{name} of a control variate must be at least 1, got {number}.")
        if not 0 <= decay < 1:
            raise ConfigError(f"decay of a control variate must lie in [0, 1), got {decay}.")
        self.features, self.groups, self.decay = features, groups, decay
        self.normalise_variance = normalise_variance
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
        """Centre a signal of shape ``(*batch,)``, or ``(*batch, G)`` with one number per group.

        All groups of a sample share one control variate.
        """
        signal = signal.detach()
        grouped = signal.dim() > len(posterior.batch_shape)
        samples = posterior.batch_shape[0] if posterior.batch_shape else 1
        mean, variance = self._statistics(signal, samples)
        scale = variance.sqrt().clamp_min(1.0)
        predicted = self._predict(posterior).to(signal)
        left = signal - scale * (predicted.unsqueeze(-1) if grouped else predicted)
        error = 0.5 * ((left - mean) / scale).square()
        if self.training:
            self._update(left.detach(), mean)
        weight = 1 / scale if self.normalise_variance else torch.ones_like(scale)
        return Centred((left - mean).detach(), weight, error.mean(-1) if grouped else error)

    def _predict(self, posterior: Code) -> Tensor:
        # Levels are followed along their modes: the prediction must not depend on the draw.
        base = ungrouped(posterior.greedy if isinstance(posterior, Chain) else posterior)
        gates, features = base.gate_logits.detach(), base.feature_logits.detach()
        if features.dim() > len(posterior.batch_shape) + 1:
            features = features.flatten(-2)
        else:
            gates = gates.unsqueeze(-1)
        if (features.shape[-1], gates.shape[-1]) != (self.features, self.groups):
            raise ValueError(
                f"This control variate expects K = {self.features} features in {self.groups} "
                f"groups, but the posterior has {features.shape[-1]} in {gates.shape[-1]}."
            )
        gates = torch.where(gates.isinf(), 0.0, gates)  # always open: carries no information
        inputs = torch.cat([gates, features], dim=-1).to(self.hidden.weight)
        return self.output(torch.tanh(self.hidden(inputs))).squeeze(-1)

    def _statistics(self, signal: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Mean and variance for a batch; neither depends on the draw of the sample itself."""
        if self.batches > 0 or samples < 2:
            # Copies, because the buffers are updated before the caller has used them.
            return self.mean.to(signal, copy=True), self.variance.to(signal, copy=True)
        # The first batch has no earlier statistics: use those of its other samples.
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


def centre(control_variate: ControlVariate | None, posterior: Code, signal: Tensor) -> Centred:
    """Subtract a control variate from a signal; ``None`` leaves the signal unchanged.

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> q = GatedMultinomial(2, torch.zeros(2), torch.zeros(2, 3))
    >>> centre(None, q, torch.tensor([1.0, 3.0])).signal
    tensor([1., 3.])
    >>> centre(ControlVariate(features=3), q, torch.tensor([1.0, 3.0])).signal
    tensor([-2.,  2.])
    """
    if control_variate is None:
        zero = torch.zeros(posterior.batch_shape, dtype=signal.dtype, device=signal.device)
        return Centred(signal.detach(), zero.new_ones(()), zero)
    return control_variate(posterior, signal)
