"""Quantise a graph to 8-bit weights, a quarter of the size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sdlgm.export.graph import require_onnx

if TYPE_CHECKING:
    import onnx

__all__ = ["quantize"]

WEIGHT_LEVELS = 63
"""Largest weight in 8 bits. Sums of products then fit the 16 bits in which processors without VNNI
instructions add pairs of them."""


def quantize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose dense layers compute with 8-bit integers.

    Each column of a weight matrix is scaled separately, to 7 bits, and each row of a layer's input
    by its own smallest and largest value, to 8 bits. This needs no calibration data. Sums of
    integers are exact, so the result for a row does not depend on the other rows of its batch.
    Other operators do not change.

    Raises
    ------
    SDLGMError
        If the package onnx is not installed.
    """
    require_onnx("Quantisation")
    import onnx

    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in smaller.graph.initializer}
    rewriter = _Rewriter()
    for node in smaller.graph.node:
        if node.op_type == "Gemm":
            rewriter.add_layer(node, constants.pop(node.input[1]), node.input[2])
        else:
            rewriter.nodes.append(node)
    del smaller.graph.node[:]
    del smaller.graph.initializer[:]
    smaller.graph.node.extend(rewriter.nodes)
    smaller.graph.initializer.extend([*constants.values(), *rewriter.constants.values()])
    about = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(smaller, {**about, "quantize": "int8"})
    return smaller


class _Rewriter:
    """Collects the operators and constants of a graph whose dense layers are replaced."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add_layer(self, gemm: Any, weight: Any, bias: str) -> None:
        """Add ``x W + b`` with x ``(n, inputs)`` and W ``(inputs, outputs)`` in 8 bits.

        With ``x = s (q - z)`` for each row and ``W = t V`` for each column,
        ``x W = s t (q V - z sum(V))``.
        """
        from onnx import numpy_helper

        self._layer, x = gemm.name, gemm.input[0]
        values = numpy_helper.to_array(weight)
        scale = np.maximum(np.abs(values).max(0), np.finfo(np.float32).tiny) / WEIGHT_LEVELS
        small = np.rint(values / scale).astype(np.int8)
        zero = self._constant("zero", np.float32(0))
        axis = self._constant("axis", np.array([1], np.int64))
        low = self._add("Min", self._add("ReduceMin", x, axis, keepdims=1), zero)
        high = self._add("Max", self._add("ReduceMax", x, axis, keepdims=1), zero)
        # A quotient of 0 by the smallest positive number is 0: a row of zeros stays one.
        unit = self._add("Div", self._add("Sub", high, low), self._constant("255", np.float32(255)))
        unit = self._add("Max", unit, self._constant("tiny", np.float32(np.finfo(np.float32).tiny)))
        origin = self._add("Round", self._add("Neg", self._add("Div", low, unit)))
        placed = self._add("Add", self._add("Round", self._add("Div", x, unit)), origin)
        placed = self._add("Clip", placed, zero, self._constant("255", np.float32(255)))
        product = self._add(
            "MatMulInteger",
            self._cast(placed, np.uint8),
            self._constant(f"{weight.name}.int8", small),
        )
        sums = small.sum(0, dtype=np.int32)
        excess = self._add(
            "Mul", self._cast(origin, np.int32), self._constant(f"{weight.name}.sums", sums)
        )
        result = self._cast(self._add("Sub", product, excess), np.float32)
        result = self._add("Mul", result, unit)
        result = self._add(
            "Mul", result, self._constant(f"{weight.name}.scale", scale.astype(np.float32))
        )
        self._add("Add", result, bias, name=gemm.output[0])

    def _add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = name or f"{self._layer}_{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def _cast(self, value: str, dtype: type[np.generic]) -> str:
        from onnx import helper

        return self._add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        name = f"int8.{name}"
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name
