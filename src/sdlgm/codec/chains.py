"""Encode structured codes part by part, each under its distribution given the parts before it."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.codec.ans import Stack
from sdlgm.codec.symbols import CodeCoder, Counts
from sdlgm.distributions import Chain, Grouped
from sdlgm.errors import CodeFileError
from sdlgm.models import SDLGM

__all__ = ["PRECISION", "ChainCoder", "coding_prior", "integers", "nats", "padded", "slot_weights"]

PRECISION = 24
"""Bits of a quantised probability, as in the entropy coder."""


class ChainCoder:
    """Encodes and decodes codes under a chain; parts are pushed in reverse and popped in order.

    Encoder and decoder compute the distribution of a part in the same way, from the parts before it
    and for the same number of rows, in double precision. On one machine their results are equal bit
    by bit. On another, a probability may round to another integer, though hardly ever.

    Parameters
    ----------
    chain
        Distribution of a batch of codes, shape ``(rows,)``, in double precision.
    device
        Where it is. Encoder and decoder must use the same kind of device.
    """

    def __init__(self, chain: Chain, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.chain, (self.rows,) = chain, chain.batch_shape
        self.slots = chain.total_count // chain.groups
        self.size = chain.event_shape[0] // chain.parts

    @torch.no_grad()
    def push(self, stack: Stack, codes: Counts) -> None:
        """Encode codes ``(n, K)``, at most as many as the chain has rows."""
        known, part_of = padded(self._tensor(codes), self.rows), self.chain.in_order()
        coders = [
            self._coder(part_of(number, known[:, : number * self.size]), len(codes))
            for number in range(self.chain.parts)
        ]
        for number in range(self.chain.parts)[::-1]:
            part = codes[:, number * self.size : (number + 1) * self.size]
            coders[number].push(stack, np.ascontiguousarray(part))

    @torch.no_grad()
    def pop(self, stack: Stack, number: int) -> Counts:
        """Decode the ``number`` codes that were pushed last: ``(number, K)``."""
        known = torch.zeros(self.rows, 0, dtype=torch.float64, device=self.device)
        part_of = self.chain.in_order()
        for part in range(self.chain.parts):
            found = self._coder(part_of(part, known), number).pop(stack, number)
            known = torch.cat([known, padded(self._tensor(found), self.rows)], -1)
        codes: Counts = known[:number].int().cpu().numpy()
        return codes

    def _tensor(self, codes: Counts) -> Tensor:
        return torch.from_numpy(codes).to(self.device).double()

    def _coder(self, code: Grouped, number: int) -> CodeCoder:
        return CodeCoder(slot_weights(code, number), self.slots)


def coding_prior(model: SDLGM) -> Chain | None:
    """Return the structured prior of a model in double precision, ``None`` for a product.

    It is on the CPU, so that files do not depend on the device of the model.
    """
    if not isinstance(model.prior(), Chain):
        return None
    prior = copy.deepcopy(model).cpu().double().eval().prior()
    return prior if isinstance(prior, Chain) else None


@torch.no_grad()
def nats(prior: Chain, codes: Tensor) -> float:
    """Return ``-log p`` of the slots of codes ``(n, K)``, one by one, under a structured prior."""
    codes = codes.double()
    given = prior.given(codes)
    return -float(given.slot_sum(codes, given.slot_log_probs).sum())


def slot_weights(code: Grouped, rows: int | None = None) -> NDArray[np.int64]:
    """Return integer weights of the outcomes of a slot for the first rows (default: all)."""
    return integers(code.slot_log_probs[:rows].exp())


def integers(probabilities: Tensor) -> NDArray[np.int64]:
    """Round probabilities to positive integers.

    Raises
    ------
    CodeFileError
        If one is NaN.
    """
    if bool(probabilities.isnan().any()):
        raise CodeFileError("The networks overflow: values are too far from the training data.")
    weights: NDArray[np.int64]
    weights = (probabilities * 2.0**PRECISION).floor().long().add_(1).cpu().numpy()
    return weights


def padded(values: Tensor, rows: int) -> Tensor:
    """Pad a matrix with rows of zeros."""
    return torch.nn.functional.pad(values, (0, 0, 0, rows - len(values)))
