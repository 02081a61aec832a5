"""JBIG1 (ITU-T T.82) by the programs of Debian's jbigkit-bin; all results are decoded."""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paper.studies.compressors import Size

__all__ = ["MISSING", "available", "jbig_sizes"]

MISSING = (
    "JBIG1 was not measured: the program pbmtojbg is missing (Debian and Ubuntu: apt install "
    "jbigkit-bin)."
)
NAME = "JBIG1, one layer, one stripe"


def available() -> bool:
    """Whether the programs are installed."""
    return bool(shutil.which("pbmtojbg") and shutil.which("jbgtopbm"))


def jbig_sizes(bits: NDArray[np.uint8], width: int = 28) -> Iterator[Size]:
    """Yield the sizes of binary images ``(n, D)``, each for itself and all as one tall picture.

    One layer and one stripe without prediction of typical lines take the fewest bits here.
    """
    for single in (True, False):
        started = time.perf_counter()
        parts = list(bits) if single else [bits]
        total = sum(_coded(part.reshape(-1, width)) for part in parts)
        yield Size(NAME, single, 8 * total / len(bits), time.perf_counter() - started)


def _coded(pixels: NDArray[np.uint8]) -> int:
    """Return the bytes that an image takes."""
    height, width = pixels.shape
    raw = f"P4\n{width} {height}\n".encode() + np.packbits(pixels, axis=1).tobytes()
    done = _run(["pbmtojbg", "-q", "-p", "0", "-s", str(height)], raw)
    restored = np.asarray(Image.open(io.BytesIO(_run(["jbgtopbm"], done))))
    if not np.array_equal(restored, pixels == 0):  # 1 is black in this format
        raise SystemExit("JBIG1 did not restore its input.")
    return len(done)


def _run(command: list[str], content: bytes) -> bytes:
    done = subprocess.run(command, input=content, capture_output=True, check=True)  # noqa: S603
    return done.stdout
