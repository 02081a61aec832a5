"""From data to codes and back, by a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sdlgm.codec.about import CodeFile
from sdlgm.codec.container import Damage
from sdlgm.codec.files import CodeFormat, code_format, read_codes, write_codes
from sdlgm.data import Rows
from sdlgm.evaluation import check_rows
from sdlgm.models import SDLGM, SavedModel
from sdlgm.random import generator

__all__ = ["Choice", "decode_codes", "decode_file", "describe", "encode_file", "encode_rows"]

Choice = Literal["sample", "mode"]
"""``"sample"`` draws a code from the posterior, as in training; ``"mode"`` takes a most probable
one, which suits one slot a group and is poor where many slots share one posterior."""


BATCH = 1000
"""Rows that are encoded at a time."""


@torch.no_grad()
def encode_rows(
    model: SDLGM,
    rows: Rows,
    *,
    choice: Choice = "sample",
    seed: int = 0,
    batch_size: int = BATCH,
) -> Iterator[Tensor]:
    """Yield batches of codes, shape ``(b, K)``, of all rows in order.

    One seed, one machine and one batch size give the same codes again.
    """
    check_rows(model, rows)
    bits, noise = generator(seed, "evaluation bits"), generator(seed, "evaluation codes")
    for x in rows.batches(batch_size, bits):
        posterior = model.posterior(x)
        yield posterior.mode if choice == "mode" else posterior.sample(generator=noise)


@torch.no_grad()
def decode_codes(model: SDLGM, codes: Tensor) -> Tensor:
    """Return the mean of ``p(x | z)`` for codes of shape ``(n, K)``: shape ``(n, D)``."""
    return model.decode(codes).mean


def describe(saved: SavedModel) -> CodeFile:
    """Return what a file of codes of this model says of itself (without its number of rows)."""
    config = saved.model.config
    return CodeFile(0, config.features, config.budget, saved.model.groups, saved.sha256)


def encode_file(
    saved: SavedModel,
    rows: Rows,
    path: Path | str,
    *,
    choice: Choice = "sample",
    seed: int = 0,
    file_format: CodeFormat | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Encode rows into a file of codes, written atomically; return its number of rows.

    The format is ``file_format``, or the one that the suffix names.
    """
    code_format(path, file_format)  # fail before anything is encoded

    def counted() -> Iterator[Tensor]:
        done = 0
        for codes in encode_rows(saved.model, rows, choice=choice, seed=seed):
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
        decoded[done : done + len(codes)] = decode_codes(saved.model, codes)
        done += len(codes)
        if progress:
            progress(done)
    return decoded
