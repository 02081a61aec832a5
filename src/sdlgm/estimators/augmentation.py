"""Changes of images that keep their counts: random in training, averaged in prediction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.nn.convolutional import split_columns
from sdlgm.random import generator

__all__ = ["Augmentation", "augmented_copies"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images that do not change the counts."""

    columns: int = 1
    """Number of parts of an image that change independently."""
    shift: float = 0.0
    """Largest shift in pixels, in both directions."""
    rotation: float = 0.0
    """Largest rotation about the centre of a part, in degrees."""
    shuffle: bool = False
    """Put the parts into a random order."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change images ``(n, h, w)``; pixels from outside are 0.

        The generator is on the CPU, so that the changes are the same on every device.
        """
        parts = split_columns(images, self.columns)
        number, columns, height, width = parts.shape
        if self.shuffle:
            keys = torch.rand(number, columns, generator=generator)
            rows = torch.arange(number, device=parts.device)[:, None]
            parts = parts[rows, keys.argsort(1).to(parts.device)]
        if self.shift or self.rotation:
            noise = 2 * torch.rand(3, number * columns, generator=generator) - 1
            angle = noise[0] * math.radians(self.rotation)
            cos, sin = angle.cos(), angle.sin()
            # Grid coordinates run from -1 to 1 along both sides, so a rotation needs their ratio.
            down, right = (2 * self.shift * noise[1:].T / torch.tensor([height, width])).T
            across = torch.stack([cos, -sin * height / width, right], -1)
            along = torch.stack([sin * width / height, cos, down], -1)
            flat = parts.reshape(-1, 1, height, width)
            grid = F.affine_grid(torch.stack([across, along], 1), list(flat.shape), False)
            parts = F.grid_sample(flat, grid.to(flat), align_corners=False).view(parts.shape)
        return parts.transpose(1, 2).reshape(images.shape)


def augmented_copies(
    images: Tensor, columns: int, *, orders: int = 1, shift: int = 0, seed: int = 0
) -> Iterator[Tensor]:
    """Yield ``orders * (2 shift + 1)^2`` copies of images ``(n, h, w)``.

    Parameters
    ----------
    images
        Images of ``columns`` equal parts side by side.
    columns
        Number of parts; each is shifted within its own borders, all by the same step.
    orders
        Number of random orders of the parts, the same for all images; 1 keeps their order.
    shift
        Largest shift in whole pixels: all steps down and right from ``-shift`` to ``shift``. Pixels
        from outside are 0.
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
