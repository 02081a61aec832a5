"""Add the layers of ``sdlgm.nn`` to a graph: dense layers, normalisations and activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdlgm.errors import SDLGMError
from sdlgm.export.graph import Graph, Value
from sdlgm.nn import EnsembleLinear, EnsembleMLP, Residual

__all__ = [
    "add_ensemble",
    "add_ensemble_linear",
    "add_finite",
    "add_linear",
    "add_log_sigmoid",
    "add_sequential",
]


def add_linear(
    graph: Graph, x: Value, layer: nn.Linear, name: str, shift: Tensor | None = None
) -> Value:
    """Add ``layer(x - shift)`` for x ``(n, inputs)``; the bias absorbs the shift."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    if shift is not None:
        bias = (bias.double() - weight.double() @ shift.double()).float()
    return graph(
        "Gemm",
        x,
        graph.constant(weight.T, f"{name}.weight"),
        graph.constant(bias, f"{name}.bias"),
    )


def add_sequential(
    graph: Graph, x: Value, layers: nn.Sequential, name: str, shift: Tensor | None = None
) -> Value:
    """Add the layers of :func:`sdlgm.nn.mlp` for x ``(n, inputs)`` minus a shift.

    Raises
    ------
    SDLGMError
        If there is no ONNX operator for a layer.
    """
    if shift is not None and not isinstance(layers[0], nn.Linear):
        x, shift = graph("Sub", x, graph.constant(shift, f"{name}.shift")), None
    for place, layer in enumerate(layers):
        where = f"{name}.{place}"
        if isinstance(layer, nn.Linear):
            x = add_linear(graph, x, layer, where, None if place else shift)
        elif isinstance(layer, Residual):
            x = graph("Add", x, add_sequential(graph, x, layer, where))
        elif isinstance(layer, nn.LayerNorm):
            x = _layer_norm(graph, x, layer.weight, layer.bias, layer.eps, where)
        else:
            x = _activation(graph, x, layer)
    return x


def add_ensemble(graph: Graph, x: Value, network: EnsembleMLP, name: str) -> Value:
    """Add the hidden layers of an ensemble for x ``(members, n, inputs)``."""
    for place, layer in enumerate(network.layers):
        where = f"{name}.layers.{place}"
        x = add_ensemble_linear(graph, x, layer, where)
        if network.normalisation == "layer":
            ones = torch.ones(_checked(layer).weight.shape[-1])
            x = _layer_norm(graph, x, ones, torch.zeros_like(ones), 1e-5, where)
        x = _activation(graph, x, network.activation)
    return x


def add_ensemble_linear(graph: Graph, x: Value, layer: nn.Module, name: str) -> Value:
    """Add a layer of an ensemble for x ``(members, n, inputs)`` or ``(1, n, inputs)``."""
    layer = _checked(layer)
    product = graph("MatMul", x, graph.constant(layer.weight, f"{name}.weight"))
    return graph("Add", product, graph.constant(layer.bias, f"{name}.bias"))


def _checked(layer: nn.Module) -> EnsembleLinear:
    if not isinstance(layer, EnsembleLinear):
        raise _untranslated(layer)
    return layer


def add_log_sigmoid(graph: Graph, x: Value, *, of_minus: bool = False) -> Value:
    """Add ``log(sigmoid(x))`` or ``log(sigmoid(-x))``, accurate for large and small x."""
    return graph("Neg", graph("Softplus", x if of_minus else graph("Neg", x)))


def add_finite(
    graph: Graph, x: Value, kind: type[np.floating[Any]] = np.float32
) -> tuple[Value, Value]:
    """Add whether all values of a row are finite, ``(n, 1)``, and x with other rows set to 0.

    ``kind`` is the type of x. A value beyond the range of float32 is not finite.
    """
    largest = graph.constant(kind(np.finfo(np.float32).max))
    each = graph.cast(graph("LessOrEqual", graph("Abs", x), largest), np.float32)
    finite = graph.cast(graph("ReduceMin", each, graph.integers(1), keepdims=1), np.bool_)
    return finite, graph("Where", finite, x, graph.constant(kind(0)))


def _layer_norm(
    graph: Graph, x: Value, weight: Tensor, bias: Tensor, eps: float, name: str
) -> Value:
    scale = graph.constant(weight, f"{name}.norm_weight")
    return graph(
        "LayerNormalization",
        x,
        scale,
        graph.constant(bias, f"{name}.norm_bias"),
        axis=-1,
        epsilon=float(np.float32(eps)),
    )


def _activation(graph: Graph, x: Value, layer: nn.Module) -> Value:
    for kind, add in _ACTIVATIONS.items():
        if isinstance(layer, kind):
            return add(graph, x)
    raise _untranslated(layer)


def _untranslated(layer: nn.Module) -> SDLGMError:
    known = ", ".join(kind.__name__ for kind in (nn.Linear, nn.LayerNorm, *_ACTIVATIONS))
    return SDLGMError(f"No ONNX operator is known for the layer {layer}. Known layers: {known}.")


_ACTIVATIONS: dict[type[nn.Module], Callable[[Graph, Value], Value]] = {
    nn.GELU: lambda graph, x: graph("Gelu", x),
    nn.ReLU: lambda graph, x: graph("Relu", x),
    nn.SiLU: lambda graph, x: graph("Mul", x, graph("Sigmoid", x)),
    nn.Tanh: lambda graph, x: graph("Tanh", x),
}
