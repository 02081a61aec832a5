"""Encode codes as symbols, at the cost of the counts and not of the order of the slots."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sdlgm.codec.ans import Stack

__all__ = ["CodeCoder", "slot_counts"]

WEIGHTS = 1 << 20
"""Weights that are computed at a time."""

Counts = NDArray[np.int32]
Weights = NDArray[np.int64]


class CodeCoder:
    r"""Encodes and decodes codes under a grouped gated multinomial with integer weights.

    With one slot per group, a code is one of ``K/G + 1`` outcomes in each group. With several, a
    group's counts are split recursively: the slots into open and closed ones, the open ones into
    two halves of the features, each half into its halves, and so on. A split of ``n`` slots has


    .. math:: n_\text{left} \mid n \sim \mathrm{Binomial}\Big(n, \frac{a}{a + b}\Big)

    where ``a`` and ``b`` are the weights of the two sides. The product over all splits is the
    multinomial, so the order of the slots costs nothing. Parts without slots are skipped, so a code
    takes about ``L log2(K)`` symbols instead of ``K``.

    The Binomials use only products and quotients of the integers, in a fixed order. IEEE 754 fixes
    their results on every machine, unlike those of logarithms or networks.

    Parameters
    ----------
    weights
        Non-negative integers, shape ``(G, K/G + 1)`` for all codes or ``(n, G, K/G + 1)`` for each
        code. "closed" is the last outcome. Outcomes of weight 0 must not occur.
    slots
        Number ``L0 / G`` of slots of a group.
    """

    def __init__(self, weights: Weights, slots: int) -> None:
        self.weights, self.slots = weights, slots
        self.groups, self.outcomes = weights.shape[-2:]
        self.features = self.groups * (self.outcomes - 1)

    def push(self, stack: Stack, codes: Counts) -> None:
        """Encode codes ``(n, K)``."""
        counts = codes.reshape(len(codes), self.groups, self.outcomes - 1)
        if self.slots == 1:
            self._push_choices(stack, counts)
            return
        totals, splits = list(_halves(counts)), list(self._splits())
        whole = np.full(totals[-1].shape, self.slots, np.int32)
        for parts, (left, right) in zip(totals[:-1], splits[:0:-1], strict=True):
            _push_split(stack, _pairs(parts), parts[..., ::2], left, right)
        _push_split(stack, whole, totals[-1], *splits[0])

    def pop(self, stack: Stack, number: int) -> Counts:
        """Decode the ``number`` codes that were pushed last: ``(number, K)``."""
        if self.slots == 1:
            return self._pop_choices(stack, number)
        splits = self._splits()
        whole = np.full((number, self.groups, 1), self.slots, np.int32)
        parts = _pop_split(stack, whole, *next(splits))
        for left, right in splits:
            first = _pop_split(stack, parts, left, right)
            parts = np.stack([first, parts - first], -1)
            parts = parts.reshape(number, self.groups, 2 * first.shape[-1])
        return parts[..., : self.outcomes - 1].reshape(number, self.features)

    def _push_choices(self, stack: Stack, counts: Counts) -> None:
        chosen = np.where(counts.any(-1), counts.argmax(-1), self.outcomes - 1)
        if self.weights.ndim == 3:
            stack.push(chosen.ravel(), self.weights.reshape(-1, self.outcomes))
            return
        for group in range(self.groups)[::-1]:
            stack.push(chosen[:, group], self.weights[group])

    def _pop_choices(self, stack: Stack, number: int) -> Counts:
        if self.weights.ndim == 3:
            flat = self.weights.reshape(-1, self.outcomes)
            chosen = stack.pop(number * self.groups, flat).reshape(number, self.groups)
        else:
            columns = [stack.pop(number, weights) for weights in self.weights]
            chosen = np.stack(columns, 1)
        features = np.arange(self.outcomes - 1, dtype=np.int32)
        return (chosen[..., None] == features).astype(np.int32).reshape(number, self.features)

    def _splits(self) -> Iterator[tuple[Weights, Weights]]:
        """Yield the weights of the two sides of each split, from open/closed to single features."""
        levels = list(_halves(self.weights[..., :-1]))
        yield levels[-1], self.weights[..., -1:]
        for parts in levels[-2::-1]:
            yield parts[..., ::2], parts[..., 1::2]


def slot_counts(codes: Counts, groups: int, slots: int) -> Weights:
    """Count the outcomes of the slots in codes ``(n, K)``: ``(G, K/G + 1)``, "closed" last."""
    features = codes.sum(0, dtype=np.int64).reshape(groups, -1)
    closed = len(codes) * slots - features.sum(-1, keepdims=True)
    return np.concatenate([features, closed], -1)


def _halves(values: NDArray[np.signedinteger]) -> Iterator[NDArray[np.signedinteger]]:
    """Yield the last axis padded with zeros to a power of two, then sums of pairs until one."""
    wanted = 1 << (values.shape[-1] - 1).bit_length()
    fill = [(0, 0)] * (values.ndim - 1) + [(0, wanted - values.shape[-1])]
    values = np.pad(values, fill)
    yield values
    while values.shape[-1] > 1:
        values = _pairs(values)
        yield values


def _pairs(values: NDArray[np.signedinteger]) -> NDArray[np.signedinteger]:
    return values[..., ::2] + values[..., 1::2]


class _Split:
    """The undecided splits of one level, sorted by their number of slots."""

    def __init__(self, whole: Counts, left: Weights, right: Weights) -> None:
        left, right = (np.broadcast_to(side, whole.shape).ravel() for side in (left, right))
        self.decided = np.where(right == 0, whole.ravel(), 0)
        open_ = np.flatnonzero((whole.ravel() > 0) & (left > 0) & (right > 0))
        slots = whole.ravel()[open_]
        self._left, self._right = left, right
        self.parts = [
            (number, part)
            for number in np.unique(slots).tolist()
            for part in _pieces(open_[slots == number], max(1, WEIGHTS // (number + 1)))
        ]

    def weights(self, number: int, at: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weights of these splits of ``number`` slots each."""
        return binomial(number, self._left[at], self._right[at])


def _pieces(places: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def _push_split(stack: Stack, whole: Counts, part: Counts, left: Weights, right: Weights) -> None:
    flat = part.ravel()
    split = _Split(whole, left, right)
    for number, at in reversed(split.parts):
        stack.push(flat[at], split.weights(number, at))


def _pop_split(stack: Stack, whole: Counts, left: Weights, right: Weights) -> Counts:
    split = _Split(whole, left, right)
    flat = split.decided
    for number, at in split.parts:
        flat[at] = stack.pop(len(at), split.weights(number, at))
    return flat.reshape(whole.shape)


def binomial(number: int, left: Weights, right: Weights) -> NDArray[np.float64]:
    """Return Binomial probabilities up to a factor, ``(m, number + 1)``, from positive weights.

    They are ratios to the probability of the mode, so nothing overflows.
    """
    a, b = left.astype(np.float64)[:, None], right.astype(np.float64)[:, None]
    k = np.arange(number, dtype=np.float64)
    ratio = ((number - k) / (k + 1)) * (a / b)  # of k + 1 to k
    below = k < np.minimum(np.floor((number + 1) * (a / (a + b))), number)
    one = np.ones_like(a)
    up = np.cumprod(np.where(below, 1.0, ratio), 1)
    down = np.cumprod(np.where(below, 1.0 / ratio, 1.0)[:, ::-1], 1)[:, ::-1]
    return np.concatenate([one, up], 1) * np.concatenate([down, one], 1)
