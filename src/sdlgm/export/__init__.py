"""Export encoders, decoders and classifiers as ONNX files, for machines without torch.

Needs the extra ``onnx``. docs/export.md describes the files.
"""

from sdlgm.export.classifier import export_classifier
from sdlgm.export.graph import read_model, write_model
from sdlgm.export.model_graphs import Code, Part, decoder_graph, encoder_graph
from sdlgm.export.onnx_files import Parity, compare_encoder, dense_codes, export_run, open_session
from sdlgm.export.quantize import quantize

__all__ = [
    "Code",
    "Parity",
    "Part",
    "compare_encoder",
    "decoder_graph",
    "dense_codes",
    "encoder_graph",
    "export_classifier",
    "export_run",
    "open_session",
    "quantize",
    "read_model",
    "write_model",
]
