"""General-purpose compressors on the bits of images; every result is decompressed and compared."""

from __future__ import annotations

import bz2
import io
import lzma
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

__all__ = ["NAMES", "Size", "sizes"]


class Size(NamedTuple):
    """The compressed size of images."""

    name: str
    single: bool
    """Whether each image was compressed separately, or all of them together."""
    bits: float
    """Bits per image."""
    seconds: float
    """Seconds to compress and decompress all images."""


def _xz(raw: bytes) -> bytes:
    return lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)


def _codec(name: str, level: int) -> tuple[Callable[[bytes], bytes], Callable[..., bytes]]:
    codec = pa.Codec(name, compression_level=level)
    return codec.compress, codec.decompress


_COMPRESSORS = {
    "zlib 9": (lambda raw: zlib.compress(raw, 9), lambda done, size: zlib.decompress(done)),
    "bz2 9": (lambda raw: bz2.compress(raw, 9), lambda done, size: bz2.decompress(done)),
    "zstd 19": _codec("zstd", 19),
    "zstd 22": _codec("zstd", 22),
    "brotli 11": _codec("brotli", 11),
    "xz 9e": (_xz, lambda done, size: lzma.decompress(done)),
}
NAMES = (*_COMPRESSORS, "PNG, 1 bit, optimised")


def sizes(bits: np.ndarray, names: Sequence[str], width: int = 28) -> Iterator[Size]:
    """Yield the sizes of binary images ``(n, D)``, compressed separately and together.

    Eight pixels are packed into a byte. For PNG, all images together are one tall picture.
    """
    packed = np.packbits(bits, axis=1)
    for name in names:
        for single in (True, False):
            if single and name == "xz 9e":
                continue  # its dictionary takes a tenth of a second to set up
            started = time.perf_counter()
            if name.startswith("PNG"):
                total = sum(_png(part, width) for part in (bits if single else [bits]))
            else:
                pack, unpack = _COMPRESSORS[name]
                total = 0
                for raw in map(bytes, packed) if single else [packed.tobytes()]:
                    done = pack(raw)
                    total += len(done)
                    if bytes(unpack(done, len(raw))) != raw:
                        raise SystemExit(f"{name} did not restore its input.")
            yield Size(name, single, 8 * total / len(bits), time.perf_counter() - started)


def _png(bits: np.ndarray, width: int) -> int:
    file, pixels = io.BytesIO(), bits.reshape(-1, width).astype(bool)
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    file.seek(0)
    if not np.array_equal(np.asarray(Image.open(file)), pixels):
        raise SystemExit("PNG did not restore its input.")
    return file.getbuffer().nbytes
