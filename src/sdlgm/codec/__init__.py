"""Codes to files and back."""

from sdlgm.codec.parquet import CodeFile, read_codes, write_codes
from sdlgm.codec.transcode import (
    BATCH,
    decode_codes,
    decode_file,
    describe,
    encode_file,
    encode_rows,
)

__all__ = [
    "BATCH",
    "CodeFile",
    "decode_codes",
    "decode_file",
    "describe",
    "encode_file",
    "encode_rows",
    "read_codes",
    "write_codes",
]
