"""The graphs of a model: an encoder from samples to codes, a decoder from codes to samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from torch import Tensor, nn

from sdlgm.config import Binarisation
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError
from sdlgm.export.code_graph import CodeGraph
from sdlgm.export.graph import Graph, Value
from sdlgm.export.networks import add_finite, add_linear, add_sequential
from sdlgm.models import SDLGM, model_sha256
from sdlgm.nn import Bernoulli, Categorical, Gaussian, Poisson
from sdlgm.nn.priors import LevelNetwork
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

    The presences of a posterior with levels are those given the code of the levels before.

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
    uniforms = graph.input("uniforms", np.float64, config.budget) if code == "sample" else None
    _add_code(graph, model, raw, _trunk(graph, model, x, shift), valid, uniforms)
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


class _Read(NamedTuple):
    """What the heads of a posterior read: a value minus a shift."""

    value: Value
    shift: Tensor | None


def _trunk(graph: Graph, model: SDLGM, x: Value, shift: Tensor | None) -> tuple[_Read, _Read]:
    """Return what the features of the first level read, and what all else reads."""
    data = trunk = _Read(x, shift)
    if hasattr(model, "encoder") and len(model.encoder):
        trunk = _Read(add_sequential(graph, x, model.encoder, "encoder", shift), None)
    return trunk, (trunk if model.config.shared_trunk else data)


def _add_code(
    graph: Graph,
    model: SDLGM,
    raw: Value,
    reads: tuple[_Read, _Read],
    valid: Value,
    uniforms: Value | None,
) -> None:
    """Add the outputs of an encoder, level by level: each sees the code of those before it."""
    config, levels = model.config, model.config.levels
    size, slots, groups = (n // levels for n in (config.features, config.budget, model.groups))
    found: list[tuple[Value | None, ...]] = []
    counts: list[Value] = []
    for level in range(levels):
        if level:
            network = model.later_levels[level - 1]
            computed = _later_level(graph, model, level, network, reads[1], _join(graph, counts))
        else:
            computed = _first_level(graph, model, *reads)
        logits: list[Value | None] = []
        for value in computed:
            finite, safe = add_finite(graph, value) if value else (valid, None)
            valid = graph("And", valid, finite)
            logits.append(safe)
        part = CodeGraph(graph, raw, size, slots, groups, logits[0], logits[1], valid)
        outcomes = part.outcomes(_columns(graph, uniforms, level * slots, slots, config.budget))
        found.append((*logits, outcomes))
        if level < levels - 1:
            counts.append(part.dense(outcomes))
    gates, features, taken = (
        _join(graph, [value for value in column if value]) for column in zip(*found, strict=True)
    )
    shape = (config.features, config.budget, model.groups)
    whole = CodeGraph(graph, raw, *shape, gates or None, features or None, valid)
    whole.add_outputs(taken)


def _join(graph: Graph, values: list[Value]) -> Value:
    """Concatenate along the second dimension; no values make no name."""
    if len(values) < 2:
        return "".join(values)
    return graph("Concat", *values, axis=1)


def _columns(
    graph: Graph, values: Value | None, start: int, number: int, width: int
) -> Value | None:
    if values is None or number == width:
        return values
    ends = graph.integers(start), graph.integers(start + number), graph.integers(1)
    return graph("Slice", values, *ends)


def _first_level(
    graph: Graph, model: SDLGM, trunk: _Read, read: _Read
) -> tuple[Value | None, Value | None]:
    """Add the logits of gates ``(n, G)`` and features ``(n, K)``, as ``SDLGM.forward`` does."""
    gates = features = None
    if model.config.gates == "learned":
        inner = read
        if len(model.sparsity):
            inner = _Read(
                add_sequential(graph, read.value, model.sparsity, "sparsity", read.shift), None
            )
        gates = add_linear(graph, inner.value, model.gate_head, "gate_head", inner.shift)
    if model.chooses:
        features = add_linear(graph, trunk.value, model.feature_head, "feature_head", trunk.shift)
        if gates is not None and model.config.joint_gates:
            gates = _compete(graph, model, gates, features)
    return gates, features


def _later_level(
    graph: Graph, model: SDLGM, level: int, network: nn.Module, read: _Read, codes: Value
) -> tuple[Value | None, Value | None]:
    """Add the logits of a further level, as :class:`~sdlgm.nn.priors.LevelNetwork` does."""
    if not isinstance(network, LevelNetwork) or network.context is None:
        raise ConfigError(f"No ONNX operators are known for the level {network}.")
    name = f"later_levels.{level - 1}"
    given = add_linear(graph, read.value, network.context, f"{name}.context", read.shift)
    inner = graph("Add", add_linear(graph, codes, network.prefix, f"{name}.prefix"), given)
    inner = add_sequential(graph, inner, network.first, f"{name}.first")
    if network.adds:
        value = read.value
        if read.shift is not None:
            value = graph("Sub", value, graph.constant(read.shift, f"{name}.shift"))
        inner = graph("Add", inner, value)
    inner = add_sequential(graph, inner, network.rest, f"{name}.rest")
    gates = features = None
    if network.gate_head is not None:
        gates = add_linear(graph, inner, network.gate_head, f"{name}.gate_head")
    if network.feature_head is not None:
        features = add_linear(graph, inner, network.feature_head, f"{name}.feature_head")
        if gates is not None and network.joint_gates:
            gates = _compete(graph, model, gates, features)
    return gates, features


def _compete(graph: Graph, model: SDLGM, gates: Value, features: Value) -> Value:
    """Add :func:`~sdlgm.nn.priors.compete`."""
    width = model.config.features // model.groups
    groups = model.groups // model.config.levels
    of_groups = graph.reshape(features, -1, groups, width)
    total = graph("ReduceLogSumExp", of_groups, graph.integers(-1), keepdims=0)
    offset = graph("Sub", total, graph.constant(np.float32(math.log(width))))
    return graph("Add", gates, offset)


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
