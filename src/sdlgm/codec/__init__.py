"""Codes to files and back, and data to lossless files."""

from sdlgm.codec.about import CodeFile
from sdlgm.codec.container import CodeContainer, Damage, write_container
from sdlgm.codec.files import CodeFormat, code_format, read_codes, write_codes
from sdlgm.codec.linear_codes import refit_decoder
from sdlgm.codec.lossless import Compressed, compress_file, decompress_file, drawn_rows
from sdlgm.codec.refining import refine_codes, refit_prior
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
    "CodeContainer",
    "CodeFile",
    "CodeFormat",
    "Compressed",
    "Damage",
    "code_format",
    "compress_file",
    "decode_codes",
    "decode_file",
    "decompress_file",
    "describe",
    "drawn_rows",
    "encode_file",
    "encode_rows",
    "read_codes",
    "refine_codes",
    "refit_decoder",
    "refit_prior",
    "write_codes",
    "write_container",
]
