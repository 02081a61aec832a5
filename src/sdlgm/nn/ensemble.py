"""Ensembles of small networks of one shape, computed by batched matrix products."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sdlgm.config import Activation
from sdlgm.errors import ConfigError
from sdlgm.limits import check
from sdlgm.nn.mlp import ACTIVATIONS
from sdlgm.nn.sparse_rows import OwnProduct, SparseRows

__all__ = ["EnsembleLinear", "EnsembleMLP", "drop", "drop_", "kept_scale"]

NARROW = 16
"""Layers with fewer outputs are computed transposed."""


class EnsembleLinear(nn.Module):
    """``members`` linear layers: ``(members, b, inputs)`` to ``(members, b, outputs)``.

    Parameters
    ----------
    members, inputs, outputs
        Sizes.
    generator
        Source of the initial weights, which follow torch's default distribution of a linear layer,
        independently for each member.
    """

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        weight = torch.empty(members, inputs, outputs)
        bias = torch.empty(members, 1, outputs)
        self.weight = nn.Parameter(nn.init.uniform_(weight, -bound, bound, generator=generator))
        self.bias = nn.Parameter(nn.init.uniform_(bias, -bound, bound, generator=generator))

    def forward(self, x: Tensor | SparseRows | OwnProduct) -> Tensor:
        """Apply each member to its own inputs."""
        if isinstance(x, SparseRows | OwnProduct):
            return x.times(self.weight) + self.bias
        if self.weight.shape[-1] >= NARROW:
            return torch.baddbmm(self.bias, x, self.weight)
        return _Narrow.apply(x, self.weight, self.bias)


class _Narrow(torch.autograd.Function):
    """``x @ weight + bias`` with few columns, computed transposed.

    MKL multiplies matrices with few rows three times as fast as matrices with few columns. The
    gradient of x is not computed transposed, so that it has the memory layout of x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias.mT, weight.mT, x.mT).mT

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        into_x = torch.bmm(grad, weight.mT) if ctx.needs_input_grad[0] else None
        return into_x, torch.bmm(grad.mT, x).mT, grad.sum(1, keepdim=True)


class EnsembleMLP(nn.Module):
    """Hidden layers ``linear -> (normalisation) -> activation -> dropout`` of several members.

    Maps ``(members, b, inputs)`` to ``(members, b, hidden[-1])``; the identity if ``hidden`` is
    empty. The normalisation is a LayerNorm without learned weights.

    Parameters
    ----------
    members, inputs, hidden
        Sizes.
    activation
        See :func:`~sdlgm.nn.mlp`.
    normalisation
        ``"layer"`` normalises each hidden layer; ``"none"`` does not.
    dropout
        Share of the hidden units that are dropped in training.
    generator
        Source of the initial weights.
    """

    def __init__(
        self,
        members: int,
        inputs: int,
        hidden: Sequence[int],
        *,
        activation: Activation,
        normalisation: Literal["layer", "none"],
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        check("layers", len(hidden), "hidden", ConfigError)
        widths = (inputs, *hidden)
        self.layers = nn.ModuleList(
            EnsembleLinear(members, *pair, generator) for pair in itertools.pairwise(widths)
        )
        self.activation = ACTIVATIONS[activation]()
        self.normalisation, self.dropout = normalisation, dropout
        self.n_outputs = widths[-1]

    def linear_layers(self) -> list[EnsembleLinear]:
        """Return the layers, without what follows each."""
        return [layer for layer in self.layers if isinstance(layer, EnsembleLinear)]

    def forward(self, x: Any, noise: torch.Generator | None = None) -> Any:
        """Apply the layers, the first one also to :class:`~sdlgm.nn.sparse_rows.SparseRows`.

        ``noise`` is the source of dropout, ``None`` disables it.
        """
        for layer in self.layers:
            x = layer(x)
            if self.normalisation == "layer":
                x = F.layer_norm(x, x.shape[-1:])
            x = drop(self.activation(x), self.dropout, noise)
        return x


def drop(x: Tensor, share: float, noise: torch.Generator | None) -> Tensor:
    """Set a random share of x to zero and scale up the rest: dropout with its own generator.

    Numbers in the same place of several members, x of shape ``(members, b, width)``, are dropped
    together: each member has its own rows and weights, and fewer numbers are drawn. The share is
    rounded to a multiple of 1 / 65,536, and the rest is scaled by the rounded share.
    """
    kept = _kept(x, share, noise)
    return x if kept is None else x * kept


def drop_(x: Tensor, share: float, noise: torch.Generator | None) -> Tensor:
    """Do as :func:`drop`, in place and without a graph."""
    kept = _kept(x, share, noise)
    return x if kept is None else x.mul_(kept)


def kept_scale(share: float) -> float:
    """Return what :func:`drop` multiplies the numbers by that it keeps."""
    return 2**16 / (2**16 - _level(share))


def _kept(x: Tensor, share: float, noise: torch.Generator | None) -> Tensor | None:
    """Return what the numbers of x are multiplied by; ``None`` if nothing is dropped."""
    level = _level(share)
    if not level or noise is None:
        return None
    one = x[0] if x.dim() > 2 else x
    if level == 2**15 and noise.device.type == "cpu":  # a GPU draws as fast as it looks up
        return _half(one, noise)
    return _above(one, level, noise)


def _level(share: float) -> int:
    return min(round(share * 2**16), 2**16 - 1)


def _half(x: Tensor, noise: torch.Generator) -> Tensor:
    """Return 0 or 2 for each number of x, with equal probability: one random bit each."""
    number = x.numel()
    drawn = _words(-(-number // 64), noise).view(torch.uint8).to(torch.int32)
    kept = _bits_of_bytes(x.dtype).index_select(0, drawn)
    return kept.view(x.shape) if number % 64 == 0 else kept.flatten()[:number].view(x.shape)


def _above(x: Tensor, level: int, noise: torch.Generator) -> Tensor:
    """Return 0 for a share ``level / 65,536`` of x, else what keeps the mean: 16 bits each."""
    drawn = _words(-(-x.numel() // 4), noise).view(torch.int16)[: x.numel()].view(x.shape)
    # Writing the comparison as numbers takes a third of the time of a boolean mask.
    kept = torch.ge(drawn, level - 2**15, out=torch.empty_like(x, requires_grad=False))
    return kept.mul_(2**16 / (2**16 - level))


def _words(number: int, noise: torch.Generator) -> Tensor:
    """Return 64 random bits, ``number`` times."""
    words = torch.empty(number, dtype=torch.int64, device=noise.device)
    return words.random_(-(2**63), None, generator=noise)


@functools.cache
def _bits_of_bytes(dtype: torch.dtype) -> Tensor:
    """Return twice the bits of each byte, ``(256, 8)``."""
    return (torch.arange(256).unsqueeze(1) >> torch.arange(8) & 1).to(dtype) * 2
