"""Bits-back coding: lossless compression at the cost of the negative ELBO."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributions as td

from sdlgm.codec.ans import Stack
from sdlgm.codec.chains import ChainCoder, integers, padded, slot_weights
from sdlgm.codec.symbols import CodeCoder
from sdlgm.distributions import Chain, Grouped
from sdlgm.errors import CodeFileError
from sdlgm.models import SDLGM

__all__ = ["BATCH_ROWS", "BitsBack", "batch_sizes"]

BATCH_ROWS = 100
"""Rows per pass through the networks. Smaller batches are padded with zeros, because a kernel for
another shape may round differently."""
_PIECE = 1 << 21  # weights in memory at a time
_HALF_WORD = np.ones(1 << 16)


class BitsBack:
    r"""Encodes and decodes batches of data with a model; the two are exact inverses.

    To encode ``x``: pop a code ``z ~ q(z | x)`` off the stack, push ``x`` under ``p(x | z)``, push
    ``z`` under ``p(z)``. The stack grows by

    .. math:: -\log_2 p(x \mid z) - \log_2 p(z) + \log_2 q(z \mid x)

    bits, the mean of which is the negative ELBO. A structured code is popped part by part, each
    given the parts before it, and pushed in reverse (:class:`~sdlgm.codec.chains.ChainCoder`). The
    latent is discrete, so only probabilities are quantised: to integers ``floor(p 2^24) + 1``, from
    networks in double precision.

    Parameters
    ----------
    model
        A trained model with a Bernoulli, Poisson or categorical likelihood. Both directions must
        compute on the same kind of device.
    top
        For a Poisson likelihood: the largest count with its own probability. Larger counts are
        coded as an escape symbol and 32 plain bits.

    Raises
    ------
    CodeFileError
        If the likelihood is gaussian: real numbers have no lossless code of finite length.

    References
    ----------
    Townsend, Bird, Barber, "Practical lossless compression with latent variables using bits back
    coding", ICLR 2019.
    """

    def __init__(self, model: SDLGM, top: int = 0) -> None:
        self.kind = model.config.likelihood
        if self.kind == "gaussian":
            raise CodeFileError(
                "A gaussian likelihood has densities, not probabilities. Lossless compression "
                "needs a model of bits or integers: bernoulli, poisson or categorical."
            )
        self.model, self.top = copy.deepcopy(model).double().eval(), top
        self.slots = model.config.budget // model.groups
        with torch.no_grad():
            self.prior = self._coder(self.model.prior())

    def encode(self, stack: Stack, x: Tensor) -> int:
        """Encode at most :data:`BATCH_ROWS` rows; return the smallest size of the stack (words)."""
        posterior = self._posterior(x)
        codes = posterior.pop(stack, len(x))
        least = stack.words
        values = x.cpu().numpy().astype(np.int64).ravel()
        parameters, pieces = self._likelihood(codes)
        for piece in reversed(pieces):
            self._push(stack, values[piece], self._weights(parameters[piece]))
        self.prior.push(stack, codes)
        return least

    def decode(self, stack: Stack, rows: int) -> Tensor:
        """Undo :meth:`encode` of a batch of ``rows`` rows; return them as float32 ``(rows, D)``."""
        codes = self.prior.pop(stack, rows)
        parameters, pieces = self._likelihood(codes)
        parts = [self._pop(stack, self._weights(parameters[piece])) for piece in pieces]
        x = torch.from_numpy(np.concatenate(parts)).float().view(rows, self.model.n_inputs)
        self._posterior(x).push(stack, codes)
        return x

    @torch.no_grad()
    def _posterior(self, x: Tensor) -> CodeCoder | ChainCoder:
        return self._coder(self.model(padded(x.to(self.model.device).double(), BATCH_ROWS)), len(x))

    def _coder(self, code: Grouped | Chain, rows: int | None = None) -> CodeCoder | ChainCoder:
        if isinstance(code, Chain):
            return ChainCoder(code.expand((BATCH_ROWS,)), self.model.device)
        return CodeCoder(slot_weights(code, rows), self.slots)

    @torch.no_grad()
    def _likelihood(self, codes: NDArray[np.int32]) -> tuple[Tensor, list[slice]]:
        """Return parameters of ``p(x | z)``, a row per value of ``x``, and slices for memory."""
        given = padded(torch.from_numpy(codes).to(self.model.device).double(), BATCH_ROWS)
        likelihood = self.model.data_distribution(given).base_dist  # type: ignore[attr-defined]
        parameters = likelihood.rate if self.kind == "poisson" else likelihood.probs
        parameters = parameters[: len(codes)].flatten(0, 1)
        size = max(1, _PIECE // max(self.top + 2, parameters[:1].numel()))
        starts = range(0, len(parameters), size)
        return parameters, [slice(start, start + size) for start in starts]

    def _weights(self, parameters: Tensor) -> NDArray[np.int64]:
        """Return weights of the outcomes of each value: ``(m, outcomes)``."""
        if self.kind == "categorical":
            return integers(parameters)
        if self.kind == "bernoulli":
            return integers(torch.stack([1 - parameters, parameters], -1))
        counts = torch.arange(self.top + 1, dtype=torch.float64, device=parameters.device)
        known = td.Poisson(parameters.unsqueeze(-1), validate_args=False).log_prob(counts).exp()
        rest = (1 - known.sum(-1, keepdim=True)).clamp_min(0)
        return integers(torch.cat([known, rest], -1))

    def _push(self, stack: Stack, values: NDArray[np.int64], weights: NDArray[np.int64]) -> None:
        if self.kind == "poisson":
            rest = values[values > self.top]
            stack.push(rest >> 16, _HALF_WORD)
            stack.push(rest & 0xFFFF, _HALF_WORD)
            values = np.minimum(values, self.top + 1)
        stack.push(values, weights)

    def _pop(self, stack: Stack, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        values = stack.pop(len(weights), weights).astype(np.int64)
        if self.kind == "poisson":
            escaped = values > self.top
            low = stack.pop(int(escaped.sum()), _HALF_WORD).astype(np.int64)
            high = stack.pop(int(escaped.sum()), _HALF_WORD).astype(np.int64)
            values[escaped] = high << 16 | low
        return values


def batch_sizes(rows: int) -> list[int]:
    """Return the sizes of the batches in the order of the data: full ones, then smaller ones.

    The last batch is encoded first, when the stack holds only the initial bits. A single row needs
    few of them.
    """
    sizes: list[int] = []
    done = 0
    while done < min(rows, BATCH_ROWS):  # 1, 1, 2, 4, ...: each as many as all before
        sizes.append(min(BATCH_ROWS, max(done, 1), rows - done))
        done += sizes[-1]
    full, rest = divmod(rows - done, BATCH_ROWS)
    sizes += [BATCH_ROWS] * full + [rest] * (rest > 0)
    return sizes[::-1]
