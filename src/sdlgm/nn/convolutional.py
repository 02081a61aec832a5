"""Small convolutional encoders of images, and one that is shared over an image's columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sdlgm.nn.mlp import linear

__all__ = ["ColumnEncoder", "convolutions", "split_columns"]


def convolutions(
    shape: tuple[int, int], channels: Sequence[int], hidden: int, generator: torch.Generator
) -> nn.Sequential:
    """Return an encoder of images ``(n, h, w)`` to ``(n, hidden)``.

    A first convolution of 5 x 5 with stride 2, then of 3 x 3 each with a 2 x 2 maximum after it,
    all with batch normalisation and ReLU last; then one dense layer. In evaluation mode the
    normalisation uses the averages of the training, so that a sample's output depends on it alone.
    """
    layers: list[nn.Module] = [nn.Unflatten(1, (1, -1))]
    inputs = 1
    for number, outputs in enumerate(channels):
        first = number == 0
        size, stride = (5, 2) if first else (3, 1)
        layers.append(_conv2d(inputs, outputs, size, stride, generator))
        if not first:  # before what works pixel by pixel: a quarter of the work
            layers.append(nn.MaxPool2d(2, ceil_mode=True))  # so that no image is too small
        layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    layers.append(nn.Flatten())
    trunk = nn.Sequential(*layers)
    trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast
    with torch.no_grad():
        width = trunk.eval()(torch.zeros(1, *shape)).shape[1]
    trunk.train()
    return trunk.append(linear(width, hidden, generator)).append(nn.ReLU())


class ColumnEncoder(nn.Module):
    """One encoder for every column of an image: ``(n, h, columns * w)`` to ``(n, columns, m)``.

    It takes images of any number of columns, also of another number than it was trained with.

    Parameters
    ----------
    encoder
        Maps images ``(n, h, w)`` of one column to ``(n, m)``.
    width
        Width ``w`` of a column in pixels.
    """

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width

    def forward(self, x: Tensor) -> Tensor:
        """Encode each column by itself."""
        columns = x.shape[2] // self.width
        return self.encoder(split_columns(x, columns).flatten(0, 1)).unflatten(0, (-1, columns))


def split_columns(images: Tensor, columns: int) -> Tensor:
    """View images ``(n, h, columns * w)`` as columns ``(n, columns, h, w)``."""
    return images.unflatten(2, (columns, -1)).transpose(1, 2)


def _conv2d(
    inputs: int, outputs: int, size: int, stride: int, generator: torch.Generator
) -> nn.Conv2d:
    """Return a convolution with torch's default initial law, drawn from ``generator``."""
    layer = nn.utils.skip_init(
        nn.Conv2d, inputs, outputs, size, stride=stride, padding=size // 2, bias=False
    )
    bound = 1 / math.sqrt(inputs * size * size)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    return layer
