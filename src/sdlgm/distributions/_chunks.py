"""Large arrays in parts that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

__all__ = ["AT_ONCE", "in_parts", "parts"]

AT_ONCE = 160_000
"""Numbers that are worked on at a time: a few arrays of them fit a core's cache."""


def parts(rows: int, width: int) -> Iterator[slice]:
    """Cut rows of ``width`` numbers into parts of about :data:`AT_ONCE` numbers."""
    step = max(1, AT_ONCE // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))


def in_parts(work: Callable[..., object], *tables: Tensor) -> None:
    """Call ``work`` on tables ``(*batch, any)`` of one batch shape; if they are large, in parts.

    ``work`` must treat each row of the batch for itself. Tables that it writes into must be
    contiguous. The size is that of the first.
    """
    if tables[0].numel() <= AT_ONCE:
        work(*tables)
        return
    flat = [t.reshape(-1, *t.shape[tables[0].dim() - 1 :]) for t in tables]
    for rows in parts(*flat[0].shape):
        work(*(t[rows] for t in flat))
