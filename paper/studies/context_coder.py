"""A simple rival for lossless files: a pixel is coded by what followed its neighbours so far.

The context of a pixel are the nearest pixels above it and to its left, and for one of the two
coders its position. Each context has a count of zeros and one of ones, and a pixel takes the
probabilities ``(count + 1/2) / (sum + 1)`` (Krichevsky and Trofimov). Both ends count the same
pixels: those of the file so far and, for a coder that is *primed*, those of the training images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from sdlgm.codec.ans import Stack

__all__ = ["ContextCoder"]

NEAREST = (
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-1, -2), (-1, 2), (-2, -1), (-2, 1),
    (-2, -2), (-2, 2), (0, -3), (-3, 0), (-1, -3), (-1, 3), (-3, -1), (-3, 1), (-2, -3), (-2, 3),
)  # fmt: skip
"""Earlier pixels as (row, column) from the pixel, the nearest first. The first ten are the template
of JBIG1."""
REACH = 3
IMAGES_AT_ONCE = 128
"""Largest number of images whose pixels at one position are coded with the same counts."""
COUNTED_AT_ONCE = 5_000

Bits = NDArray[np.uint8]
Counts = NDArray[np.int64]


class ContextCoder:
    """Codes binary images of one shape by adaptive counts in contexts.

    Parameters
    ----------
    shape
        Height and width.
    pixels
        Number of neighbours in a context, at most 20.
    position
        Whether each position of the image has contexts of its own.

    Examples
    --------
    >>> images = np.zeros((50, 8, 8), np.uint8)
    >>> coder = ContextCoder((8, 8), 10, position=False)
    >>> content = coder.compress(images)
    >>> len(content) < 50 * 8, bool((coder.decompress(content, 50) == images).all())
    (True, True)
    """

    def __init__(self, shape: tuple[int, int], pixels: int, *, position: bool) -> None:
        self.shape, self.pixels, self.position = shape, pixels, position
        height, width = shape
        self._frame = (height + REACH, width + 2 * REACH)
        rows, columns = np.divmod(np.arange(height * width), width)
        self._places = (rows + REACH) * self._frame[1] + columns + REACH
        steps = np.array([row * self._frame[1] + column for row, column in NEAREST[:pixels]])
        self._neighbours = self._places[:, None] + steps
        self._powers = 1 << np.arange(pixels)

    def count(self, images: Bits) -> Counts:
        """Count zeros and ones in each context: shape ``(contexts, 2)``."""
        counts = self._nothing()
        for start in range(0, len(images), COUNTED_AT_ONCE):
            part = images[start : start + COUNTED_AT_ONCE]
            frames = self._framed(part)
            contexts = [self._contexts(frames, place) for place in range(len(self._places))]
            outcomes = 2 * np.stack(contexts, 1) + part.reshape(len(part), len(self._places))
            counts += np.bincount(outcomes.ravel(), minlength=counts.size).reshape(counts.shape)
        return counts

    def ideal_bits(self, images: Bits, primed: Counts | None = None) -> float:
        """Return the bits of all images if the counts were updated after each pixel.

        They do not depend on the order of the pixels.
        """
        found = self.count(images)
        used = found.any(-1)
        before = np.full((int(used.sum()), 2), 0.5) + (0 if primed is None else primed[used])
        after = before + found[used]
        return float((_log2_beta(before) - _log2_beta(after)).sum())

    def compress(self, images: Bits, primed: Counts | None = None) -> bytes:
        """Return the coded images; ``primed`` are the counts to start with."""
        bits = images.reshape(len(images), len(self._places))
        passed: list[tuple[NDArray[np.uint8], NDArray[np.int64]]] = []

        def choose(rows: slice, place: int, weights: NDArray[np.int64]) -> Bits:
            passed.append((bits[rows, place], weights))
            return bits[rows, place]

        self._visit(len(images), primed, choose)
        stack = Stack()
        for symbols, weights in reversed(passed):
            stack.push(symbols, weights)
        return stack.content()

    def decompress(self, content: bytes, number: int, primed: Counts | None = None) -> Bits:
        """Return the ``number`` images in ``content``, shape ``(number, height, width)``."""
        stack = Stack(content)
        images = np.zeros((number, self.shape[0] * self.shape[1]), np.uint8)

        def choose(rows: slice, place: int, weights: NDArray[np.int64]) -> Bits:
            images[rows, place] = stack.pop(len(weights), weights)
            return images[rows, place]

        self._visit(number, primed, choose)
        return images.reshape(number, *self.shape)

    def _visit(
        self,
        number: int,
        primed: Counts | None,
        choose: Callable[[slice, int, NDArray[np.int64]], Bits],
    ) -> None:
        """Visit the pixels in the order of coding; ``choose`` gets their weights."""
        counts = self._nothing() if primed is None else primed.copy()
        for rows in _blocks(number):
            frames = np.zeros((rows.stop - rows.start, self._frame[0] * self._frame[1]), np.uint8)
            for place, at in enumerate(self._places):
                contexts = self._contexts(frames, place)
                chosen = choose(rows, place, 2 * counts[contexts] + 1)
                frames[:, at] = chosen
                np.add.at(counts, (contexts, chosen), 1)

    def _contexts(self, frames: Bits, place: int) -> NDArray[np.int64]:
        found: NDArray[np.int64] = frames[:, self._neighbours[place]] @ self._powers
        return found + (place << self.pixels if self.position else 0)

    def _framed(self, images: Bits) -> Bits:
        """Surround images by zeros: shape ``(n, pixels of the frame)``."""
        framed = np.pad(images, ((0, 0), (REACH, 0), (REACH, REACH)))
        return framed.reshape(len(images), -1)

    def _nothing(self) -> Counts:
        contexts = (self.shape[0] * self.shape[1] if self.position else 1) << self.pixels
        return np.zeros((contexts, 2), np.int64)


def _blocks(number: int) -> Iterator[slice]:
    """Yield blocks of 1, 1, 2, 4, ... images, so that the first counts come early."""
    start = 0
    while start < number:
        stop = min(number, start + min(max(1, start), IMAGES_AT_ONCE))
        yield slice(start, stop)
        start = stop


def _log2_beta(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the Beta function of the two counts of each context."""
    found: NDArray[np.float64] = gammaln(counts).sum(-1) - gammaln(counts.sum(-1))
    return found / np.log(2)
