"""Data in memory: one tensor a split, and how its grey values become bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdlgm.config import Binarisation
from sdlgm.errors import DataError
from sdlgm.random import generator as make_generator

__all__ = ["Dataset", "Rows"]


@dataclass(frozen=True)
class Rows:
    """Samples as rows of one tensor, of bytes or floats, handed out as float32 batches."""

    values: Tensor
    """Shape ``(n, D)``: uint8 or float32."""
    maximum: float = 1.0
    """The value that stands for white, where values are grey."""
    dynamic: bool = False
    """Whether each visit draws bits anew, with probability ``value / maximum``."""
    labels: Tensor | None = None
    """Class of each row (int64), where there is one; never used in training."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n_inputs(self) -> int:
        """Number D of columns."""
        return self.values.shape[1]

    def check(self, what: str, columns: Sequence[str] | None = None) -> None:
        """Raise :class:`DataError` unless this is a table of finite numbers; name the first gap."""
        if self.values.dim() != 2 or 0 in self.values.shape:
            shape = tuple(self.values.shape)
            raise DataError(f"{what} must have rows and columns, got an array of shape {shape}.")
        if not self.values.is_floating_point():
            return
        # One quick pass for sound rows: a sum in float64 is finite only if all floats are.
        if bool(self.values.sum(dtype=torch.float64).isfinite()):
            return
        bad = ~torch.isfinite(self.values)
        if bool(bad.any()):
            number = int(bad.sum())
            row, column = (int(i) for i in bad.nonzero()[0])
            value = float(self.values[row, column])
            place = f"row {row}, column {repr(columns[column]) if columns else column}"
            raise DataError(
                f"{what} has {number} {'value that is' if number == 1 else 'values that are'} not "
                f"finite, the first ({value}) in {place} (counted from 0). Drop or fill such rows "
                "first."
            )

    def batch(self, index: Tensor | slice, generator: torch.Generator) -> Tensor:
        """Return rows as float32 ``(b, D)``; ``generator`` draws the bits of dynamic ones."""
        values = self.values[index]
        if not self.dynamic:
            return values.to(torch.float32)
        noise = torch.rand(values.shape, generator=generator, device=generator.device)
        # Strict, so that a probability of 0 never gives a 1 and one of 1 always does.
        return (noise * self.maximum < values).to(torch.float32)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Hand out all rows in order."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), generator)

    def grey(self) -> Tensor:
        """Return all values on the scale of the model's input, bits as their probabilities."""
        values = self.values.to(torch.float32)
        return values / self.maximum if self.dynamic and self.maximum != 1 else values

    def subset(self, index: Tensor) -> Rows:
        """Return the rows at ``index``."""
        labels = None if self.labels is None else self.labels[index]
        return replace(self, values=self.values[index], labels=labels)

    def split(self, fraction: float, seed: int) -> tuple[Rows, Rows]:
        """Return (rest, a share drawn at random), each in the original order."""
        held = max(1, round(fraction * len(self)))
        if held >= len(self):
            raise DataError(f"{len(self)} rows are too few to hold out {fraction:g} of them.")
        order = torch.randperm(len(self), generator=make_generator(seed, "split"))
        return self.subset(order[held:].sort().values), self.subset(order[:held].sort().values)

    def binarise(self, kind: Binarisation, seed: int) -> Rows:
        """Turn grey values into bits; see :class:`~sdlgm.config.DataConfig`."""
        if kind == "none":
            return self
        low, high = float(self.values.min()), float(self.values.max())
        if not (low >= 0 and high <= self.maximum):  # NaN fails too
            raise DataError(
                f"binarisation = {kind!r} needs grey values from 0 to {self.maximum:g}, got "
                f"{low:g} to {high:g}. Rescale them, or use binarisation = 'none'."
            )
        if kind == "dynamic":
            return replace(self, dynamic=True)
        if kind == "threshold":
            return replace(self, values=(self.values * 2.0 >= self.maximum).byte(), maximum=1.0)
        drawn = replace(self, dynamic=True).batch(slice(None), make_generator(seed, "fixed"))
        return replace(self, values=drawn.byte(), maximum=1.0)

    def sha256(self) -> str:
        """Digest of the values, to tell whether two runs saw the same data."""
        sha = hashlib.sha256(f"{self.values.dtype} {tuple(self.values.shape)}".encode())
        sha.update(self.values.contiguous().view(-1).numpy().data)
        return sha.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A named data set with its splits."""

    name: str
    train: Rows
    test: Rows
    image_shape: tuple[int, int] | None = None
    """Height and width, where a row is an image."""

    def rows(self, split: str) -> Rows:
        """Return the rows of ``"train"``, ``"test"`` or ``"all"`` (train, then test)."""
        if split == "all":
            values = torch.cat([self.train.values, self.test.values])
            labels = (
                torch.cat([self.train.labels, self.test.labels])
                if self.train.labels is not None and self.test.labels is not None
                else None
            )
            return replace(self.train, values=values, labels=labels)
        if split not in ("train", "test"):
            raise DataError(f"The split is 'train', 'test' or 'all', got {split!r}.")
        return self.train if split == "train" else self.test
