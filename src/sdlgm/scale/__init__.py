"""Encoding of Parquet data sets that are larger than memory, on one machine or many.

One pure core, :class:`Encoder`, maps a batch of Arrow rows to a batch of codes; what runs it over
files (here, on Ray, on Spark) knows nothing of models.
"""

from sdlgm.scale.arrow_encoder import Encoder
from sdlgm.scale.dataset import Engine, Report, encode_dataset, is_dataset

__all__ = ["Encoder", "Engine", "Report", "encode_dataset", "is_dataset"]
