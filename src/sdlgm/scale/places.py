"""Where the outputs of a folder go: never onto or among its files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sdlgm.data.folders import root_of
from sdlgm.errors import ConfigError
from sdlgm.outputs import same_file, sweep

__all__ = ["check_places", "check_targets", "sweep_beside"]


def check_places(data: str, out: Path) -> None:
    """Raise :class:`ConfigError` if the outputs have no folder of their own."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file, but the outputs of a folder go into a folder.")
    if same_file(root_of(data), out):
        raise ConfigError(
            f"--out {out} is the folder of the data. Choose another folder for the outputs."
        )


def check_targets(data: str, out: Path, pairs: Iterable[tuple[Path, Path]]) -> None:
    """Raise :class:`ConfigError` if an output would be an input, now or of a later call.

    Parameters
    ----------
    data
        The folder or pattern.
    out
        The folder of the outputs.
    pairs
        Each input with its output.
    """
    pairs = list(pairs)
    inputs = {os.path.realpath(source) for source, _ in pairs}
    root, place = Path(os.path.realpath(data)), Path(os.path.realpath(out))
    above = root.is_dir() and root not in place.parents
    for source, target in pairs:
        real = Path(os.path.realpath(target))
        if str(real) in inputs or (above and root in real.parents):
            raise ConfigError(
                f"The output of {source} would be written to {target}, which is among the data. "
                "Choose another folder for the outputs."
            )


def sweep_beside(targets: Iterable[Path | str]) -> None:
    """Remove unfinished files that a killed process left in the folders of these outputs."""
    for folder in {Path(target).parent for target in targets}:
        sweep(folder)
