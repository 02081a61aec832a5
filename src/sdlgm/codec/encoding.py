"""Encode data into files of codes, and decode them, with a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from sdlgm.codec.code_files import CodeFormat, code_format, read_codes, write_codes
from sdlgm.codec.description import CodeFile
from sdlgm.codec.sdz import Damage
from sdlgm.config import CodeMethod
from sdlgm.data import Rows
from sdlgm.inference import encode_batches
from sdlgm.models import SDLGM, model_sha256

__all__ = ["decode_file", "describe", "encode_file"]


def describe(model: SDLGM) -> CodeFile:
    """Return the description of a file of codes of this model, with 0 rows."""
    config = model.config
    return CodeFile(0, config.features, config.budget, model.groups, model_sha256(model))


def encode_file(
    model: SDLGM,
    rows: Rows,
    path: Path | str,
    *,
    code: CodeMethod = "mode",
    candidates: int = 16,
    max_active: int | None = None,
    seed: int = 0,
    file_format: CodeFormat | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Encode rows into a file of codes, written atomically; return its number of rows.

    ``file_format`` overrides the format that the suffix names. The other options are those of
    :meth:`~sdlgm.models.SDLGM.encode`. ``progress`` is called with the number of rows done.
    """
    code_format(path, file_format)  # fail before anything is encoded
    batches = encode_batches(
        model, rows, code, candidates=candidates, max_active=max_active, seed=seed
    )

    def counted() -> Iterator[Tensor]:
        done = 0
        for codes in batches:
            yield codes
            done += len(codes)
            if progress:
                progress(done)

    return write_codes(path, counted(), describe(model), file_format)


def decode_file(
    model: SDLGM,
    path: Path | str,
    progress: Callable[[int], None] | None = None,
    on_damage: Callable[[Damage], None] | None = None,
) -> Tensor:
    """Decode a file of codes to means of the data, shape ``(n, D)``, as ``SDLGM.decode`` does.

    ``on_damage`` is called with each damaged block of a container; its rows become NaN.

    Raises
    ------
    CodeFileError
        If the file is damaged or was made by another model.
    """
    about, batches = read_codes(path, describe(model), on_damage)
    kind = model.decode(torch.zeros(1, model.config.features)).dtype
    decoded = torch.empty(about.n_codes, model.n_inputs, dtype=kind)
    done = 0
    for codes in batches:
        decoded[done : done + len(codes)] = model.decode(codes)
        done += len(codes)
        if progress:
            progress(done)
    return decoded
