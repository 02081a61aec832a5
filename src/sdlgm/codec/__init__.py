"""Codes to files and back."""

from sdlgm.codec.parquet import CodeFile, read_codes, write_codes
from sdlgm.codec.refining import refine_codes, refit_prior
from sdlgm.codec.transcode import (
    BATCH,
    Choice,
    decode_codes,
    decode_file,
    describe,
    encode_file,
    encode_rows,
)

__all__ = [
    "BATCH",
    "Choice",
    "CodeFile",
    "decode_codes",
    "decode_file",
    "describe",
    "encode_file",
    "encode_rows",
    "read_codes",
    "refine_codes",
    "refit_prior",
    "write_codes",
]
