"""Export models as ONNX files, and codes as vectors for search engines.

ONNX files are for machines without torch and need the extra ``onnx`` (docs/export.md). Vectors need
nothing, but for indexes of faiss the extra ``vectors`` (docs/search.md).
"""

from sdlgm.export.additive_quantiser import additive_codebooks, faiss_index, write_faiss
from sdlgm.export.classifier import export_classifier
from sdlgm.export.graph import read_model, write_model
from sdlgm.export.model_graphs import Code, Part, decoder_graph, encoder_graph
from sdlgm.export.onnx_files import Parity, compare_encoder, dense_codes, export_run, open_session
from sdlgm.export.quantize import quantize
from sdlgm.export.vector_engines import engine_records, engine_vectors, write_vectors
from sdlgm.export.vector_files import export_codes

__all__ = [
    "Code",
    "Parity",
    "Part",
    "additive_codebooks",
    "compare_encoder",
    "decoder_graph",
    "dense_codes",
    "encoder_graph",
    "engine_records",
    "engine_vectors",
    "export_classifier",
    "export_codes",
    "export_run",
    "faiss_index",
    "open_session",
    "quantize",
    "read_model",
    "write_faiss",
    "write_model",
    "write_vectors",
]
