"""The baselines of the timing experiment: minimal autoencoders in plain torch.

They have no wrapper, no centring of the input and no logging, and use torch's fused Adam, as
:class:`sdlgm.models.SDLGM` does.
"""

from __future__ import annotations

import abc
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdlgm.config import Activation
from sdlgm.nn import mlp
from sdlgm.random import generator

__all__ = ["Autoencoder", "BaselineModel", "GaussianVAE", "GumbelSoftmaxVAE", "TopKAutoencoder"]

CODE, ACTIVE = 200, 40
"""Width of the codes, and the number of entries that a top-k autoencoder keeps."""


class BaselineModel(nn.Module, abc.ABC):
    """An encoder, a code of 200 numbers, and a mirrored decoder of bits.

    Parameters
    ----------
    inputs
        Number D of bits.
    hidden
        Widths of the encoder's hidden layers.
    activation, normalisation
        Activation and normalisation of the hidden layers.
    """

    outputs = CODE
    """Number of outputs of the encoder."""

    def __init__(
        self,
        inputs: int,
        hidden: tuple[int, ...],
        activation: Activation,
        normalisation: Literal["layer", "none"],
    ) -> None:
        super().__init__()
        noise = generator(0, "baseline")
        widths = hidden, hidden[::-1]
        self.encoder, self.decoder = (
            mlp(
                width, layers, activation=activation, normalisation=normalisation, generator=noise
            ).append(nn.Linear(layers[-1], out))
            for width, layers, out in zip(
                (inputs, CODE), widths, (self.outputs, inputs), strict=True
            )
        )
        self.adam = torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)

    @abc.abstractmethod
    def loss(self, x: Tensor) -> Tensor:
        """Return the mean loss of a batch ``(b, D)``."""

    def error(self, x: Tensor, code: Tensor) -> Tensor:
        """Return the negative log-likelihood of bits, shape ``(b,)``."""
        return F.binary_cross_entropy_with_logits(self.decoder(code), x, reduction="none").sum(-1)

    def step(self, x: Tensor, number: int) -> Tensor:
        """Take a gradient step."""
        self.adam.zero_grad()
        loss = self.loss(x)
        loss.backward()
        self.adam.step()
        return loss.detach()


class GumbelSoftmaxVAE(BaselineModel):
    """20 categorical latents of 10 values (Jang et al. 2017).

    Uses ``torch.nn.functional.gumbel_softmax`` at a fixed temperature, and the KL from the uniform
    prior in closed form.
    """

    def loss(self, x: Tensor) -> Tensor:
        """Return the negative relaxed ELBO."""
        logits = self.encoder(x).view(-1, 20, 10)
        code = F.gumbel_softmax(logits, tau=1.0).flatten(1)
        log_q = F.log_softmax(logits, dim=-1)
        divergence = (log_q.exp() * (log_q + 2.302585092994046)).sum((-2, -1))
        return (self.error(x, code) + divergence).mean()


class Autoencoder(BaselineModel):
    """An autoencoder without noise and prior."""

    def loss(self, x: Tensor) -> Tensor:
        """Return the negative log-likelihood."""
        return self.error(x, self.encoder(x)).mean()


class GaussianVAE(BaselineModel):
    """200 independent Gaussian latents with a standard normal prior (Kingma and Welling 2014)."""

    outputs = 2 * CODE

    def loss(self, x: Tensor) -> Tensor:
        """Return the negative ELBO."""
        mean, log_variance = self.encoder(x).chunk(2, dim=-1)
        code = torch.addcmul(mean, torch.exp(0.5 * log_variance), torch.randn_like(mean))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        return (self.error(x, code) + divergence).mean()


class TopKAutoencoder(BaselineModel):
    """A sparse autoencoder that keeps the 40 largest of 200 outputs (Makhzani and Frey 2014)."""

    def loss(self, x: Tensor) -> Tensor:
        """Return the negative log-likelihood."""
        raw = self.encoder(x)
        values, places = raw.topk(ACTIVE, dim=-1, sorted=False)
        code = torch.zeros_like(raw).scatter(-1, places, values.relu())
        return self.error(x, code).mean()
