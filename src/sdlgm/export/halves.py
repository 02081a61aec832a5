"""The two parts of a model as graphs: from samples to codes, and from codes to samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sdlgm.config import Binarisation
from sdlgm.errors import ConfigError
from sdlgm.export.code_graph import CodeLaw
from sdlgm.export.graph import Graph, Value
from sdlgm.export.networks import add_linear, add_sequential
from sdlgm.models import SDLGM, SavedModel
from sdlgm.nn import Bernoulli, Categorical, Gaussian, Poisson

if TYPE_CHECKING:
    import onnx

__all__ = ["Code", "Part", "decoder_graph", "encoder_graph"]

Part = Literal["encoder", "decoder", "classifier"]
"""Which half of a model, or a classifier as a whole."""
Code = Literal["mode", "sample"]
"""``"mode"``: a most probable code; ``"sample"``: a draw, from uniform numbers as an input."""


def encoder_graph(
    saved: SavedModel,
    code: Code = "mode",
    *,
    binarisation: Binarisation = "none",
    white: float = 1.0,
) -> onnx.ModelProto:
    """Return the encoder ``x -> indices, counts, n_active, presence``.

    Parameters
    ----------
    saved
        The model and its hash.
    code
        How a code is chosen from the posterior.
    binarisation, white
        How the rows ``x`` become what the model was trained on. ``"none"``: they are that.
        ``"dynamic"`` and ``"fixed"``: grey values from 0 to ``white``, each the probability of a
        bit, which the network reads in its place; rows of bits are 0 and ``white``.
        ``"threshold"``: grey values that are cut at one half.

    Raises
    ------
    ConfigError
        If the code is unknown.
    SDLGMError
        If the package onnx is not installed.
    """
    if code not in get_args(Code):
        raise ConfigError(f"code must be one of {', '.join(get_args(Code))}, got {code!r}.")
    model, config = saved.model, saved.model.config
    graph = Graph("encoder")
    x = raw = graph.input("x", np.float32, model.n_inputs)
    if binarisation == "threshold":
        half = graph.constant(np.float32(white / 2), "half")
        x = graph.cast(graph("GreaterOrEqual", x, half), np.float32)
    elif binarisation != "none" and white != 1:
        x = graph("Div", x, graph.constant(np.float32(white), "white"))
    # Bits stay bits, which 8-bit numbers hold exactly: they are centred in the first layer's bias.
    # Real numbers, of any size, are centred before anything else.
    shift = None
    if config.likelihood == "bernoulli":
        shift = model.input_shift
    else:
        x = graph("Sub", x, graph.constant(model.input_shift, "input_shift"))
        x = graph("Div", x, graph.constant(model.input_scale, "input_scale"))
    logits = _posterior(graph, model, x, shift)
    CodeLaw(graph, raw, config.features, config.budget, model.groups, *logits).add_outputs(code)
    about = {"code": code, "binarisation": binarisation, "white": f"{white:g}"}
    return graph.model({**describe(saved, "encoder"), **about})


def decoder_graph(saved: SavedModel) -> onnx.ModelProto:
    """Return the decoder ``indices, counts -> x``, the mean of ``p(x | z)``.

    The two inputs are those that the encoder gives, of any one width; indices below 0 are left out.
    """
    model, config = saved.model, saved.model.config
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
    graph.output("x", _mean(graph, model, out), np.float32, model.n_inputs)
    return graph.model(describe(saved, "decoder"))


def describe(saved: SavedModel, part: Part) -> dict[str, Any]:
    """Return what a graph says of the model it comes from."""
    config = saved.model.config
    return {
        "part": part,
        "model_sha256": saved.sha256,
        "K": config.features,
        "L0": config.budget,
        "groups": saved.model.groups,
        "likelihood": config.likelihood,
        "inputs": saved.model.n_inputs,
    }


def _posterior(
    graph: Graph, model: SDLGM, x: Value, shift: Any
) -> tuple[Value | None, Value | None]:
    """Add logits of gates ``(n, G)`` and features ``(n, K)``, as ``SDLGM.forward``."""
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
    """Add the mean of the likelihood of raw outputs."""
    match model.likelihood:
        case Bernoulli():
            return graph("Sigmoid", raw)
        case Gaussian() as normal:
            scaled = graph("Mul", raw, graph.constant(normal.unit, "unit"))
            return graph("Add", scaled, graph.constant(normal.shift, "shift"))
        case Poisson():
            return graph("Max", graph("Softplus", raw), graph.constant(np.float32(1e-6)))
        case Categorical() as levels:
            logits = graph.reshape(raw, -1, model.n_inputs, levels.levels)
            level = graph.constant(np.arange(levels.levels, dtype=np.float32))
            return graph("MatMul", graph("Softmax", logits, axis=-1), level)
        case other:
            raise ConfigError(f"No ONNX operators are known for the likelihood {other}.")
