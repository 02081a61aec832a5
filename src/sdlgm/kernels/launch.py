"""When the kernels can be used, and how they are launched."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

__all__ = ["blank", "launch", "parts", "power", "tile", "usable"]

MAX_WIDTH = 2048
"""Largest number of columns of a row that the kernels take: they fit a program's registers."""

TILE = 512
"""Numbers that a program works on at a time, in short rows."""


def usable(values: Tensor) -> bool:
    """Return whether the kernels can work on rows of a tensor."""
    return (
        values.is_cuda
        and values.dtype == torch.float32
        and 0 < values.shape[-1] <= MAX_WIDTH
        and _installed()
    )


@functools.cache
def _installed() -> bool:
    """Whether Triton is there: torch brings it for CUDA on Linux."""
    return importlib.util.find_spec("triton") is not None


def launch(program: Any, number: int, *arguments: Any, **constants: Any) -> None:
    """Launch ``number`` programs on tensors, unless there is nothing to do.

    Inputs are copied if they are not contiguous; what a program fills must be (:func:`blank`).
    ``ROWS`` and ``BLOCK`` must be among the constants.
    """
    if not number:
        return
    ready = [each.contiguous() if isinstance(each, Tensor) else each for each in arguments]
    numbers = constants["ROWS"] * constants["BLOCK"]
    warps = max(1, min(8, numbers // 256))
    with torch.cuda.device_of(arguments[0]):
        program[(number,)](*ready, **constants, num_warps=warps)


def blank(like: Tensor) -> Tensor:
    """Return a new contiguous tensor for a kernel to fill, whatever the layout of ``like``."""
    return torch.empty_like(like, memory_format=torch.contiguous_format)


def tile(width: int) -> tuple[int, int]:
    """Return rows and columns of a tile.

    The columns are a power of two of at least ``width``.

    Examples
    --------
    >>> tile(5), tile(200)
    ((64, 8), (2, 256))
    """
    block = power(width)
    return max(1, TILE // block), block


def power(number: int) -> int:
    """Return the smallest power of two of at least ``number``."""
    return 1 << (number - 1).bit_length()


def parts(number: int, size: int) -> int:
    """Return how many parts of ``size`` hold ``number`` things."""
    return -(-number // size)
