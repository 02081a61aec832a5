"""Several small networks of one shape as one tensor: a batched product instead of a loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdlgm.config import Activation
from sdlgm.nn.mlp import ACTIVATIONS

__all__ = ["EnsembleLinear", "EnsembleMLP", "drop"]


class EnsembleLinear(nn.Module):
    """``members`` linear layers: ``(members, b, inputs)`` to ``(members, b, outputs)``.

    Parameters
    ----------
    members, inputs, outputs
        Sizes.
    generator
        Source of the initial weights: torch's default law of a linear layer, each member its own
        draw.
    """

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        weight = torch.empty(members, inputs, outputs)
        bias = torch.empty(members, 1, outputs)
        self.weight = nn.Parameter(nn.init.uniform_(weight, -bound, bound, generator=generator))
        self.bias = nn.Parameter(nn.init.uniform_(bias, -bound, bound, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Apply each member to its own inputs."""
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleMLP(nn.Module):
    """Hidden layers ``linear -> (normalisation) -> activation -> dropout`` of several members.

    Maps ``(members, b, inputs)`` to ``(members, b, hidden[-1])``; the identity if ``hidden`` is
    empty. The normalisation is a LayerNorm without weights of its own.

    Parameters
    ----------
    members, inputs, hidden
        Sizes.
    activation
        As of :func:`~sdlgm.nn.mlp`.
    normalise
        Whether to normalise each hidden layer.
    dropout
        Share of the hidden units that a training pass leaves out.
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
        normalise: bool,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        self.layers = nn.ModuleList(
            EnsembleLinear(members, *pair, generator) for pair in itertools.pairwise(widths)
        )
        self.activation = ACTIVATIONS[activation]()
        self.normalise, self.dropout = normalise, dropout
        self.n_outputs = widths[-1]

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Apply the layers; units are left out only where ``noise``, their source, is given."""
        for layer in self.layers:
            x = layer(x)
            if self.normalise:
                x = F.layer_norm(x, x.shape[-1:])
            x = drop(self.activation(x), self.dropout, noise)
        return x


def drop(x: Tensor, share: float, noise: torch.Generator | None) -> Tensor:
    """Set a random share of x to zero and scale up the rest (dropout, from a generator we own)."""
    if not share or noise is None:
        return x
    kept = torch.rand(x.shape, dtype=x.dtype, generator=noise) >= share
    return x * kept / (1 - share)
