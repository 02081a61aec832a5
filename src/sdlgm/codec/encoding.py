"""From data to codes and back, by a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from sdlgm.codec.code_files import CodeFormat, code_format, read_codes, write_codes
from sdlgm.codec.description import CodeFile
from sdlgm.codec.sdz import Damage
from sdlgm.config import Choice
from sdlgm.data import Rows
from sdlgm.inference import encode_batches
from sdlgm.models import SavedModel

__all__ = ["decode_file", "describe", "encode_file"]


def describe(saved: SavedModel) -> CodeFile:
    """Return what a file of codes of this model says of itself (without its number of rows)."""
    config = saved.model.config
    return CodeFile(0, config.features, config.budget, saved.model.groups, saved.sha256)


def encode_file(
    saved: SavedModel,
    rows: Rows,
    path: Path | str,
    *,
    choice: Choice = "mode",
    candidates: int = 16,
    max_active: int | None = None,
    seed: int = 0,
    file_format: CodeFormat | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Encode rows into a file of codes, written atomically; return its number of rows.

    The format is ``file_format``, or the one that the suffix names. The other options are those of
    :meth:`~sdlgm.models.SDLGM.encode`.
    """
    code_format(path, file_format)  # fail before anything is encoded
    batches = encode_batches(
        saved.model, rows, choice, candidates=candidates, max_active=max_active, seed=seed
    )

    def counted() -> Iterator[Tensor]:
        done = 0
        for codes in batches:
            yield codes
            done += len(codes)
            if progress:
                progress(done)

    return write_codes(path, counted(), describe(saved), file_format)


def decode_file(
    saved: SavedModel,
    path: Path | str,
    progress: Callable[[int], None] | None = None,
    on_damage: Callable[[Damage], None] | None = None,
) -> Tensor:
    """Decode a file of codes to means of the data, shape ``(n, D)``, float32.

    With ``on_damage``, damaged blocks of a container are handed to it and their rows are NaN.

    Raises
    ------
    CodeFileError
        If the file is damaged or belongs to another model; nothing is returned then.
    """
    about, batches = read_codes(path, describe(saved), on_damage)
    decoded = torch.empty(about.n_codes, saved.model.n_inputs)
    done = 0
    for codes in batches:
        decoded[done : done + len(codes)] = saved.model.decode(codes)
        done += len(codes)
        if progress:
            progress(done)
    return decoded
