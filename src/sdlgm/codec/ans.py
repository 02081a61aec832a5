"""A stack of bits: asymmetric numeral systems (Duda et al. 2015), by the package constriction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdlgm.errors import CodeFileError

__all__ = ["Stack"]


class Stack:
    """An entropy coder that pops symbols in the reverse order of pushing.

    A symbol of probability ``p`` takes ``-log2 p`` bits. Popping symbols off unrelated bits draws
    them at random; bits-back coding relies on this.

    **Encoder and decoder must pass the same weights, bit by bit.** Each weight becomes a 24-bit
    probability by one sum, one division and one product in double precision. IEEE 754 fixes their
    results, so integers up to 2^53 are safe weights. No outcome gets less than ``2^-24``.

    Parameters
    ----------
    content
        What :meth:`content` returned. Default: an empty stack.

    Raises
    ------
    CodeFileError
        If constriction is not installed or ``content`` is invalid.
    """

    def __init__(self, content: bytes = b"") -> None:
        try:
            from constriction import stream
        except ModuleNotFoundError:
            raise CodeFileError(
                'Entropy-coded files need constriction: pip install "sdlgm[codec]".'
            ) from None
        self._categorical: Any = stream.model.Categorical
        self._family: Any = stream.model.Categorical(perfect=False)
        try:
            words = np.frombuffer(content, "<u4").astype(np.uint32)
            self._coder: Any = stream.stack.AnsCoder(words)
        except ValueError as error:
            raise CodeFileError(f"The bits are not a valid stack of symbols ({error}).") from None

    def push(self, symbols: NDArray[np.integer], weights: NDArray[np.number]) -> None:
        """Encode symbols ``(n,)``; ``weights`` are ``(outcomes,)``, or ``(n, outcomes)``."""
        if len(symbols):
            symbols = np.ascontiguousarray(symbols, np.int32)
            self._coder.encode_reverse(symbols, *self._model(weights))

    def pop(self, number: int, weights: NDArray[np.number]) -> NDArray[np.int32]:
        """Decode the ``number`` symbols pushed last, in their order, with the same weights."""
        if not number:
            return np.zeros(0, np.int32)
        model = self._model(weights)
        amount = model[1:] or (number,)
        found: NDArray[np.int32] = self._coder.decode(model[0], *amount)
        return found

    def content(self) -> bytes:
        """Return all bits as little-endian 32-bit words."""
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes()

    @property
    def bits(self) -> int:
        """Number of bits on the stack."""
        return int(self._coder.num_valid_bits())

    @property
    def words(self) -> int:
        """Number of words of :meth:`content`."""
        return int(self._coder.num_words())

    @property
    def empty(self) -> bool:
        """Whether the stack is empty."""
        return bool(self._coder.is_empty())

    def _model(self, weights: NDArray[np.number]) -> tuple[Any, ...]:
        table = np.ascontiguousarray(weights, np.float64)
        if table.ndim == 1:
            return (self._categorical(table, perfect=False),)
        return self._family, table
