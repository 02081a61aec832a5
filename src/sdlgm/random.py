"""Randomness that we own: generators that are functions of a seed, a purpose and a step."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["ShareGenerator", "draw_rows", "generator"]


def generator(
    seed: int, purpose: str, step: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a fresh generator for one purpose at one step.

    Streams of different purposes or steps are independent, and nothing has to be carried along:
    a training that is resumed at step ``t`` draws what an uninterrupted one draws at ``t``.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), step))
    return torch.Generator(device).manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


class ShareGenerator(torch.Generator):
    """A generator of one process of several that share every batch.

    Where draws go through :func:`draw_rows`, process ``rank`` of ``size`` gets its rows of what
    one process would draw for the whole batch.
    """

    rank: int
    size: int

    @classmethod
    def of(cls, whole: torch.Generator, rank: int, size: int) -> ShareGenerator:
        """Take a share of a generator, in its present state."""
        share = cls(whole.device)
        share.set_state(whole.get_state())
        share.rank, share.size = rank, size
        return share


def draw_rows(
    draw: Callable[[int], Tensor], rows: int, generator: torch.Generator | None
) -> Tensor:
    """Call ``draw`` for ``rows`` rows (its first dimension); for a share, for all of the batch."""
    if not isinstance(generator, ShareGenerator):
        return draw(rows)
    return draw(rows * generator.size)[generator.rank * rows : (generator.rank + 1) * rows]
