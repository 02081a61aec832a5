"""The graphs of a model: an encoder from samples to codes, a decoder from codes to samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from torch import Tensor

from sdlgm.config import Binarisation
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError
from sdlgm.export.code_graph import CodeGraph
from sdlgm.export.graph import Graph, Value
from sdlgm.export.networks import add_finite, add_linear, add_sequential
from sdlgm.models import SDLGM, model_sha256
from sdlgm.nn import Bernoulli, Categorical, Gaussian, Poisson
from sdlgm.nn.statistics import needs_double

if TYPE_CHECKING:
    import onnx

__all__ = ["Code", "Part", "decoder_graph", "encoder_graph"]

Part = Literal["encoder", "decoder", "classifier"]
"""What to export: one half of a model, or a whole classifier."""
Code = Literal["mode", "sample"]
"""``"mode"``: a most probable code; ``"sample"``: a draw, with uniform numbers as an input."""


@neutral()
def encoder_graph(
    model: SDLGM,
    code: Code = "mode",
    *,
    binarisation: Binarisation = "none",
    maximum_grey_value: float = 1.0,
) -> onnx.ModelProto:
    """Return the encoder ``x -> indices, counts, n_active, presence, valid``.

    A row with a value that is not finite, or so large that its logits are not, has no code: its
    ``valid`` is false, its indices are -1, its counts 0 and its presences NaN.

    Samples are float32, or float64 for a model of columns that float32 would blur
    (:func:`~sdlgm.nn.statistics.needs_double`).

    Parameters
    ----------
    model
        The model.
    code
        How to choose a code from the posterior.
    binarisation
        How the graph turns its input rows into inputs of the network. ``"none"``: not at all.
        ``"dynamic"`` and ``"fixed"``: rows are grey values; divided by ``maximum_grey_value``, they
        are the probabilities of bits, which the network reads in place of the bits.
        ``"threshold"``: grey values become 1 from half of ``maximum_grey_value`` on, else 0.
    maximum_grey_value
        Largest possible grey value.

    Raises
    ------
    ConfigError
        If the code is unknown.
    SDLGMError
        If the package onnx is not installed.
    """
    if code not in get_args(Code):
        raise ConfigError(f"code must be one of {', '.join(get_args(Code))}, got {code!r}.")
    config = model.config
    graph = Graph("encoder")
    kind = np.float64 if _reads_double(model) else np.float32
    raw = graph.input("x", kind, model.n_inputs)
    valid, x = add_finite(graph, raw, kind)
    if binarisation == "threshold":
        half = graph.constant(np.float32(maximum_grey_value / 2), "half")
        x = graph.cast(graph("GreaterOrEqual", x, half), np.float32)
    elif binarisation != "none" and maximum_grey_value != 1:
        largest = graph.constant(np.float32(maximum_grey_value), "maximum_grey_value")
        x = graph("Div", x, largest)
    # Bits are centred in the first layer's bias: uncentred, 8-bit numbers represent them exactly.
    # Real numbers can have any size, so they are centred first.
    shift = None
    if config.likelihood == "bernoulli":
        shift = model.input_shift.float()
    else:
        x = graph(
            "Sub", graph.cast(x, np.float64), _double(graph, model.input_shift, "input_shift")
        )
        x = graph("Div", x, _double(graph, model.input_scale, "input_scale"))
        x = graph.cast(x, np.float32)
    logits: list[Value | None] = []
    for computed in _posterior(graph, model, x, shift):
        finite, safe = add_finite(graph, computed) if computed else (valid, None)
        valid = graph("And", valid, finite)
        logits.append(safe)
    gates, features = logits
    CodeGraph(
        graph, raw, config.features, config.budget, model.groups, gates, features, valid
    ).add_outputs(code)
    about = {
        "code": code,
        "binarisation": binarisation,
        "maximum_grey_value": f"{maximum_grey_value:g}",
    }
    return graph.model({**describe(model, "encoder"), **about})


@neutral()
def decoder_graph(model: SDLGM) -> onnx.ModelProto:
    """Return the decoder ``indices, counts -> x``, the mean of ``p(x | z)``.

    The two inputs are outputs of the encoder, or narrower; negative indices are ignored.
    """
    config = model.config
    graph = Graph("decoder")
    indices = graph.input("indices", np.int64, "width")
    counts = graph.input("counts", np.int64, "width")
    zero = graph.constant(np.int64(0))
    used = graph("GreaterOrEqual", indices, zero)
    codes = graph(
        "ScatterElements",
        graph.filled(indices, (config.features,), np.float32(0)),
        graph("Max", indices, zero),
        graph.cast(graph("Where", used, counts, zero), np.float32),
        axis=1,
        reduction="add",
    )
    hidden = add_sequential(graph, codes, model.decoder, "decoder")
    out = add_linear(graph, hidden, model.output_head, "output_head")
    kind = np.float64 if _reads_double(model) else np.float32
    graph.output("x", graph.cast(_mean(graph, model, out), kind), kind, model.n_inputs)
    return graph.model(describe(model, "decoder"))


def describe(model: SDLGM, part: Part) -> dict[str, Any]:
    """Return the metadata of a graph."""
    config = model.config
    return {
        "part": part,
        "model_sha256": model_sha256(model),
        "K": config.features,
        "L0": config.budget,
        "groups": model.groups,
        "likelihood": config.likelihood,
        "inputs": model.n_inputs,
    }


def _posterior(
    graph: Graph, model: SDLGM, x: Value, shift: Any
) -> tuple[Value | None, Value | None]:
    """Add the logits of gates ``(n, G)`` and features ``(n, K)``, as ``SDLGM.forward`` does."""
    trunk, trunk_shift = x, shift
    if hasattr(model, "encoder") and len(model.encoder):
        trunk, trunk_shift = add_sequential(graph, x, model.encoder, "encoder", shift), None
    gates = features = None
    if model.config.gates == "learned":
        read, offset = (trunk, trunk_shift) if model.config.shared_trunk else (x, shift)
        if len(model.sparsity):
            read = add_sequential(graph, read, model.sparsity, "sparsity", offset)
            offset = None
        gates = add_linear(graph, read, model.gate_head, "gate_head", offset)
    if model.chooses:
        features = add_linear(graph, trunk, model.feature_head, "feature_head", trunk_shift)
        if gates is not None and model.config.joint_gates:
            width = model.config.features // model.groups
            of_groups = graph.reshape(features, -1, model.groups, width)
            total = graph("ReduceLogSumExp", of_groups, graph.integers(-1), keepdims=0)
            offset = graph("Sub", total, graph.constant(np.float32(math.log(width))))
            gates = graph("Add", gates, offset)
    return gates, features


def _mean(graph: Graph, model: SDLGM, raw: Value) -> Value:
    """Add the mean of the likelihood, given the decoder's raw outputs."""
    match model.likelihood:
        case Bernoulli():
            return graph("Sigmoid", raw)
        case Gaussian() as normal:
            raw = graph.cast(raw, np.float64)
            scaled = graph("Mul", raw, _double(graph, normal.unit, "unit"))
            return graph("Add", scaled, _double(graph, normal.shift, "shift"))
        case Poisson():
            return graph("Max", graph("Softplus", raw), graph.constant(np.float32(1e-6)))
        case Categorical() as levels:
            logits = graph.reshape(raw, -1, model.n_inputs, levels.levels)
            level = graph.constant(np.arange(levels.levels, dtype=np.float32))
            return graph("MatMul", graph("Softmax", logits, axis=-1), level)
        case other:
            raise ConfigError(f"No ONNX operators are known for the likelihood {other}.")


def _reads_double(model: SDLGM) -> bool:
    real = model.config.likelihood == "gaussian"
    return real and needs_double(model.input_shift, model.input_scale)


def _double(graph: Graph, values: Tensor, name: str) -> Value:
    return graph.constant(values.double(), name)
