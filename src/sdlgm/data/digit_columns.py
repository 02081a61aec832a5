"""Images of several digits side by side, with the number of each digit as the target."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from sdlgm.config import DataConfig
from sdlgm.data.named import load_data
from sdlgm.errors import DataError
from sdlgm.random import generator

__all__ = ["EMPTY", "digit_columns"]

EMPTY = 0.05
"""Default probability of an empty column. Predicting the mean count for every image then has an
MSE of ``5 p (1 - p)`` = 0.43, where ``p = (1 - EMPTY) / 10``. It would be 0.45 if no column were
empty."""


def digit_columns(
    n: int,
    columns: int = 5,
    split: Literal["train", "test"] = "train",
    empty: float = EMPTY,
    seed: int = 0,
    source: str = "mnist",
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    r"""Draw images of ``columns`` columns, each a random digit or empty, with their counts.

    The data of Xu et al. 2021, section IV.C. A column is empty with probability ``empty``;
    otherwise it is a digit drawn with replacement from ``split``, so that images of the two splits
    share no digit.

    Parameters
    ----------
    n
        Number of images.
    columns
        Number of columns of an image.
    split
        Split of the source that digits are drawn from: ``"train"`` or ``"test"``.
    empty
        Probability in [0, 1] that a column is empty.
    seed
        Seed of the draws; the two splits are drawn independently.
    source
        A built-in set of 28 x 28 digits with labels: ``"mnist"``, or ``"mnist-5k"``, which needs
        no network.

    Returns
    -------
    images
        Grey values from 0 to 255 (uint8), shape ``(n, 28, 28 * columns)``.
    counts
        Number of each digit (int64), shape ``(n, 10)``; row sums are at most ``columns``.

    Raises
    ------
    DataError
        If a parameter is out of range, or the source cannot be loaded.

    Examples
    --------
    >>> images, counts = digit_columns(4, columns=3, source="mnist-5k")
    >>> images.shape, counts.shape, bool((counts.sum(1) <= 3).all())
    ((4, 28, 84), (4, 10), True)
    """
    for name, value in (("n", n), ("columns", columns)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise DataError(f"{name} must be a positive integer, got {value!r}.")
    if not 0 <= empty <= 1:  # NaN fails too
        raise DataError(f"empty must be a probability from 0 to 1, got {empty!r}.")
    if split not in ("train", "test"):
        raise DataError(f"The split is 'train' or 'test', got {split!r}.")
    dataset = load_data(DataConfig(source, binarisation="none"))
    rows = dataset.rows(split)
    if dataset.image_shape != (28, 28) or rows.labels is None:
        raise DataError(
            f"digit_columns needs labelled images of 28 x 28, but {source!r} has none. "
            "Use source='mnist' or source='mnist-5k'."
        )
    draws = generator(seed, f"digit columns {split}")
    which = torch.randint(len(rows), (n, columns), generator=draws)
    filled = torch.rand((n, columns), generator=draws, dtype=torch.float64) >= empty
    images = np.zeros((n, 28, columns, 28), np.uint8)
    for column in range(columns):
        digits = rows.values[which[:, column]] * filled[:, column, None]
        images[:, :, column] = digits.view(n, 28, 28).numpy()
    counts = torch.zeros(n, 10, dtype=torch.int64)
    counts.scatter_add_(1, rows.labels[which], filled.long())
    return images.reshape(n, 28, 28 * columns), counts.numpy()
