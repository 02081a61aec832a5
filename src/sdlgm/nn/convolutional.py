"""Small convolutional encoders of images, and an encoder shared by the columns of an image."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sdlgm.errors import ConfigError
from sdlgm.limits import check
from sdlgm.nn.mlp import linear

__all__ = ["ColumnEncoder", "convolutions", "split_columns"]


def convolutions(
    shape: tuple[int, int], channels: Sequence[int], hidden: int, generator: torch.Generator
) -> nn.Sequential:
    """Create an encoder that maps images ``(n, h, w)`` to ``(n, hidden)``.

    The first convolution is 5 x 5 with stride 2; the others are 3 x 3, each followed by 2 x 2 max
    pooling. All end with batch normalisation and ReLU. A dense layer follows. In evaluation mode
    batch normalisation uses running averages, so the output of a sample does not depend on others.

    Parameters
    ----------
    shape
        Height and width of the images in pixels.
    channels
        Output channels of each convolution.
    hidden
        Width of the dense layer.
    generator
        Source of the initial weights.

    Examples
    --------
    >>> encoder = convolutions((8, 8), (4, 8), 16, torch.Generator().manual_seed(0))
    >>> encoder(torch.zeros(3, 8, 8)).shape
    torch.Size([3, 16])
    """
    check("layers", len(channels), "channels", ConfigError)
    layers: list[nn.Module] = [nn.Unflatten(1, (1, -1))]
    inputs = 1
    for number, outputs in enumerate(channels):
        first = number == 0
        size, stride = (5, 2) if first else (3, 1)
        layers.append(_conv2d(inputs, outputs, size, stride, generator))
        if not first:  # pool first: the following layers then process a quarter of the pixels
            layers.append(nn.MaxPool2d(2, ceil_mode=True))  # ceil_mode: no image is too small
        layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    layers.append(nn.Flatten())
    trunk = nn.Sequential(*layers)
    trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast
    width = inputs
    for size in shape:
        for _ in channels:
            size = -(-size // 2)
        width *= size
    return trunk.append(linear(width, hidden, generator)).append(nn.ReLU())


class ColumnEncoder(nn.Module):
    """Apply one encoder to each column of an image: ``(n, h, columns * w)`` to ``(n, columns, m)``.

    The number of columns may differ from that of the training images.

    Parameters
    ----------
    encoder
        Maps images ``(n, h, w)`` of one column to ``(n, m)``.
    width
        Width ``w`` of a column in pixels.

    Examples
    --------
    >>> encoder = ColumnEncoder(nn.Flatten(), width=2)
    >>> encoder(torch.zeros(3, 4, 10)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder, self.width = encoder, width

    def forward(self, x: Tensor) -> Tensor:
        """Encode each column independently."""
        columns = x.shape[2] // self.width
        return self.encoder(split_columns(x, columns).flatten(0, 1)).unflatten(0, (-1, columns))


def split_columns(images: Tensor, columns: int) -> Tensor:
    """View images ``(n, h, columns * w)`` as columns ``(n, columns, h, w)``.

    Examples
    --------
    >>> split_columns(torch.zeros(3, 4, 10), 5).shape
    torch.Size([3, 5, 4, 2])
    """
    return images.unflatten(2, (columns, -1)).transpose(1, 2)


def _conv2d(
    inputs: int, outputs: int, size: int, stride: int, generator: torch.Generator
) -> nn.Conv2d:
    """Create a convolution with torch's default initialisation, drawn from ``generator``."""
    new = nn.Conv2d if torch.empty(0).is_meta else functools.partial(nn.utils.skip_init, nn.Conv2d)
    layer: nn.Conv2d = new(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    bound = 1 / math.sqrt(inputs * size * size)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    return layer
