"""Process large tensors in chunks that fit the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

__all__ = ["CHUNK_SIZE", "chunks", "in_chunks"]

CHUNK_SIZE = 160_000
"""Numbers in a chunk: a few tensors of this size fit the cache of one core."""


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Split rows of ``width`` numbers into slices of about :data:`CHUNK_SIZE` numbers each.

    Examples
    --------
    >>> list(chunks(5, 80_000))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    step = max(1, CHUNK_SIZE // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))


def in_chunks(function: Callable[..., object], *tensors: Tensor) -> None:
    """Call ``function`` on tensors ``(*batch, any)``, chunk by chunk if the first one is large.

    All tensors share one batch shape. ``function`` must treat each row independently and write its
    results into some of the tensors; those must be contiguous.
    """
    if tensors[0].numel() <= CHUNK_SIZE:
        function(*tensors)
        return
    flat = [t.reshape(-1, *t.shape[tensors[0].dim() - 1 :]) for t in tensors]
    for rows in chunks(*flat[0].shape):
        function(*(t[rows] for t in flat))
