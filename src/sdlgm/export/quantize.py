"""Quantise a graph to 8-bit weights, a quarter of the size."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sdlgm.export.graph import read_model, require_onnx

if TYPE_CHECKING:
    import onnx

__all__ = ["quantize"]


def quantize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose dense layers compute with 8-bit integers (dynamic quantisation).

    Each column of a weight matrix is scaled separately, to 7 bits: sums of products then fit the 16
    bits in which processors without VNNI instructions add them. The inputs of a layer are scaled
    for each batch by their smallest and largest value. This needs no calibration data, but a row's
    result depends slightly on the other rows of its batch. Other operators do not change.

    Raises
    ------
    SDLGMError
        If the package onnxruntime is not installed.
    """
    require_onnx("Quantisation", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    about = {entry.key: entry.value for entry in model.metadata_props}
    ready = onnx.ModelProto()
    ready.CopyFrom(model)
    # The shapes are known; without this mark onnxruntime warns that they should be inferred.
    onnx.helper.set_model_props(ready, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_dynamic(
            ready, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )
        smaller = read_model(path)
    onnx.helper.set_model_props(smaller, {**about, "quantize": "int8"})
    return smaller
