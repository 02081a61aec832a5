"""Networks of structured codes: levels that see those before them, and priors over groups."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdlgm.config import Activation
from sdlgm.nn.mlp import ACTIVATIONS, linear, mlp

__all__ = [
    "LevelNetwork",
    "Logits",
    "MaskedNetwork",
    "MaskedPass",
    "Mixture",
    "MixturePass",
    "compete",
    "single",
]


class Logits(NamedTuple):
    """Logits of some groups."""

    gates: Tensor
    """Log-odds of open gates, shape ``(*batch, groups)``."""
    features: Tensor
    """Unnormalised log-probabilities of features, shape ``(*batch, features)``."""


def single(values: Tensor) -> Tensor:
    """Return values in single precision or better.

    Normalising, counting and summing over many features or slots would be wrong in half precision
    (bfloat16 cannot represent 257).
    """
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def compete(gates: Tensor, features: Tensor) -> Tensor:
    """Return gate logits with which "closed" competes with the features of a group in one softmax.

    The log of the mean exponential of a group's features is added to its gate.

    Examples
    --------
    >>> compete(torch.zeros(1), torch.tensor([1.0, 1.0]))
    tensor([1.])
    """
    of_groups = features.unflatten(-1, (gates.shape[-1], -1))
    return gates + (of_groups.logsumexp(-1) - math.log(of_groups.shape[-1]))


class LevelNetwork(nn.Module):
    """Maps a context and the levels of a code before this one to the logits of this level.

    The first hidden layer adds a linear function of the context to one of the code. The context is
    thus read once for any number of codes.

    Parameters
    ----------
    context
        Width of the context, 0 for none.
    prefix
        Number of features of the levels before.
    hidden
        Widths of the hidden layers, at least one.
    groups, features
        Groups and features of the level.
    activation, normalisation, residual
        As for :func:`~sdlgm.nn.mlp`; the context is added to the first hidden layer if both have
        the same width.
    open_gates, joint_gates
        Whether all gates are always open; whether "closed" competes with the features, see
        :func:`compete`.
    generator
        Source of the initial weights.
    start
        Initial probability of an open gate. ``None`` starts with logits of zero.

    Examples
    --------
    >>> source = torch.Generator().manual_seed(0)
    >>> network = LevelNetwork(
    ...     3, 4, (8, 8), 2, 6, activation="gelu", normalisation="layer", residual=True,
    ...     open_gates=False, joint_gates=True, start=0.5, generator=source,
    ... )
    >>> logits = network(torch.zeros(5, 4), network.read(torch.ones(5, 3)))
    >>> logits.gates.shape, logits.features.shape
    (torch.Size([5, 2]), torch.Size([5, 6]))
    """

    def __init__(
        self,
        context: int,
        prefix: int,
        hidden: Sequence[int],
        groups: int,
        features: int,
        *,
        activation: Activation,
        normalisation: Literal["layer", "none"],
        residual: bool,
        open_gates: bool,
        joint_gates: bool,
        generator: torch.Generator,
        start: float | None,
    ) -> None:
        super().__init__()
        width = hidden[0]
        self.joint_gates, self.groups, self.features = joint_gates, groups, features
        self.adds = residual and context == width
        self.prefix = linear(prefix, width, generator)
        self.context = linear(context, width, generator) if context else None
        first: list[nn.Module] = [nn.LayerNorm(width)] if normalisation == "layer" else []
        self.first = nn.Sequential(*first, ACTIVATIONS[activation]())
        self.rest = mlp(
            width, tuple(hidden[1:]), activation=activation, normalisation=normalisation,
            generator=generator, residual=residual,
        )  # fmt: skip
        last = hidden[-1]
        # A group of one feature has nothing to choose.
        self.gate_head = None if open_gates else linear(last, groups, generator)
        self.feature_head = linear(last, features, generator) if features > groups else None
        if start is None:
            blank(self.gate_head, self.feature_head)
        elif self.gate_head is not None:
            with torch.no_grad():
                self.gate_head.bias.add_(math.log(start) - math.log1p(-start))

    def read(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network needs of a context ``(*batch, width)``: see :meth:`forward`."""
        if self.context is None:
            raise ValueError("This network has no context.")
        return context, self.context(context)

    def forward(self, codes: Tensor, context: tuple[Tensor, Tensor] | None = None) -> Logits:
        """Return the logits given codes of the levels before, shape ``(*sample, *batch, k)``."""
        inner = self.prefix(codes.to(self.prefix.weight.dtype))
        if context is not None:
            inner = inner + context[1]
        inner = self.first(inner)
        if context is not None and self.adds:
            inner = inner + context[0]
        inner = self.rest(inner)
        shape = inner.shape[:-1]
        if self.feature_head is None:
            features = inner.new_zeros(*shape, self.features)
        else:
            features = self.feature_head(inner)
        if self.gate_head is None:
            return Logits(inner.new_full((*shape, self.groups), math.inf), features)
        gates = self.gate_head(inner)
        return Logits(compete(gates, features) if self.joint_gates else gates, features)


def blank(*layers: nn.Linear | None) -> None:
    """Set the weights of layers to zero."""
    for layer in filter(None, layers):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


class MaskedNetwork(nn.Module):
    """Maps a code to logits of each group that depend only on the groups before it.

    A masked network (MADE): every hidden unit sees the first groups up to its own number, and a
    group reads the units that see no other than those before it, and these groups directly. There
    is no normalisation across units, which would mix the groups. All logits start at zero.

    Parameters
    ----------
    groups, features
        Groups and features of a code.
    hidden
        Widths of the hidden layers; a layer of the width before it is residual.
    activation
        Activation after each hidden layer.
    joint_gates
        Whether "closed" competes with the features; see :func:`compete`.
    generator
        Source of the initial weights.

    References
    ----------
    Germain, Gregor, Murray, Larochelle, "MADE: Masked Autoencoder for Distribution Estimation",
    ICML 2015.

    Examples
    --------
    >>> source = torch.Generator().manual_seed(0)
    >>> network = MaskedNetwork(3, 6, (8,), activation="gelu", joint_gates=False, generator=source)
    >>> network(torch.ones(5, 6)).features.shape
    torch.Size([5, 6])
    """

    def __init__(
        self,
        groups: int,
        features: int,
        hidden: Sequence[int],
        *,
        activation: Activation,
        joint_gates: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.groups, self.size = groups, features // groups
        self.joint_gates = joint_gates
        self.activation = ACTIVATIONS[activation]()
        # A unit of a hidden layer sees the first groups, up to a number that grows with the unit.
        self.seen = seen = [torch.arange(features) // self.size + 1]
        seen += [1 + torch.arange(width) * (groups - 1) // width for width in hidden]
        # A group has its features and then its gate among the outputs.
        before = torch.arange(groups * (self.size + 1)) // (self.size + 1)
        self.layers = nn.ModuleList(
            _Masked(units, inputs, generator) for inputs, units in itertools.pairwise(seen)
        )
        self.output = _Masked(before, seen[-1], generator, zero=True) if hidden else None
        self.direct = _Masked(before, seen[0], generator, zero=True)

    def forward(self, codes: Tensor, groups: slice | None = None) -> Logits:
        """Return the logits of some groups (default: all) for codes of shape ``(*batch, K)``."""
        inner = codes = codes.to(self.direct.linear.weight.dtype)
        for number, layer in enumerate(self.layers):
            outer = self.activation(layer(inner))
            inner = inner + outer if number and outer.shape == inner.shape else outer
        first, last = _ends(groups, self.groups)
        rows = slice(first * (self.size + 1), last * (self.size + 1))
        logits = self.direct(codes, rows)
        if self.output is not None:
            logits = logits + self.output(inner, rows)
        return self.split(logits)

    def split(self, outputs: Tensor) -> Logits:
        """Return outputs of some groups as their logits."""
        by_group = outputs.unflatten(-1, (-1, self.size + 1))
        features, gates = by_group[..., :-1].flatten(-2), by_group[..., -1]
        return Logits(compete(gates, features) if self.joint_gates else gates, features)

    def in_order(self) -> MaskedPass:
        """Return a function that computes the groups one after the other; see there."""
        return MaskedPass(self)


class MaskedPass:
    """Computes the logits of groups one after the other, each hidden unit once.

    Called like :class:`MaskedNetwork`, with one group at a time in increasing order, and with codes
    that agree on all groups of earlier calls. Codes may end before the group. It takes about as
    long for all groups as the network for a whole code. No gradients.

    Parameters
    ----------
    network
        The network. Its weights must not change meanwhile.
    """

    def __init__(self, network: MaskedNetwork) -> None:
        self.network = network
        self.seen = [units.tolist() for units in network.seen[1:]]
        self.units: list[Tensor] = []
        self.known = [0] * len(self.seen)

    @torch.no_grad()
    def __call__(self, codes: Tensor, groups: slice) -> Logits:
        """Return the logits of one group."""
        network, number = self.network, groups.start
        inner = codes[..., : number * network.size].to(network.direct.linear.weight.dtype)
        rows = slice(number * (network.size + 1), (number + 1) * (network.size + 1))
        logits = network.direct(inner, rows)
        for place, layer in enumerate(network.layers):
            inner = self._units(place, layer, inner, number)  # type: ignore[arg-type]
        if network.output is not None:
            logits = logits + network.output(inner, rows)
        return network.split(logits)

    def _units(self, place: int, layer: _Masked, inner: Tensor, number: int) -> Tensor:
        """Return the units of a layer that see no more than the first ``number`` groups."""
        seen, first = self.seen[place], self.known[place]
        last = bisect.bisect_right(seen, number)
        if place == len(self.units):
            self.units.append(inner.new_empty(*inner.shape[:-1], len(seen)))
        units = self.units[place]
        if last > first:
            outer = self.network.activation(layer(inner, slice(first, last)))
            residual = place and units.shape == self.units[place - 1].shape
            units[..., first:last] = inner[..., first:last] + outer if residual else outer
            self.known[place] = last
        return units[..., :last]


class _Masked(nn.Module):
    """A linear layer whose outputs see only the inputs that know of no more groups.

    Parameters
    ----------
    outputs, inputs
        Numbers of groups that each output may know of, and that each input does.
    generator
        Source of the initial weights.
    zero
        Whether all weights start at zero.
    """

    mask: Tensor

    def __init__(
        self,
        outputs: Tensor,
        inputs: Tensor,
        generator: torch.Generator,
        zero: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear(len(inputs), len(outputs), generator)
        if zero:
            blank(self.linear)
        mask = (outputs.unsqueeze(-1) >= inputs).to(self.linear.weight.dtype)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, inputs: Tensor, rows: slice = slice(None)) -> Tensor:
        """Return some of the outputs (default: all); they must not see inputs that are left out."""
        layer, given = self.linear, slice(inputs.shape[-1])
        weight = layer.weight[rows, given] * self.mask[rows, given]
        return F.linear(inputs, weight, layer.bias[rows])


def _ends(groups: slice | None, number: int) -> tuple[int, int]:
    return (0, number) if groups is None else (groups.start, groups.stop)


class Mixture(nn.Module):
    r"""A mixture of products over groups, as distributions of a group given the groups before.

    With weights :math:`w_m` and slot probabilities :math:`p_{mg}` of component ``m`` in group
    ``g``,

    .. math::

        p(z_g \mid z_{<g}) = \sum_m r_m(z_{<g})\, p_{mg}(z_g), \qquad
        r_m(z_{<g}) \propto w_m \prod_{h < g} p_{mh}(z_h)

    With one slot per group these are again gated multinomials of one slot.

    Parameters
    ----------
    components
        Number of components.
    groups, features
        Groups and features of a code.
    open_gates
        Whether all gates are always open.
    start
        Initial probability of an open gate.
    generator
        Source of noise of standard deviation 1/2 in the initial logits, which sets the
        components apart.

    Examples
    --------
    >>> source = torch.Generator().manual_seed(0)
    >>> mixture = Mixture(4, 3, 6, open_gates=False, start=0.5, generator=source)
    >>> mixture(torch.zeros(5, 6)).gates.shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        components: int,
        groups: int,
        features: int,
        *,
        open_gates: bool,
        start: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.groups, self.open_gates = groups, open_gates

        def around(mean: float, width: int) -> nn.Parameter:
            # One dimension, because weight decay acts on matrices and the logits must not decay.
            values = torch.empty(components * width)
            if not values.is_meta:
                nn.init.normal_(values, mean, 0.5, generator=generator)
            return nn.Parameter(values)

        self.weight_logits = nn.Parameter(torch.zeros(components))
        self.gate_logits = around(math.log(start) - math.log1p(-start), groups)
        self.feature_logits = around(0.0, features)

    def log_probs(self) -> Tensor:
        """Log-probabilities of a slot's outcomes, "closed" last: shape ``(M, G, K/G + 1)``."""
        shape = (len(self.weight_logits), self.groups, -1)
        features = single(self.feature_logits).view(shape).log_softmax(-1)
        gates = single(self.gate_logits).view(shape)
        if self.open_gates:
            return torch.cat([features, torch.full_like(gates, -torch.inf)], -1)
        return torch.cat([features + F.logsigmoid(gates), F.logsigmoid(-gates)], -1)

    def forward(self, codes: Tensor, groups: slice | None = None) -> Logits:
        """Return the logits of some groups (default: all) for codes of shape ``(*batch, K)``.

        Sums over groups and components would be wrong in half precision.
        """
        with torch.autocast(codes.device.type, enabled=False):
            return self._mixed(codes, *_ends(groups, self.groups))

    def _mixed(self, codes: Tensor, first: int, last: int) -> Logits:
        log_probs = self.log_probs()
        counts = codes.to(log_probs.dtype).unflatten(-1, (self.groups, -1))[..., :last, :]
        if not self.open_gates:
            counts = torch.cat([counts, 1 - counts.sum(-1, keepdim=True)], -1)
        known = log_probs[:, :last, : counts.shape[-1]]
        lead = counts.shape[:-2]
        # (G, N, outcomes) x (G, outcomes, M): the log-probability of each group and component.
        by_group = counts.reshape(-1, *counts.shape[-2:]).transpose(0, 1) @ known.permute(1, 2, 0)
        before = F.pad(by_group[:-1].cumsum(0), (0, 0, 0, 0, 1, 0))
        joint = single(self.weight_logits).log_softmax(-1) + before
        shares = joint[first:].softmax(-1)  # of components, given the groups before
        mixed = (shares @ log_probs[:, first:last].exp().transpose(0, 1)).transpose(0, 1)
        return self.as_logits(mixed.reshape(*lead, last - first, -1))

    def as_logits(self, mixed: Tensor) -> Logits:
        """Return probabilities of the outcomes of some groups as their logits."""
        tiny = torch.finfo(mixed.dtype).tiny
        features = mixed[..., :-1].clamp_min(tiny).log()
        if self.open_gates:
            gates = torch.full_like(mixed[..., -1], torch.inf)
        else:
            gates = features.logsumexp(-1) - mixed[..., -1].clamp_min(tiny).log()
        return Logits(gates, features.flatten(-2))

    def in_order(self) -> MixturePass:
        """Return a function that computes the groups one after the other; see there."""
        return MixturePass(self)


class MixturePass:
    """Computes the logits of groups one after the other, each group's evidence once.

    Called like :class:`Mixture`, with one group at a time in increasing order, and with codes that
    agree on all groups of earlier calls. Codes may end before the group. No gradients.

    Parameters
    ----------
    mixture
        The mixture. Its weights must not change meanwhile.
    """

    @torch.no_grad()
    def __init__(self, mixture: Mixture) -> None:
        self.mixture, self.known = mixture, 0
        self.log_probs = mixture.log_probs()
        self.joint = single(mixture.weight_logits).log_softmax(-1)

    @torch.no_grad()
    def __call__(self, codes: Tensor, groups: slice) -> Logits:
        """Return the logits of one group."""
        outcomes = self.log_probs.shape[-1]
        size = outcomes - 1
        for group in range(self.known, groups.start):
            counts = codes[..., group * size : (group + 1) * size].to(self.log_probs.dtype)
            if not self.mixture.open_gates:
                counts = torch.cat([counts, 1 - counts.sum(-1, keepdim=True)], -1)
            self.joint = self.joint + counts @ self.log_probs[:, group, : counts.shape[-1]].T
        self.known = groups.start
        shares = self.joint.softmax(-1).expand(*codes.shape[:-1], -1)
        return self.mixture.as_logits(
            (shares @ self.log_probs[:, groups.start].exp()).unsqueeze(-2)
        )
