"""Process large tensors in chunks: those of a CPU fit its cache, those of a GPU its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from sdlgm.memory import numbers_at_once

__all__ = ["CHUNK_SIZE", "chunks", "in_chunks"]

CHUNK_SIZE = 160_000
"""Numbers in a chunk on a CPU: a few tensors of this size fit the cache of one core."""


def chunks(rows: int, width: int, numbers: int | None = None) -> Iterator[slice]:
    """Split rows of ``width`` numbers into slices of about ``numbers`` numbers each.

    Default: :data:`CHUNK_SIZE`.

    Examples
    --------
    >>> list(chunks(5, 80_000))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    step = max(1, (numbers or CHUNK_SIZE) // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))


def in_chunks(function: Callable[..., object], *tensors: Tensor) -> None:
    """Call ``function`` on tensors ``(*batch, any)``, chunk by chunk if the first one is large.

    All tensors share one batch shape. ``function`` must treat each row independently and write its
    results into some of the tensors; those must be contiguous.
    """
    most = numbers_at_once(tensors[0].device, CHUNK_SIZE)
    if tensors[0].numel() <= most:
        function(*tensors)
        return
    flat = [t.reshape(-1, *t.shape[tensors[0].dim() - 1 :]) for t in tensors]
    number, width = flat[0].shape
    for rows in chunks(number, width, most):
        function(*(t[rows] for t in flat))
