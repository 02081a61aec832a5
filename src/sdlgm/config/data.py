"""Settings of the data to learn from."""

from __future__ import annotations

import dataclasses

from sdlgm.config.checks import convert_types
from sdlgm.config.names import Binarisation
from sdlgm.errors import ConfigError

__all__ = ["DataConfig"]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The data to learn from.

    Raises
    ------
    ConfigError
        If a value has a wrong type or is out of range.
    """

    data: str
    """Name of a built-in data set (digits, mnist-5k, mnist, mnist-static, fashion-mnist, nab), or
    path of a .csv, .parquet or .npy file with one sample per row, or a folder or pattern of such
    files."""
    binarisation: Binarisation | None = None
    """How grey values become bits: sampled at each visit (dynamic), sampled once (fixed),
    thresholded at one half (threshold), or not at all (none). Default: dynamic for images under a
    Bernoulli likelihood, else none."""
    test_fraction: float = 0.1
    """Share of the rows of a file that is held out as the test split."""
    split_seed: int = 0
    """Seed of the test split and of fixed binarisation; independent of the training seed."""
    columns: tuple[str, ...] | None = None
    """Columns of a file to learn from, in this order: numbers, or one column of lists. Default: all
    except those of keep."""
    keep: tuple[str, ...] = ()
    """Columns of a file that are not learned from, and are passed through to files of codes and to
    decoded tables."""
    header: bool | None = None
    """Whether the first line of a CSV file holds the names of its columns. Default: it does, and a
    line of numbers alone is an error."""
    data_sha256: str | None = None
    """SHA-256 of the file or folder, recorded by fit. A run refuses data that have changed."""
    max_rows: int | None = None
    """Largest number of rows of a folder that are read; of more, a random sample is taken. Default:
    as many as hold 2^26 values. Single files are always read as a whole."""

    def __post_init__(self) -> None:
        convert_types(self)
        if not 0 < self.test_fraction < 1:
            raise ConfigError(
                f"test_fraction is a share between 0 and 1, got {self.test_fraction}."
            )
        if self.max_rows is not None and self.max_rows < 2:
            raise ConfigError(f"max_rows must be at least 2, got {self.max_rows}.")
