"""Weights of 8 bits: a quarter of the size."""

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

    Each column of a weight is scaled on its own, to 7 bits: sums of products then fit the 16 bits
    in which processors without VNNI instructions add them up. What a layer reads is scaled anew
    for each batch, by its smallest and largest value: no calibration data are needed, and a row's
    outcome depends a little on the rows beside it. All else is computed as before.

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
    # Its shapes are known already; without this mark onnxruntime advises to have them inferred.
    onnx.helper.set_model_props(ready, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_dynamic(
            ready, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8
        )
        smaller = read_model(path)
    onnx.helper.set_model_props(smaller, {**about, "quantize": "int8"})
    return smaller
