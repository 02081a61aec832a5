"""Large arrays in parts that stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["AT_ONCE", "parts"]

AT_ONCE = 160_000
"""Numbers that are worked on at a time: a few arrays of them fit a core's cache."""


def parts(rows: int, width: int) -> Iterator[slice]:
    """Cut rows of ``width`` numbers into parts of about :data:`AT_ONCE` numbers."""
    step = max(1, AT_ONCE // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))
