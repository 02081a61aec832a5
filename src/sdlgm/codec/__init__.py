"""Codes to files and back."""

from sdlgm.codec.about import CodeFile
from sdlgm.codec.container import CodeContainer, Damage, write_container
from sdlgm.codec.files import CodeFormat, code_format, read_codes, write_codes
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
    "CodeContainer",
    "CodeFile",
    "CodeFormat",
    "Damage",
    "code_format",
    "decode_codes",
    "decode_file",
    "describe",
    "encode_file",
    "encode_rows",
    "read_codes",
    "refine_codes",
    "refit_prior",
    "write_codes",
    "write_container",
]
