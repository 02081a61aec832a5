"""Standard Gumbel noise, quickly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["MinusGumbel", "gumbel"]


def gumbel(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    r"""Standard Gumbel noise :math:`-\log(-\log(1 - u))`, always finite."""
    return MinusGumbel(like, generator).draw(shape).neg_()


class MinusGumbel:
    r"""Minus standard Gumbel noise, :math:`\log(-\log(1 - u))`, drawn into one buffer.

    Two uniforms of 31 bits are cut from each random integer of 64 (one of 63 bits in float64):
    several times faster than torch's exponential noise, and finer near 0, where the largest
    values come from. A half that is left over is handed out first the next time, so that what is
    drawn does not depend on how much of it is asked for at a time.

    Parameters
    ----------
    like
        Its type and device are those of the noise.
    generator
        Source of the noise; ``None`` is torch's global one.
    """

    def __init__(self, like: Tensor, generator: torch.Generator | None) -> None:
        self._generator, self._dtype = generator, like.dtype
        double = like.dtype == torch.float64
        self._single = not double
        wide = torch.float64 if double else torch.float32
        about: Any = {"dtype": wide, "device": like.device}
        self._noise = torch.empty(0, **about)
        self._integers = torch.empty(0, dtype=torch.int64, device=like.device)
        self._spare = self._integers.view(torch.int32)
        # Minus u, within what the type can tell from 0 and from -1.
        bits = 63 if double else 31
        self._scale = -(1 - torch.finfo(wide).eps / 2) * 2.0**-bits
        # Made on the device: nothing is copied to it.
        self._start = torch.full((), -(2.0 ** -(bits + 1)), **about)

    def draw(self, shape: Sequence[int]) -> Tensor:
        """Draw noise of a shape. The next draw overwrites it."""
        count = math.prod(shape)
        if len(self._noise) < count:
            self._noise = self._noise.new_empty(count)
            self._integers = self._integers.new_empty(count // 2 + 1 if self._single else count)
        noise = self._noise[:count]
        self._fill(noise)
        # Every pass is over what the last one left in the processor's cache.
        torch.add(self._start, noise, alpha=self._scale, out=noise)
        return noise.log1p_().neg_().log_().view(*shape).to(self._dtype)

    def _fill(self, noise: Tensor) -> None:
        """Fill noise with integers from 0 to 2^31 - 1 (2^63 - 1 in float64)."""
        if not self._single:
            noise.copy_(self._integers[: len(noise)].random_(generator=self._generator))
            return
        left = self._spare[: len(noise)]
        noise[: len(left)] = left
        rest = noise[len(left) :]
        integers = self._integers[: (len(rest) + 1) // 2].random_(generator=self._generator)
        halves = integers.bitwise_and_(0x7FFF_FFFF_7FFF_FFFF).view(torch.int32)
        rest.copy_(halves[: len(rest)])
        self._spare = torch.cat([self._spare[len(left) :], halves[len(rest) :]])
