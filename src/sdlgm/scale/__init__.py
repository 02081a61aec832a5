"""Encode Parquet data sets larger than memory, on one machine or many; compress folders.

:class:`ArrowEncoder` maps a batch of Arrow rows to a batch of codes. The engines that run it over
files (this process, Ray, Spark) know nothing about models.
"""

from sdlgm.scale.arrow_encoder import ArrowEncoder
from sdlgm.scale.dataset import Engine, Report, encode_dataset, is_dataset
from sdlgm.scale.lossless_folders import compress_dataset

__all__ = ["ArrowEncoder", "Engine", "Report", "compress_dataset", "encode_dataset", "is_dataset"]
