"""Multi-layer perceptrons whose initial weights come from a given generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdlgm.config import Activation
from sdlgm.errors import ConfigError
from sdlgm.kernels import launch
from sdlgm.kernels.layers import norm_gelu
from sdlgm.limits import check

__all__ = ["ACTIVATIONS", "Layers", "Residual", "linear", "mlp"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Layers(nn.Sequential):
    """Layers in their order. On a GPU, linear layer, LayerNorm and GELU are two kernels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` of shape ``(*, inputs)`` to ``(*, outputs)``."""
        layers = list(self)
        while layers:
            if len(layers) >= 3 and _fuses(layers[:3], x):
                x, layers = _fused(layers[:3], x), layers[3:]
            else:
                x, layers = layers[0](x), layers[1:]
        return x


class Residual(nn.Sequential):
    """Layers with a residual connection: ``x + layers(x)``.

    References
    ----------
    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.

    Examples
    --------
    >>> Residual(nn.Identity())(torch.ones(2))
    tensor([2., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` of shape ``(*, width)`` to the same shape."""
        layers = list(self)
        if len(layers) == 3 and _fuses(layers, x):
            return _fused(layers, x, residual=x)
        return x + super().forward(x)


def _fuses(layers: Sequence[nn.Module], x: Tensor) -> bool:
    """Whether three layers are linear, LayerNorm and GELU, and a kernel can compute them."""
    first, second, third = layers
    return (
        isinstance(first, nn.Linear)
        and isinstance(second, nn.LayerNorm)
        and isinstance(third, nn.GELU)
        and third.approximate == "none"
        and launch.usable(first.bias)
        and x.dtype == first.bias.dtype
        and not torch.is_autocast_enabled(x.device.type)
    )


def _fused(layers: Sequence[Any], x: Tensor, residual: Tensor | None = None) -> Tensor:
    first, norm, _ = layers
    products = F.linear(x, first.weight)
    return norm_gelu(products, first.bias, norm.weight, norm.bias, norm.eps, residual)


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Create a linear layer with torch's default initialisation, drawn from ``generator``.

    Examples
    --------
    >>> linear(3, 2, torch.Generator().manual_seed(0)).weight.shape
    torch.Size([2, 3])
    """
    if torch.empty(0).is_meta:  # only the shapes are wanted
        return nn.Linear(inputs, outputs)
    layer = nn.Linear(inputs, outputs, device="meta")  # which draws nothing
    bound = 1 / math.sqrt(inputs)
    for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
        values = torch.empty(shape, device="cpu").uniform_(-bound, bound, generator=generator)
        setattr(layer, name, nn.Parameter(values))
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
    """Create hidden layers, each ``linear -> (normalisation) -> activation``.

    Maps ``(*, inputs)`` to ``(*, hidden[-1])``; the identity if ``hidden`` is empty.

    Parameters
    ----------
    inputs
        Number of inputs.
    hidden
        Widths of the layers.
    activation
        Name of the activation function.
    normalisation
        ``"layer"`` or ``"none"``.
    generator
        Source of the initial weights.
    residual
        Add the input of a layer to its output if both have the same width (:class:`Residual`).

    Examples
    --------
    >>> source = torch.Generator().manual_seed(0)
    >>> network = mlp(4, (8, 8), activation="gelu", normalisation="layer", generator=source)
    >>> network(torch.ones(5, 4)).shape
    torch.Size([5, 8])
    """
    check("layers", len(hidden), "hidden", ConfigError)
    layers: list[nn.Module] = []
    for width in hidden:
        layer: list[nn.Module] = [linear(inputs, width, generator)]
        if normalisation == "layer":
            layer.append(nn.LayerNorm(width))
        layer.append(ACTIVATIONS[activation]())
        layers += [Residual(*layer)] if residual and width == inputs else layer
        inputs = width
    return Layers(*layers)
