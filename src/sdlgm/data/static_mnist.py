"""Static MNIST: digits whose bits were drawn once, in the split that published tables use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdlgm.data.rows import Dataset, Rows
from sdlgm.errors import DataError, warn
from sdlgm.limits import read_bytes

__all__ = ["FILES", "NAME", "static_mnist"]

NAME = "mnist-static"
FILES = {part: f"binarized_mnist_{part}.amat" for part in ("train", "valid", "test")}
"""The published files by split: one image a line, 784 times 0 or 1, separated by spaces."""
ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}
PIXELS = 784
SPACE = np.frombuffer(b" \t\r\n", np.uint8)
SEED = 0
"""Seed of the bits that are drawn if the published files are missing."""


def static_mnist(grey: Callable[[], Dataset]) -> Dataset:
    """Load the published bits, or draw bits once from MNIST where the files are missing.

    The files are those of :data:`FILES` in ``$SDLGM_DATA/mnist-static``. Otherwise the first
    50,000 training digits of MNIST are the training rows, the 10,000 others the validation rows,
    and each pixel is 1 with probability grey value / 255, drawn once with a fixed seed. A warning
    says so. The attribute ``source`` of the result tells which it was.

    Parameters
    ----------
    grey
        Loads MNIST with grey values; called only if the files are missing.

    Raises
    ------
    DataError
        If some of the files are missing, or one has another number of lines, of bits in a line, or
        another character than 0 and 1. The message names the file and the line.
    """
    named = os.environ.get("SDLGM_DATA")
    folder = Path(named or "") / NAME
    missing = [name for name in FILES.values() if not (named and (folder / name).is_file())]
    if len(missing) == len(FILES):
        return _drawn(grey())
    if missing:
        raise DataError(
            f"{folder} holds only some of the files of {NAME}. Add {', '.join(missing)}, or remove "
            "the others, so that the bits are drawn from MNIST."
        )
    parts = {part: Rows(_read(folder / name, ROWS[part])) for part, name in FILES.items()}
    return _dataset(parts, "binarized_mnist_*.amat")


def _drawn(mnist: Dataset) -> Dataset:
    """Draw the bits of all parts once."""
    warn(
        f"{NAME}: the bits are drawn once from MNIST with seed {SEED}, in the published split. "
        "They are not the published bits: for these, put binarized_mnist_train.amat, "
        f"..._valid.amat and ..._test.amat into the folder {NAME} of SDLGM_DATA."
    )
    first, others = torch.arange(len(mnist.train)).tensor_split([ROWS["train"]])
    rows = {
        "train": mnist.train.subset(first),
        "valid": mnist.train.subset(others),
        "test": mnist.test,
    }
    seeds = {part: SEED + number for number, part in enumerate(rows)}
    parts = {part: each.binarise("fixed", seeds[part]) for part, each in rows.items()}
    return _dataset(parts, f"drawn from MNIST with seed {SEED}")


def _dataset(parts: dict[str, Rows], source: str) -> Dataset:
    """Name the parts, and note where their bits come from."""
    validation = parts["valid"].named(f"{NAME} (validation rows)")
    return Dataset(
        NAME, parts["train"], parts["test"], (28, 28), validation=validation, source=source
    )


def _read(path: Path, lines: int) -> Tensor:
    """Read the bits of a file, shape ``(lines, 784)``."""
    content = np.frombuffer(read_bytes(path, "inflated_bytes", DataError), np.uint8)
    is_bit = (content == ord("0")) | (content == ord("1"))
    other = np.flatnonzero(~(is_bit | np.isin(content, SPACE)))
    ends = np.flatnonzero(content == ord("\n"))
    if len(other):
        line = int(np.searchsorted(ends, other[0])) + 1
        character = chr(content[other[0]])
        raise DataError(f"{path}, line {line}: there is {character!r}, but only 0 and 1 are bits.")
    starts = np.concatenate([[0], ends + 1])
    starts = starts[starts < len(content)]
    bits = np.add.reduceat(is_bit, starts, dtype=np.int64) if len(starts) else starts
    if len(bits) != lines:
        raise DataError(
            f"{path} has {len(bits):,} lines, but {lines:,} images are expected, one a line."
        )
    wrong = np.flatnonzero(bits != PIXELS)
    if len(wrong):
        raise DataError(
            f"{path}, line {wrong[0] + 1}: there are {bits[wrong[0]]} bits, but an image has "
            f"{PIXELS}."
        )
    return torch.from_numpy((content[is_bit] - ord("0")).reshape(lines, PIXELS))
