"""Read and write files of codes, as Parquet or as a compact container."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from sdlgm.codec import parquet
from sdlgm.codec.description import CodeFile
from sdlgm.codec.sdz import CodeContainer, Damage, write_container
from sdlgm.codec.sdz_layout import MAGIC
from sdlgm.distributions import Chain
from sdlgm.errors import CodeFileError
from sdlgm.limits import open_regular

__all__ = ["CodeFormat", "code_format", "is_container", "read_codes", "write_codes"]

CodeFormat = Literal["parquet", "sdz"]
"""``"parquet"``: lists of indices and counts for other programs; ``"sdz"``: entropy-coded."""


def code_format(path: Path | str, asked: CodeFormat | None = None) -> CodeFormat:
    """Return the format to write: ``asked``, or the one that the suffix of the path names.

    Raises
    ------
    CodeFileError
        If the two contradict each other or neither is given.
    """
    formats: tuple[CodeFormat, ...] = get_args(CodeFormat)
    named = next((each for each in formats if Path(path).suffix == f".{each}"), None)
    if asked and named and asked != named:
        raise CodeFileError(f"{path} ends in .{named}, but the format asked for is {asked}.")
    found = asked or named
    if found is None:
        raise CodeFileError(f"{path} must end in .parquet or .sdz, or a format must be given.")
    return found


def write_codes(
    path: Path | str,
    batches: Iterable[Tensor],
    about: CodeFile,
    file_format: CodeFormat | None = None,
    prior: Chain | None = None,
) -> int:
    """Write batches of codes, shape ``(n, K)`` each, atomically; return the number of rows.

    :func:`code_format` chooses the format. ``about.n_codes`` is ignored. A container is encoded
    under a structured ``prior``, if there is one.
    """
    if code_format(path, file_format) == "sdz":
        return write_container(path, batches, about, prior=prior)
    return parquet.write_codes(path, batches, about)


def read_codes(
    path: Path | str,
    expected: CodeFile | None = None,
    on_damage: Callable[[Damage], None] | None = None,
    prior: Chain | None = None,
) -> tuple[CodeFile, Iterator[Tensor]]:
    """Read a file of codes: return its description and an iterator over batches of codes.

    The format is recognised by the content.

    Parameters
    ----------
    path
        The file.
    expected
        The model that must have made the file. Default: any.
    on_damage
        Called with each damaged block of a container; its rows become NaN. Default: damage is an
        error. Parquet files cannot be salvaged.
    prior
        Structured prior of the model, which containers of its codes need:
        :func:`~sdlgm.codec.chains.coding_prior`.

    Raises
    ------
    CodeFileError
        If the file is missing, damaged, of a newer format, or made by another model, or if
        ``on_damage`` is given for a Parquet file.
    """
    path = Path(path)
    if is_container(path):
        container = CodeContainer(path, expected, prior)
        return container.about, _all(container, on_damage)
    if on_damage is not None:
        raise CodeFileError(f"{path} is not a .sdz file; only .sdz files can be salvaged.")
    return parquet.read_codes(path, expected)


def is_container(path: Path) -> bool:
    """Whether a file is a container, by its suffix or its content."""
    return path.suffix == ".sdz" or _starts_with(path, MAGIC)


def _starts_with(path: Path, magic: bytes) -> bool:
    with open_regular(path, CodeFileError) as file:
        return file.read(len(magic)) == magic


def _all(container: CodeContainer, on_damage: Callable[[Damage], None] | None) -> Iterator[Tensor]:
    with container:
        yield from container.blocks(on_damage)
