"""Structured codes: parts of a code that depend on the parts before them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from sdlgm.distributions.gated_multinomial import GatedMultinomial
from sdlgm.distributions.grouped import Grouped

__all__ = ["Chain", "GroupChain", "LevelChain", "OfGroups", "conditionals", "greedy", "joined"]


class Chain(Distribution):
    r"""A code whose parts are drawn one after the other, each given those before it.

    .. math:: p(z) = \prod_{s=1}^S p(z_s \mid z_{<s})

    A part holds consecutive groups, and each factor is a :class:`Grouped` distribution. So every
    conditional has the closed forms of :class:`Grouped`, and the code keeps within the same
    budget. What needs all parts at once, such as the mean or the probability that a feature is
    present, has no closed form.

    Parameters
    ----------
    parts
        Number of parts ``S``, all of the same size.
    groups
        Number of groups of all parts together.
    total_count
        Budget of all parts together.
    features
        Number of features of all parts together.
    batch_shape
        Shape of the batch of codes.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's signature)
    has_enumerate_support = True

    def __init__(
        self, parts: int, groups: int, total_count: int, features: int, batch_shape: Any
    ) -> None:
        self.parts, self.groups, self.total_count = parts, groups, total_count
        super().__init__(Size(batch_shape), Size([features]), validate_args=False)

    @abstractmethod
    def part(self, number: int, prefix: Tensor) -> Grouped:
        """Return the distribution of a part given the parts before it.

        Parameters
        ----------
        number
            Number of the part, from 0.
        prefix
            Codes of the parts before, shape ``(*sample, *batch, number * K / S)``.

        Returns
        -------
        Grouped
            Of batch shape ``(*sample, *batch)``.
        """

    @abstractmethod
    def given(self, codes: Tensor) -> Grouped:
        """Return the product of all conditionals, each given the parts of ``codes`` before it.

        Parameters
        ----------
        codes
            Shape ``(*sample, *batch, K)``.

        Returns
        -------
        Grouped
            Of batch shape ``(*sample, *batch)`` and ``G`` groups. At ``codes`` it has the
            log-probability of this distribution.
        """

    def in_order(self) -> Callable[[int, Tensor], Grouped]:
        """Return a function like :meth:`part` for parts one after the other.

        It must be called for increasing numbers, with prefixes that extend each other. Where no
        gradient is recorded it may keep what it knows of a prefix, and be much faster.
        """
        return self.part

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability (nats) of codes of shape ``(*sample, *batch, K)``."""
        return self.given(value).log_prob(value)

    def follow(self, choose: Callable[[Grouped], Tensor], start: Tensor | None = None) -> Tensor:
        """Build a code part by part.

        Parameters
        ----------
        choose
            Chooses the code of a part from its distribution.
        start
            Codes of the first part, shape ``(*sample, *batch, K / S)``. Default: chosen too.

        Returns
        -------
        Tensor
            Codes of shape ``(*sample, *batch, K)``. A gradient that ``choose`` gives to a code
            also passes through the distributions of the later parts.
        """
        codes, part = self.nothing() if start is None else start, self.in_order()
        for number in range(0 if start is None else 1, self.parts):
            codes = torch.cat([codes, choose(part(number, codes))], -1)
        return codes

    @torch.no_grad()
    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw codes of shape ``(*sample, *batch, K)``, part by part."""
        first = self.part(0, self.nothing()).sample(sample_shape, generator)
        return self.follow(lambda part: part.sample(generator=generator), first)

    @cached_property
    def mode(self) -> Tensor:
        """The greedy code, shape ``(*batch, K)``: the mode of each part given the modes before it.

        It need not be a most probable code of the whole.
        """
        return self.follow(lambda part: part.mode)

    @property
    def rounded_mean(self) -> Tensor:
        """The code nearest to the mean of each part, given the codes so chosen before it."""
        return self.follow(lambda part: part.rounded_mean)

    @cached_property
    def greedy(self) -> Grouped:
        """The product of all conditionals, each given the parts of :attr:`mode` before it."""
        return self.given(self.mode)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All codes, as :meth:`Grouped.enumerate_support`."""
        whole = Grouped(self.greedy.base)
        return whole.enumerate_support(expand)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Codes in which every group keeps within its own budget."""
        return self.greedy.support

    @abstractmethod
    def nothing(self) -> Tensor:
        """Return the codes of no part, shape ``(*batch, 0)``."""


class LevelChain(Chain):
    r"""A chain of few parts, called levels, each with a network of its own.

    Parameters
    ----------
    first
        Distribution of the first level.
    later
        For each further level, a function of the codes of all levels before it, shape ``(*sample,
        *batch, k)``. It returns the level's distribution, of batch shape ``(*sample, *batch)`` and
        with as many groups, slots and features as the first.

    Examples
    --------
    Two levels of one group. The second slot is almost surely open if the first is:

    >>> def second(z):
    ...     logit = 20 * z.sum(-1, keepdim=True) - 10
    ...     return Grouped(GatedMultinomial(1, logit, z.new_zeros(*z.shape[:-1], 1, 2)))
    >>> q = LevelChain(Grouped(GatedMultinomial(1, torch.zeros(1), torch.zeros(1, 2))), [second])
    >>> q.log_prob(torch.tensor([1.0, 0.0, 0.0, 1.0])).exp()  # 1/4 * 1/2
    tensor(0.1250)
    >>> q.sample((5,)).shape
    torch.Size([5, 4])
    """

    def __init__(self, first: Grouped, later: Sequence[Callable[[Tensor], Grouped]]) -> None:
        self.first, self.later = first, tuple(later)
        self._latest: tuple[Tensor, tuple[object, ...], Grouped] | None = None
        levels = 1 + len(self.later)
        super().__init__(
            levels,
            levels * first.groups,
            levels * first.total_count,
            levels * first.event_shape[0],
            first.batch_shape,
        )

    def expand(self, batch_shape: Any, _instance: Distribution | None = None) -> LevelChain:
        """Return the same distribution with its batch expanded to ``batch_shape``."""
        return LevelChain(self.first.expand(batch_shape), self.later)

    def shifted(self, gates: Tensor, features: Tensor) -> LevelChain:
        """Return the chain with offsets added to the logits of every level.

        The offsets of a level do not depend on the levels before it; its logits still do. Shapes as
        for :meth:`Grouped.shifted`.
        """
        offsets = list(
            zip(gates.chunk(self.parts, -1), features.chunk(self.parts, -1), strict=True)
        )

        def moved(number: int) -> Callable[[Tensor], Grouped]:
            return lambda codes: self.part(number, codes).shifted(*offsets[number])

        later = [moved(number) for number in range(1, self.parts)]
        return LevelChain(self.first.shifted(*offsets[0]), later)

    def part(self, number: int, prefix: Tensor) -> Grouped:
        """Return the distribution of a level given the levels before it."""
        if number:
            return self.later[number - 1](prefix)
        return self.first.expand(prefix.shape[:-1])

    def given(self, codes: Tensor) -> Grouped:
        """Return the product of all levels, each given the levels of ``codes`` before it."""
        if self._latest is not None:
            known, state, found = self._latest
            if known is codes and state == _state(codes):
                return found
        size = self.first.event_shape[0]
        later = [self.part(n, codes[..., : n * size]) for n in range(1, self.parts)]
        return joined([self.first, *later], codes.shape[:-1])

    def follow(self, choose: Callable[[Grouped], Tensor], start: Tensor | None = None) -> Tensor:
        """Build a code level by level; the levels' distributions are kept for :meth:`given`."""
        passed = [self.first]

        def choosing(part: Grouped) -> Tensor:
            passed.append(part)
            return choose(part)

        if start is None:
            start = choose(self.first)
        codes = super().follow(choosing, start)
        found = joined(passed, codes.shape[:-1])
        self._latest = (codes, _state(codes), found)
        return codes

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw codes of shape ``(*sample, *batch, K)``, level by level."""
        first = self.first.sample(sample_shape, generator)
        return self.follow(lambda part: part.sample(generator=generator), first)

    def nothing(self) -> Tensor:
        """Return the codes of no part, shape ``(*batch, 0)``."""
        return self.first.base.gate_logits.new_empty((*self.batch_shape, 0))


class OfGroups(Protocol):
    """Computes the distributions of groups from the groups before them."""

    def __call__(self, codes: Tensor, groups: slice) -> Grouped:
        """Return the distributions of some groups, given the groups of codes before each.

        Parameters
        ----------
        codes
            Shape ``(*batch, K)``. Features of a group and of those after it have no influence on
            its distribution.
        groups
            The groups that are wanted.
        """
        ...


class GroupChain(Chain):
    """A chain in which each group depends on all groups before it.

    Parameters
    ----------
    conditional
        Computes all conditionals of a code in one pass.
    groups, total_count, features
        Groups, slots and features of the whole code.
    batch_shape
        Shape of the batch of codes.
    like
        A tensor of the type and on the device of the codes.
    in_order
        Returns a function that does what ``conditional`` does for one group at a time, in
        increasing order, for codes that agree on the groups of earlier calls and end before the
        group. Default: ``conditional``.

    Examples
    --------
    Two groups of one feature. The second slot is almost surely open if the first is:

    >>> def conditional(z, groups):
    ...     before = torch.cat([torch.full_like(z[..., :1], 0.5), z[..., :1]], -1)
    ...     logits = (20 * before - 10)[..., groups]
    ...     return Grouped(GatedMultinomial(1, logits, torch.zeros_like(logits).unsqueeze(-1)))
    >>> p = GroupChain(conditional, groups=2, total_count=2, features=2)
    >>> p.log_prob(torch.tensor([1.0, 1.0])).exp().round(decimals=3)
    tensor(0.5000)
    """

    def __init__(
        self,
        conditional: OfGroups,
        groups: int,
        total_count: int,
        features: int,
        batch_shape: Any = (),
        like: Tensor | None = None,
        in_order: Callable[[], OfGroups] | None = None,
    ) -> None:
        self.conditional, self._in_order = conditional, in_order
        self.like = torch.empty(0) if like is None else like
        super().__init__(groups, groups, total_count, features, batch_shape)

    def expand(self, batch_shape: Any, _instance: Distribution | None = None) -> GroupChain:
        """Return the same distribution with its batch expanded to ``batch_shape``."""
        shape = (self.groups, self.total_count, self.event_shape[0])
        return GroupChain(self.conditional, *shape, batch_shape, self.like, self._in_order)

    def part(self, number: int, prefix: Tensor) -> Grouped:
        """Return the distribution of a group given the groups before it."""
        rest = prefix.new_zeros(*prefix.shape[:-1], self.event_shape[0] - prefix.shape[-1])
        return self.conditional(torch.cat([prefix, rest], -1), slice(number, number + 1))

    def in_order(self) -> Callable[[int, Tensor], Grouped]:
        """Return a function like :meth:`part` for groups one after the other."""
        if self._in_order is None or torch.is_grad_enabled():
            return self.part
        conditional = self._in_order()
        return lambda number, prefix: conditional(prefix, slice(number, number + 1))

    def given(self, codes: Tensor) -> Grouped:
        """Return the product of all groups, each given the groups of ``codes`` before it."""
        return self.conditional(codes, slice(0, self.groups))

    def nothing(self) -> Tensor:
        """Return the codes of no part, shape ``(*batch, 0)``."""
        return self.like.new_empty((*self.batch_shape, 0))


def _state(codes: Tensor) -> tuple[object, ...]:
    """What must be unchanged for distributions given these codes to be still right."""
    version = 0 if codes.is_inference() else codes._version
    return version, codes.requires_grad, torch.is_grad_enabled()


def joined(parts: Sequence[Grouped], batch_shape: Any) -> Grouped:
    """Concatenate the groups of several distributions, with batches that broadcast to one shape.

    Examples
    --------
    >>> part = Grouped(GatedMultinomial(1, torch.zeros(2), torch.zeros(2, 3)))
    >>> joined([part, part], (5,)).groups
    4
    """
    batch = torch.broadcast_shapes(batch_shape, *(p.batch_shape for p in parts))
    gates = [p.base.gate_logits.expand(*batch, p.groups) for p in parts]
    features = [
        p.base.feature_logits.expand(*batch, p.groups, p.base.event_shape[0]) for p in parts
    ]
    base = GatedMultinomial(
        parts[0].base.total_count, torch.cat(gates, -1), torch.cat(features, -2), False
    )
    return Grouped(base)


def conditionals(distribution: Grouped | Chain, codes: Tensor) -> Grouped:
    """Return the groups' distributions given the groups of codes before them.

    Those of a :class:`Grouped` do not depend on the codes: it is returned unchanged.

    Examples
    --------
    >>> q = Grouped(GatedMultinomial(1, torch.zeros(2), torch.zeros(2, 3)))
    >>> conditionals(q, torch.zeros(6)) is q
    True
    """
    return distribution.given(codes) if isinstance(distribution, Chain) else distribution


def greedy(distribution: Grouped | Chain) -> Grouped:
    """Return the groups' distributions given the greedy code of the groups before them.

    Those of a :class:`Grouped` do not depend on a code: it is returned unchanged.

    Examples
    --------
    >>> q = Grouped(GatedMultinomial(1, torch.zeros(2), torch.zeros(2, 3)))
    >>> greedy(q) is q
    True
    """
    return distribution.greedy if isinstance(distribution, Chain) else distribution
