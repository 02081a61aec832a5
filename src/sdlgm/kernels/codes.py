"""Kernels for codes: draws, the KL and its gradient, ReinMax, and relaxed slots.

Each of these takes 10 to 60 operations of torch, which on a GPU last longer than the networks of a
small model. Here each is one kernel that reads the logits and keeps the rest in registers.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sdlgm.kernels.launch import blank, launch, parts, power, tile

__all__ = [
    "draw_counts",
    "kl_gradients",
    "kl_sums",
    "reinmax_gradients",
    "relaxed_codes",
    "relaxed_gradients",
]

PROGRAMS = 1024
"""Programs that draw relaxed slots, if there are fewer codes. They share the slots of a code."""


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
    rows, block = tile(width)
    _run(
        "draw", parts(number, rows) * draws, gate_logits, feature_logits, uniform, counts,
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
    rows, block = tile(width)
    gates, features = (q[0].new_empty(number // groups) for _ in range(2))
    _run(
        "kl", number // groups, *q, *p, gates, features, len(p[0]), TOTAL=total_count,
        GROUPS=groups, EXACT=exact, WIDTH=width, ROWS=min(rows, power(groups)), BLOCK=block,
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
    """Return the gradients of :func:`kl_sums` with respect to the logits of ``q`` and ``p``."""
    (number, width), different = q[1].shape, len(p[0])
    rows, block = tile(width)
    gates, features = blank(q[0]), blank(q[1])
    # The gradients of the prior for each repetition of it: of all gates, then of all features.
    prior = gates.new_empty(number // different, different * (width + 1))
    _run(
        "kl_backward", parts(number, rows), *q, *p, *grads, gates, features, prior, number,
        different,
        TOTAL=total_count, GROUPS=groups, EXACT=exact, WIDTH=width, ROWS=rows, BLOCK=block,
    )  # fmt: skip
    summed = prior.sum(0) if len(prior) != 1 else prior[0]
    return gates, features, summed[:different], summed[different:].view(different, width)


def reinmax_gradients(
    gate_logits: Tensor, feature_logits: Tensor, counts: Tensor, grad: Tensor, total_count: int
) -> tuple[Tensor, Tensor]:
    """Return the ReinMax gradients of both logits, of shapes ``(*batch,)`` and ``(*batch, K)``."""
    number, width = gate_logits.numel(), feature_logits.shape[-1]
    rows, block = tile(width)
    gates, features = blank(gate_logits), blank(feature_logits)
    _run(
        "reinmax", parts(number, rows), gate_logits, feature_logits, counts, grad, gates,
        features, number, TOTAL=total_count, WIDTH=width, ROWS=rows, BLOCK=block,
    )  # fmt: skip
    return gates, features


def relaxed_codes(
    gate_logits: Tensor,
    feature_logits: Tensor,
    gate_temperature: Tensor,
    feature_temperature: Tensor,
    seed: Tensor,
    total_count: int,
) -> Tensor:
    """Draw relaxed codes (eqs. 8, 10, 12 of the paper), shape ``(n, K)``.

    The logits of features have the shape ``(n, K)``, the others ``(n,)``. ``seed`` is an integer
    on the device, from which the same codes can be drawn again.
    """
    number, width = feature_logits.shape
    rows, block, shares = _shares(number, width, total_count)
    codes = feature_logits.new_empty(shares, number, width)
    _run(
        "mix", number * shares, gate_logits, feature_logits, gate_temperature, feature_temperature,
        seed, codes, number,
        SLOTS=total_count, SHARES=shares, WIDTH=width, ROWS=rows, BLOCK=block,
    )  # fmt: skip
    return codes.sum(0) if shares > 1 else codes[0]


def relaxed_gradients(
    gate_logits: Tensor,
    feature_logits: Tensor,
    gate_temperature: Tensor,
    feature_temperature: Tensor,
    seed: Tensor,
    total_count: int,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of :func:`relaxed_codes` with respect to its first four arguments."""
    number, width = feature_logits.shape
    rows, block, shares = _shares(number, width, total_count)
    found = feature_logits.new_empty(shares, number, width + 3)
    _run(
        "mix_backward", number * shares, gate_logits, feature_logits, gate_temperature,
        feature_temperature, seed, grad, found, number,
        SLOTS=total_count, SHARES=shares, WIDTH=width, ROWS=rows, BLOCK=block,
    )  # fmt: skip
    whole = found.sum(0) if shares > 1 else found[0]
    return whole[:, width], whole[:, :width], whole[:, width + 1], whole[:, width + 2]


def _shares(number: int, width: int, total_count: int) -> tuple[int, int, int]:
    """Return rows and columns of a tile of slots, and the programs that share a code."""
    rows, block = tile(width)
    rows = min(rows, power(total_count))
    return rows, block, max(1, min(parts(total_count, rows), PROGRAMS // max(1, number)))


def _run(name: str, number: int, *arguments: Any, **constants: Any) -> None:
    """Launch a program, whose module imports Triton."""
    from sdlgm.kernels import code_programs

    launch(getattr(code_programs, name), number, *arguments, **constants)
