"""Multi-layer perceptrons whose weights come from a generator of ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sdlgm.config import Activation

__all__ = ["ACTIVATIONS", "Residual", "linear", "mlp"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Residual(nn.Sequential):
    """Layers that add their input to what they make of it: ``x + layers(x)`` (He et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers to ``x`` of shape ``(*, width)``; their outputs are as wide."""
        return x + super().forward(x)


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with torch's default initial law, drawn from ``generator``."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def mlp(
    inputs: int,
    hidden: Sequence[int],
    *,
    activation: Activation,
    normalisation: Literal["layer", "none"],
    generator: torch.Generator,
    residual: bool = False,
) -> nn.Sequential:
    """Return hidden layers, each ``linear -> (normalisation) -> activation``.

    Maps ``(*, inputs)`` to ``(*, hidden[-1])``; the identity if ``hidden`` is empty. With
    ``residual``, a layer as wide as its input adds that to its output (:class:`Residual`).
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layer: list[nn.Module] = [linear(inputs, width, generator)]
        if normalisation == "layer":
            layer.append(nn.LayerNorm(width))
        layer.append(ACTIVATIONS[activation]())
        layers += [Residual(*layer)] if residual and width == inputs else layer
        inputs = width
    return nn.Sequential(*layers)
