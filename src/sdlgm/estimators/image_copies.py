"""Copies of images over which a prediction is averaged: their counts are the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.nn.convolutional import split_columns
from sdlgm.random import generator

__all__ = ["views"]


def views(
    images: Tensor, columns: int, *, orders: int = 1, shift: int = 0, seed: int = 0
) -> Iterator[Tensor]:
    """Yield ``orders * (2 shift + 1)^2`` copies of images ``(n, h, w)``.

    Parameters
    ----------
    images
        Images of ``columns`` equal parts side by side.
    columns
        Number of parts; each is shifted within itself, all by the same step.
    orders
        Number of random orders of the parts, the same for all images; 1 leaves them in place.
    shift
        Largest shift in whole pixels: all steps down and right from ``-shift`` to ``shift`` are
        taken; what is shifted in is 0, what is shifted out is lost.
    seed
        Source of the orders.
    """
    parts = split_columns(images, columns)
    height, width = parts.shape[2:]
    padded = F.pad(parts, (shift,) * 4)
    steps = range(2 * shift + 1)
    for number in range(orders):
        source = generator(seed, "orders of the columns", number)
        order = torch.randperm(columns, generator=source) if orders > 1 else torch.arange(columns)
        ordered = padded[:, order]
        for down, right in itertools.product(steps, steps):
            moved = ordered[:, :, down : down + height, right : right + width]
            yield moved.transpose(1, 2).reshape(images.shape)
