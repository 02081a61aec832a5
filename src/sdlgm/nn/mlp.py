"""Multi-layer perceptrons whose weights come from a generator of ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from sdlgm.config import Activation

__all__ = ["ACTIVATIONS", "linear", "mlp"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


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
) -> nn.Sequential:
    """Return hidden layers, each ``linear -> (normalisation) -> activation``.

    Maps ``(*, inputs)`` to ``(*, hidden[-1])``; the identity if ``hidden`` is empty.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers.append(linear(inputs, width, generator))
        if normalisation == "layer":
            layers.append(nn.LayerNorm(width))
        layers.append(ACTIVATIONS[activation]())
        inputs = width
    return nn.Sequential(*layers)
