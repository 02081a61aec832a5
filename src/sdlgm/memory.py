"""How many numbers to process at a time: as many as fit a CPU's cache, or a share of a GPU."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["MEMORY_SHARE", "card_bytes", "numbers_at_once"]

MEMORY_SHARE = 64
"""On a GPU, an array of single-precision numbers takes at most 1/64 of the card's memory."""

OTHER_NUMBERS = 2**25
"""Numbers at a time on other accelerators, whose memory torch cannot tell: 128 MiB in float32."""


def numbers_at_once(device: torch.device, on_cpu: int) -> int:
    """Return how many numbers an operation should process at a time.

    On a CPU a loop over small parts keeps each of them in the cache. On a GPU each part costs as
    much as its kernels take to start, so parts are as large as memory allows: an array has at most
    1/64 of the card's memory (:data:`MEMORY_SHARE`), 1.25 GiB of 80 GiB, for an operation needs
    many of them. The share is one of the whole memory, not of what is free, so that parts, and the
    random numbers drawn for them, depend on the card alone.

    Parameters
    ----------
    device
        Where the numbers are.
    on_cpu
        The answer for a CPU.

    Examples
    --------
    >>> import torch
    >>> numbers_at_once(torch.device("cpu"), on_cpu=160_000)
    160000
    """
    if device.type in ("cpu", "meta"):
        return on_cpu
    if device.type != "cuda":
        return max(on_cpu, OTHER_NUMBERS)
    return max(on_cpu, card_bytes(device) // (4 * MEMORY_SHARE))


@functools.cache
def card_bytes(device: torch.device) -> int:
    """Return the size of a GPU's memory in bytes."""
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory)
