"""Files: codes as Parquet or entropy-coded, and data compressed without loss."""

from sdlgm.codec.chains import coding_prior
from sdlgm.codec.code_files import CodeFormat, code_format, read_codes, write_codes
from sdlgm.codec.description import CodeFile
from sdlgm.codec.encoding import (
    Decoded,
    decode_file,
    decode_table,
    describe,
    encode_file,
    passed_through,
)
from sdlgm.codec.lossless import (
    Compressed,
    Decompressed,
    compress_file,
    decompress_file,
    decompress_table,
    drawn_rows,
)
from sdlgm.codec.sdz import CodeContainer, Damage, write_container

__all__ = [
    "CodeContainer",
    "CodeFile",
    "CodeFormat",
    "Compressed",
    "Damage",
    "Decoded",
    "Decompressed",
    "code_format",
    "coding_prior",
    "compress_file",
    "decode_file",
    "decode_table",
    "decompress_file",
    "decompress_table",
    "describe",
    "drawn_rows",
    "encode_file",
    "passed_through",
    "read_codes",
    "write_codes",
    "write_container",
]
