"""Names that settings may have."""

from __future__ import annotations

from typing import Literal

__all__ = [
    "Accelerator",
    "Activation",
    "Binarisation",
    "CodeMethod",
    "LikelihoodName",
    "Metric",
    "NetworkAccelerator",
    "ObjectiveName",
    "PriorName",
    "Scaling",
    "SearchEngine",
    "TrackerName",
    "VectorFormat",
    "WeightMetric",
]

LikelihoodName = Literal["bernoulli", "gaussian", "poisson", "categorical"]


Activation = Literal["gelu", "relu", "silu", "tanh"]


Binarisation = Literal["dynamic", "fixed", "threshold", "none"]


TrackerName = Literal["none", "tensorboard", "mlflow"]


CodeMethod = Literal["mode", "mean", "sample", "best", "search"]
"""How to choose one code for a sample: :func:`sdlgm.inference.choose_codes`."""


PriorName = Literal["learned", "learned_gates", "fixed", "mixture", "autoregressive", "masked"]


ObjectiveName = Literal["elbo", "paper", "rate_distortion"]


Scaling = Literal["columns", "common"]


Accelerator = Literal["auto", "cpu", "gpu", "mps"]


NetworkAccelerator = Literal["auto", "cpu", "gpu"]
"""Devices of networks that read double precision, which Apple's GPUs lack."""


Metric = Literal["l2", "cosine", "inner_product"]
"""What compares a query with a decoded row: :func:`sdlgm.inference.scores`."""


WeightMetric = Literal["plain", "l2", "cosine", "inner_product", "posterior"]
"""What weights for an inverted index rank by: :func:`sdlgm.inference.query_weights`."""


SearchEngine = Literal["qdrant", "pinecone", "pgvector", "milvus", "seismic", "elasticsearch"]
"""Search engines with sparse vectors; OpenSearch takes what Elasticsearch takes."""


VectorFormat = Literal[
    "qdrant", "pinecone", "pgvector", "milvus", "seismic", "elasticsearch", "npz", "faiss"
]
"""What codes can be exported for: :func:`sdlgm.export.export_codes`."""
