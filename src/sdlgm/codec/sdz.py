"""Codes in a compact container (``.sdz``): entropy-coded blocks, each with its own checksum."""

from __future__ import annotations

import functools
import hashlib
import math
import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.codec.ans import Stack
from sdlgm.codec.chains import ChainCoder, nats
from sdlgm.codec.description import CodeFile, CodesDigest, check_budget, check_expected
from sdlgm.codec.parquet import code_schema, from_arrow, to_arrow
from sdlgm.codec.passed import Passed, pack_passed, unpack_passed
from sdlgm.codec.sdz_layout import (
    Header,
    pack_block,
    pack_index,
    read_index,
    read_payload,
    rounded,
    rows_of_block,
    scan_blocks,
)
from sdlgm.codec.symbols import CodeCoder, slot_counts
from sdlgm.data import Columns
from sdlgm.distributions import Chain
from sdlgm.errors import CodeFileError
from sdlgm.limits import open_regular, reading
from sdlgm.outputs import atomic_path, writing

__all__ = ["BLOCK_ROWS", "CodeContainer", "Damage", "write_container"]

BLOCK_ROWS = 4096
"""Codes per block. Reading one row decodes a block; damage to a byte loses a block."""

DIGEST_BYTES = 8
"""Length of the digest of its codes in a block that is encoded under a prior."""


def write_container(
    path: Path | str,
    batches: Iterable[Tensor],
    about: CodeFile,
    *,
    block_rows: int = BLOCK_ROWS,
    columns: Columns | None = None,
    kept: pa.Table | None = None,
    prior: Chain | None = None,
) -> int:
    """Write batches of codes, shape ``(n, K)`` each, atomically; return the number of rows.

    This takes two passes and the memory of one block and one batch. The first counts outcomes and
    keeps the rows in an unnamed temporary file beside ``path``; the second encodes them. The
    counted frequencies have the greatest likelihood, so apart from rounding no prior of this family
    could make the blocks smaller. ``about.n_codes`` is ignored.

    With a structured ``prior``, the blocks are encoded under it, part by part, if that is shorter.
    Only the model can then read them.

    Parameters
    ----------
    path
        File to write.
    batches
        The codes.
    about
        Description of the model.
    block_rows
        Codes in a block.
    columns
        Names, types and layout of the table of data, to be stored in the file.
    kept
        Columns to store with the codes, as they are.
    prior
        Structured prior of the model: :func:`~sdlgm.codec.chains.coding_prior`.

    Raises
    ------
    CodeFileError
        If a row is not a code within the budget, kept columns have another number of rows, or
        constriction is not installed.
    """
    Stack()  # raises without constriction, before anything is encoded
    if block_rows < 1:
        raise CodeFileError(f"block_rows must be at least 1, got {block_rows}.")
    if not re.fullmatch("[0-9a-f]{64}", about.model_sha256):
        raise CodeFileError(f"A model's SHA-256 has 64 digits, got {about.model_sha256!r}.")
    path, slots = Path(path), about.budget // about.groups
    block_rows = rows_of_block(block_rows, about.features, about.budget)
    table = np.zeros((about.groups, about.features // about.groups + 1), np.int64)
    sha, rows, under_prior = CodesDigest(), 0, 0.0
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path), tempfile.TemporaryFile(dir=path.parent) as rough:
        schema = code_schema(about.budget, about.groups)
        with pa.ipc.new_stream(rough, schema) as writer:
            for codes in _regrouped(_checked(batches, about), block_rows):
                table += slot_counts(codes.numpy().astype(np.int32), about.groups, slots)
                under_prior += nats(prior, codes) if prior is not None else 0.0
                batch = to_arrow(codes, schema)
                sha.update(batch)
                writer.write_batch(batch)
                rows += len(codes)
        rough.seek(0)
        weights = rounded(table)
        passed = pack_passed(columns, kept, rows)
        header = Header(about._replace(n_codes=rows), block_rows, sha.hexdigest(), weights, passed)
        if prior is not None:
            header = _shorter(header, _nats_by_frequencies(table), under_prior)
        start, key = header.pack()
        pack = _Blocks(CodeCoder(weights, slots), prior if header.by_prior else None)
        places = []
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(start)
            for number, batch in enumerate(pa.ipc.open_stream(rough)):
                payload = pack.payload(from_arrow(batch, about).numpy().astype(np.int32))
                places.append(file.tell())
                file.write(pack_block(key, number, payload))
            file.write(pack_index(key, places, file.tell()))
    return rows


def _shorter(by_frequencies: Header, nats_by_frequencies: float, nats_under_prior: float) -> Header:
    """Return the header with which a file is shorter, by frequencies or under the prior.

    The first has a table, the second a digest in each block.
    """
    under_prior = by_frequencies._replace(by_prior=True)
    bits = (nats_under_prior - nats_by_frequencies) / math.log(2)
    table = len(by_frequencies.pack()[0]) - len(under_prior.pack()[0])
    digests = DIGEST_BYTES * by_frequencies.n_blocks
    return under_prior if bits < 8 * (table - digests) else by_frequencies


def _nats_by_frequencies(table: NDArray[np.int64]) -> float:
    """Return the nats of all slots under the frequencies of their outcomes, ``(G, K/G + 1)``."""
    counts = table.astype(np.float64)
    shares = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return -float((counts * np.log(np.where(shares > 0, shares, 1))).sum())


class _Blocks:
    """Encodes and decodes blocks, by the frequencies in the file or under a structured prior."""

    def __init__(self, coder: CodeCoder, prior: Chain | None) -> None:
        self.coder, self.prior = coder, prior

    def payload(self, codes: NDArray[np.int32]) -> bytes:
        """Return the bytes of a block's codes."""
        stack = Stack()
        if self.prior is None:
            self.coder.push(stack, codes)
            return stack.content()
        ChainCoder(self.prior.expand((len(codes),))).push(stack, codes)
        return _digest(codes) + stack.content()

    def codes(self, payload: bytes, rows: int, where: str) -> NDArray[np.int32]:
        """Undo :meth:`payload`; ``where`` names the block."""
        if self.prior is None:
            stack = Stack(payload)
            codes = self.coder.pop(stack, rows)
        else:
            stack = Stack(payload[DIGEST_BYTES:])
            codes = ChainCoder(self.prior.expand((rows,))).pop(stack, rows)
            if _digest(codes) != payload[:DIGEST_BYTES]:
                raise CodeFileError(
                    f"{where} cannot be decoded here: the outputs of the model's prior differ from "
                    "those where it was encoded. Decode the file on a machine like that one."
                )
        if not stack.empty:
            raise CodeFileError(f"The file is damaged: {where} holds more than its codes.")
        return codes


def _digest(codes: NDArray[np.int32]) -> bytes:
    return hashlib.blake2b(codes.astype("<i4").tobytes(), digest_size=DIGEST_BYTES).digest()


def _checked(batches: Iterable[Tensor], about: CodeFile) -> Iterator[Tensor]:
    """Yield the batches; raise :class:`CodeFileError` with the first row that is not a code."""
    rows = 0
    for codes in batches:
        if codes.dim() != 2 or codes.shape[1] != about.features:
            raise CodeFileError(
                f"Codes must have {about.features} columns, got shape {tuple(codes.shape)}."
            )
        wrong = ((codes < 0) | (codes != codes.round())).any(-1)
        if bool(wrong.any()):
            row = rows + int(wrong.nonzero()[0])
            raise CodeFileError(f"row {row} is not a code: its counts must be 0, 1, 2, ...")
        check_budget(codes, about, rows)
        rows += len(codes)
        yield codes.cpu()


def _regrouped(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the rows of the batches, ``size`` at a time."""
    kept: list[Tensor] = []
    for batch in batches:
        kept.append(batch)
        while sum(map(len, kept)) >= size:
            joined = torch.cat(kept)
            yield joined[:size]
            kept = [joined[size:]]
    rest = torch.cat(kept) if kept else torch.empty(0)
    if len(rest):
        yield rest


class Damage(NamedTuple):
    """A block that cannot be read."""

    block: int
    """Its number, from 0."""
    first_row: int
    """The first row in it, from 0."""
    rows: int
    """Number of rows in it."""

    def __str__(self) -> str:
        last = self.first_row + self.rows - 1
        return f"block {self.block} (rows {self.first_row:,} to {last:,}, counted from 0)"


class CodeContainer:
    """A container open for reading; close it, or use it in a ``with`` statement.

    Only requested blocks are read and decoded. If the index is damaged, the file is scanned for
    intact blocks.

    Parameters
    ----------
    path
        A file that :func:`write_container` wrote.
    expected
        The model that must have made the file. Default: any.
    prior
        Structured prior of the model, if it has one: :func:`~sdlgm.codec.chains.coding_prior`.
        Without it, codes that were encoded under it cannot be read.

    Raises
    ------
    CodeFileError
        If the file is missing, its header is damaged or of a newer format, or the file was not
        made by the ``expected`` model.
    """

    def __init__(
        self, path: Path | str, expected: CodeFile | None = None, prior: Chain | None = None
    ) -> None:
        Stack()
        self.path = Path(path)
        with open_regular(path, CodeFileError) as file:
            if not os.fstat(file.fileno()).st_size:
                raise CodeFileError(f"{path} is empty.")
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            with reading(path, CodeFileError):
                self.header, self._key, self._start = Header.read(
                    self._bytes,
                    str(path),
                    lambda about: check_expected(self.path, about, expected),
                )
        except CodeFileError:
            self.close()
            raise
        coder = CodeCoder(self.header.weights, self.about.budget // self.about.groups)
        self._blocks = _Blocks(coder, prior if self.header.by_prior else None)
        self._places = read_index(self._bytes, self._key, self._start, self.n_blocks)

    def __enter__(self) -> CodeContainer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._bytes.close()

    @property
    def about(self) -> CodeFile:
        """Description of the file."""
        return self.header.about

    def read_passed(self, width: int) -> Passed | None:
        """Return the layout and kept columns of the table of data, ``None`` if they are damaged.

        ``width`` is the number of columns of the model.

        Raises
        ------
        CodeFileError
            If they do not fit the codes, or exceed a limit of :mod:`sdlgm.limits`.
        """
        content = self.header.passed
        if not content:
            return None if content is None else Passed()
        return unpack_passed(content, str(self.path), self.about.n_codes, width)[0]

    @property
    def n_blocks(self) -> int:
        """Number of blocks, damaged ones included."""
        return self.header.n_blocks

    def read_block(self, number: int) -> Tensor:
        """Return the codes of one block, shape ``(rows, K)``, float32.

        Raises
        ------
        CodeFileError
            If the block is damaged or missing; the message names it and its rows.
        """
        where = self._where(number)
        if self.header.by_prior and self._blocks.prior is None:
            raise CodeFileError(
                f"The codes in {self.path} are encoded under the prior of their model and cannot "
                "be read without it. Read them with the model: sdlgm decode RUN FILE."
            )
        payload = self._payload(self._places or self._found, number)
        if payload is None:  # the index may be wrong
            payload = self._payload(self._found, number)
        if payload is None:
            raise CodeFileError(
                f"{self.path} is damaged: {where} does not match its digest, or is missing. "
                "The other blocks can be salvaged."
            )
        with reading(f"{where} of {self.path}", CodeFileError):
            codes = self._blocks.codes(payload, where.rows, f"{where} of {self.path}")
            return torch.from_numpy(codes).float()

    def read_rows(self, start: int, stop: int) -> Tensor:
        """Return the codes of rows ``start`` to ``stop - 1``; only their blocks are decoded.

        Raises
        ------
        CodeFileError
            If one of these blocks is damaged, or the rows do not exist.
        """
        if not 0 <= start <= stop <= self.about.n_codes:
            raise CodeFileError(
                f"{self.path} has {self.about.n_codes} rows; there is no range {start}:{stop}."
            )
        if start == stop:
            return torch.zeros(0, self.about.features)
        size = self.header.block_rows
        first, last = start // size, (stop - 1) // size
        codes = torch.cat([self.read_block(number) for number in range(first, last + 1)])
        return codes[start - first * size :][: stop - start]

    def blocks(self, on_damage: Callable[[Damage], None] | None = None) -> Iterator[Tensor]:
        """Yield the codes of all blocks in order.

        A damaged block raises :class:`CodeFileError`. With ``on_damage``, that is called with the
        damage instead, and all counts of the block's rows are NaN.
        """
        for number in range(self.n_blocks):
            try:
                codes = self.read_block(number)
            except CodeFileError:
                if on_damage is None:
                    raise
                where = self._where(number)
                on_damage(where)
                codes = torch.full((where.rows, self.about.features), torch.nan)
            yield codes

    @functools.cached_property
    def _found(self) -> dict[int, int]:
        return scan_blocks(self._bytes, self._key, self._start, self.n_blocks)

    def _payload(self, places: dict[int, int], number: int) -> bytes | None:
        place = places.get(number)
        return None if place is None else read_payload(self._bytes, self._key, number, place)

    def _where(self, number: int) -> Damage:
        if not 0 <= number < self.n_blocks:
            raise CodeFileError(
                f"{self.path} has {self.n_blocks} blocks; there is no block {number}."
            )
        first = number * self.header.block_rows
        return Damage(number, first, min(self.header.block_rows, self.about.n_codes - first))
