"""Reproducible random numbers: one generator for each seed, purpose and step."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Source = TypeVar("Source", torch.Generator, torch.Generator | None)

__all__ = ["ShareGenerator", "draw_rows", "generator", "on_device", "reseed"]


def generator(
    seed: int, purpose: str, step: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a new generator for one purpose at one step.

    Streams of different purposes or steps are independent, and no state has to be saved: training
    that is resumed at step ``t`` draws the same numbers as training that was not interrupted.
    """
    return reseed(torch.Generator(device), seed, purpose, step)


def reseed(generator: torch.Generator, seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """Bring a generator into the state of a new one for this purpose and step; return it."""
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), step))
    return generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


def on_device(source: Source, device: torch.device) -> Source:
    """Return a source of numbers on a device: itself, or one that is seeded by a draw from it.

    Examples
    --------
    >>> source = torch.Generator().manual_seed(0)
    >>> on_device(source, torch.device("cpu")) is source
    True
    """
    if source is None or source.device.type == device.type:
        return source
    drawn = torch.randint(2**62, (), generator=source, device=source.device)
    return torch.Generator(device).manual_seed(int(drawn))


class ShareGenerator(torch.Generator):
    """Generator of one of several processes that share every batch.

    With :func:`draw_rows`, process ``rank`` of ``size`` gets its part of the rows that one process
    would draw for the whole batch.
    """

    rank: int
    size: int

    @classmethod
    def of(cls, whole: torch.Generator, rank: int, size: int) -> ShareGenerator:
        """Make the share of process ``rank`` from a generator in its current state."""
        share = cls(whole.device)
        share.set_state(whole.get_state())
        share.rank, share.size = rank, size
        return share


def draw_rows(
    draw: Callable[[int], Tensor], rows: int, generator: torch.Generator | None
) -> Tensor:
    """Return ``draw(rows)``, whose first dimension is rows.

    With a :class:`ShareGenerator`, the rows of all processes are drawn and those of this one
    returned.
    """
    if not isinstance(generator, ShareGenerator):
        return draw(rows)
    return draw(rows * generator.size)[generator.rank * rows : (generator.rank + 1) * rows]
