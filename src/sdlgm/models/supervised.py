"""The model of labelled samples, whose code holds the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch import distributions as td

from sdlgm.config import Activation, LikelihoodName
from sdlgm.distributions import GatedMultinomial
from sdlgm.nn import DataStatistics, EnsembleLinear, EnsembleMLP, drop, likelihood
from sdlgm.nn.sparse_rows import OwnProduct, SparseRows

__all__ = ["LabelModelConfig", "SupervisedSDLGM"]


@dataclass(frozen=True)
class LabelModelConfig:
    """The shape of a :class:`SupervisedSDLGM`."""

    inputs: int
    """Number of inputs that the encoder reads."""
    labels: int
    """Number K of labels, the first features of the code."""
    budget: int
    """Budget L0: the number of slots of the code."""
    latent_features: int = 0
    """Number of latent features, which follow the labels (SDLGM-Con)."""
    decoder: bool = False
    """Whether the model has a decoder (SDLGM-Gen, SDLGM-Con; not SDLGM-Dis)."""
    likelihood: LikelihoodName = "gaussian"
    """Distribution of a sample given its code."""
    members: int = 1
    """Number of networks of this shape, with separate weights, that are fitted together."""
    hidden: tuple[int, ...] = (128,)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""
    activation: Activation = "relu"
    """Activation after each hidden layer."""
    normalisation: Literal["layer", "none"] = "none"
    """Normalisation of each hidden layer before its activation."""
    dropout: float = 0.0
    """Share of the encoder's hidden units that are dropped in training."""
    input_dropout: float = 0.0
    """Share of the inputs that are dropped in training."""
    input_noise: float = 0.0
    """Standard deviation of the normal noise that is added to the inputs in training."""
    learned_prior: bool = True
    """Learn the prior, or keep that of the paper: gates open with probability 1/2, and features
    are equally likely."""


class SupervisedSDLGM(nn.Module):
    r"""An ensemble of the supervised model of Xu et al. 2021, section III.C.

    .. math::

        q(y, z \mid x) &= \text{code with gates } h(x; \gamma) \text{ and features } f(x; \phi)
            & \text{(eqs. 7, 9)} \\
        p(y, z) &= \text{code with gates } \lambda_0 \text{ and features } \alpha
            & \text{(eqs. 1, 2)} \\
        p(x \mid y, z) &= \text{likelihood at } g(y, z; \theta) & \text{(eq. 3)}

    The first K features of the code are the labels y; the others are latent. SDLGM-Dis consists of
    the first line alone, SDLGM-Gen has no latent features, and SDLGM-Con has both. The gate network
    is one layer on top of the encoder's last hidden layer (section IV.A, 2: the two may share
    layers). ``forward`` is the encoder.

    Parameters
    ----------
    config
        The shape of the model.
    statistics
        Statistics of the samples that the decoder reconstructs, if there is one.
    presence
        Frequency of each label in the training data, shape ``(K,)``, which initialises the
        encoder.
    generator
        Source of the initial weights.
    """

    def __init__(
        self,
        config: LabelModelConfig,
        statistics: DataStatistics,
        presence: Tensor,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.config = config
        members, features = config.members, config.labels + config.latent_features

        def layers(width: int, hidden: tuple[int, ...], dropout: float) -> EnsembleMLP:
            return EnsembleMLP(
                members,
                width,
                hidden,
                activation=config.activation,
                normalisation=config.normalisation,
                dropout=dropout,
                generator=generator,
            )

        self.encoder = layers(config.inputs, config.hidden, config.dropout)
        self.feature_head = EnsembleLinear(members, self.encoder.n_outputs, features, generator)
        self.gate_head = EnsembleLinear(members, self.encoder.n_outputs, 1, generator)
        shapes_only = self.gate_head.bias.is_meta
        if not shapes_only:
            self._initialise_biases(presence)
        if not config.decoder:
            return
        self.decoder = layers(features, config.hidden[::-1], 0.0)
        self.likelihood = likelihood(config.likelihood, statistics)
        self.output_head = EnsembleLinear(
            members, self.decoder.n_outputs, self.likelihood.n_outputs, generator
        )
        learned = config.learned_prior
        self.prior_gate_logits = nn.Parameter(torch.zeros(members, 1), requires_grad=learned)
        self.prior_feature_logits = nn.Parameter(
            torch.zeros(members, 1, features), requires_grad=learned
        )
        if not shapes_only:
            with torch.no_grad():
                self.output_head.bias.copy_(self.likelihood.initial_bias(statistics))

    @torch.no_grad()
    def _initialise_biases(self, presence: Tensor) -> None:
        """Set the biases such that the initial label probabilities are near the frequencies."""
        config = self.config
        presence = presence.clamp(1e-4, 1 - 1e-4)
        taken = -torch.expm1(torch.log1p(-presence) / config.budget)  # lambda pi of each label
        latent = taken.new_full((config.latent_features,), 0.5 / config.budget)
        taken = torch.cat([taken, latent])
        self.feature_head.bias.copy_(taken.log())
        self.gate_head.bias.copy_(torch.logit(taken.sum().clamp(max=0.95)))

    def forward(
        self, x: Tensor | SparseRows | OwnProduct, noise: torch.Generator | None = None
    ) -> GatedMultinomial:
        """Return ``q(y, z | x)`` for x of shape ``(members, b, inputs)``.

        ``noise`` is the source of dropout and input noise; ``None`` disables both. Sparse rows get
        no input noise, which would fill them.
        """
        if isinstance(x, Tensor):
            x = self._disturbed(x, noise)
        elif isinstance(x, OwnProduct):
            x = x.with_values(self._disturbed(x.values, noise))
        else:
            x = x.with_values(drop(x.values, self.config.input_dropout, noise))
        hidden = self.encoder(x, noise)
        return self._code(self.gate_head(hidden).squeeze(-1), self.feature_head(hidden))

    def _disturbed(self, x: Tensor, noise: torch.Generator | None) -> Tensor:
        """Return inputs with dropout and noise."""
        x = drop(x, self.config.input_dropout, noise)
        if not self.config.input_noise or noise is None:
            return x
        return x + self.config.input_noise * torch.randn(
            x.shape, dtype=x.dtype, device=x.device, generator=noise
        )

    def prior(self) -> GatedMultinomial:
        """Return the prior ``p(y, z)`` of each member, with batch shape ``(members, 1)``."""
        return self._code(self.prior_gate_logits, self.prior_feature_logits)

    def data_distribution(self, codes: Tensor) -> td.Distribution:
        """Return ``p(x | y, z)`` for codes ``(members, b, K + latent_features)``."""
        return self.likelihood(self.output_head(self.decoder(codes)))

    def _code(self, gate_logits: Tensor, feature_logits: Tensor) -> GatedMultinomial:
        return GatedMultinomial(
            self.config.budget, gate_logits, feature_logits, validate_args=False
        )
