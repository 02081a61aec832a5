"""Triton kernels for codes on a GPU: draws, the KL and its gradient, ReinMax, relaxed slots.

Each of these takes a few arithmetic operations on each number, but 10 to 60 operations of torch,
which on a GPU last longer than the networks of a small model. Here each is one kernel that reads
the logits and keeps everything else in registers. torch's operations remain the reference, and
compute on the CPU, in double precision and with very many features.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "MAX_WIDTH",
    "draw_counts",
    "kl_gradients",
    "kl_sums",
    "mix_slots",
    "mixed_gradients",
    "reinmax_gradients",
    "usable",
]

MAX_WIDTH = 2048
"""Largest number of features of a group that the kernels take: they fit a program's registers."""

TILE = 512
"""Numbers that a program works on at a time, in groups of fewer features."""


def usable(logits: Tensor) -> bool:
    """Return whether the kernels can work on a tensor of logits."""
    return (
        logits.is_cuda
        and logits.dtype == torch.float32
        and 0 < logits.shape[-1] <= MAX_WIDTH
        and _installed()
    )


@functools.cache
def _installed() -> bool:
    """Whether Triton is there: torch brings it for CUDA on Linux."""
    return importlib.util.find_spec("triton") is not None


def draw_counts(
    gate_logits: Tensor, feature_logits: Tensor, uniform: Tensor, total_count: int
) -> Tensor:
    """Turn uniform numbers into counts.

    Parameters
    ----------
    gate_logits, feature_logits
        Shapes ``(n,)`` and ``(n, K)``.
    uniform
        Numbers in [0, 1), float64, shape ``(n, draws * total_count)``; one for each slot.
    total_count
        Number of slots of a draw.

    Returns
    -------
    Tensor
        Shape ``(draws, n, K)``.
    """
    number, width = feature_logits.shape
    draws = uniform.shape[1] // total_count
    counts = feature_logits.new_empty(draws, number, width)
    rows, block = _tile(width)
    _run(
        "draw", (_parts(number, rows) * draws,), gate_logits, feature_logits, uniform, counts,
        number, draws, SLOTS=total_count, WIDTH=width, ROWS=rows, BLOCK=block,
    )  # fmt: skip
    return counts


def kl_sums(
    q: tuple[Tensor, Tensor], p: tuple[Tensor, Tensor], total_count: int, groups: int, exact: bool
) -> tuple[Tensor, Tensor]:
    """Return the two terms of the KL, summed over groups, shape ``(n / groups,)`` each.

    ``q`` and ``p`` are logits of gates and of features, shapes ``(n,)`` and ``(n, K)``; those of
    ``p`` repeat if there are fewer.
    """
    number, width = q[1].shape
    rows, block = _tile(width)
    gates, features = (q[0].new_empty(number // groups) for _ in range(2))
    _run(
        "kl", (number // groups,), *q, *p, gates, features, len(p[0]), TOTAL=total_count,
        GROUPS=groups, EXACT=exact, WIDTH=width, ROWS=min(rows, _power(groups)), BLOCK=block,
    )  # fmt: skip
    return gates, features


def kl_gradients(
    q: tuple[Tensor, Tensor],
    p: tuple[Tensor, Tensor],
    grads: tuple[Tensor, Tensor],
    total_count: int,
    groups: int,
    exact: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of :func:`kl_sums`; those of ``p`` for each of the ``n`` rows."""
    number, width = q[1].shape
    rows, block = _tile(width)
    found = tuple(torch.empty_like(each) for each in (*q, *q))
    _run(
        "kl_backward", (_parts(number, rows),), *q, *p, *grads, *found, number, len(p[0]),
        TOTAL=total_count, GROUPS=groups, EXACT=exact, WIDTH=width, ROWS=rows, BLOCK=block,
    )  # fmt: skip
    return found  # type: ignore[return-value]


def reinmax_gradients(
    gate_logits: Tensor, feature_logits: Tensor, counts: Tensor, grad: Tensor, total_count: int
) -> tuple[Tensor, Tensor]:
    """Return the ReinMax gradients of both logits, of shapes ``(*batch,)`` and ``(*batch, K)``."""
    number, width = gate_logits.numel(), feature_logits.shape[-1]
    rows, block = _tile(width)
    gates, features = torch.empty_like(gate_logits), torch.empty_like(feature_logits)
    _run(
        "reinmax", (_parts(number, rows),), gate_logits, feature_logits, counts, grad, gates,
        features, number, TOTAL=total_count, WIDTH=width, ROWS=rows, BLOCK=block,
    )  # fmt: skip
    return gates, features


def mix_slots(gates: Tensor, logits: Tensor, temperature: Tensor, seed: Tensor) -> Tensor:
    """Draw relaxed slots and sum them, weighted by their gates; return codes ``(n, K)``.

    Shapes are ``(n, L0)``, ``(n, K)`` and ``(n, 1)``; ``seed`` is an integer on the device, from
    which the same slots can be drawn again.
    """
    number, width = logits.shape
    rows, block = _tile(width)
    code = torch.empty_like(logits)
    _run(
        "mix", (number,), gates, logits, temperature, seed, code, SLOTS=gates.shape[1],
        WIDTH=width, ROWS=min(rows, _power(gates.shape[1])), BLOCK=block,
    )  # fmt: skip
    return code


def mixed_gradients(
    gates: Tensor, logits: Tensor, temperature: Tensor, seed: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of :func:`mix_slots` with respect to gates, logits and temperature."""
    number, width = logits.shape
    rows, block = _tile(width)
    found = torch.empty_like(gates), torch.empty_like(logits), torch.empty_like(temperature)
    _run(
        "mix_backward", (number,), gates, logits, temperature, seed, grad, *found,
        SLOTS=gates.shape[1], WIDTH=width, ROWS=min(rows, _power(gates.shape[1])), BLOCK=block,
    )  # fmt: skip
    return found


def _tile(width: int) -> tuple[int, int]:
    """Return the rows of a tile, and its columns, a power of two of at least ``width``."""
    block = _power(width)
    return max(1, TILE // block), block


def _power(number: int) -> int:
    """Return the smallest power of two of at least ``number``."""
    return 1 << (number - 1).bit_length()


def _parts(number: int, size: int) -> int:
    return -(-number // size)


def _run(name: str, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Launch a kernel on contiguous tensors, unless there is nothing to do."""
    from sdlgm.distributions import _triton

    if not all(grid):
        return
    ready = [each.contiguous() if isinstance(each, Tensor) else each for each in arguments]
    numbers = constants["ROWS"] * constants["BLOCK"]
    warps = 1 if numbers <= 256 else 2 if numbers <= 512 else 4
    with torch.cuda.device_of(arguments[0]):
        getattr(_triton, name)[grid](*ready, **constants, num_warps=warps)
