"""Search for codes of models with a linear decoder and a Gaussian likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.config import ModelConfig, quadratic
from sdlgm.memory import numbers_at_once

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = [
    "AdditiveSearch",
    "additive_sum",
    "is_linear",
    "is_quadratic",
    "quadratic_search",
    "shares_of",
    "standard_residual",
    "weights_of_errors",
]

NUMBERS_AT_ONCE = 2**21
"""Products of rows and entries that are held at a time on a CPU: 8 MB in single precision."""

TABLE_LIMIT = 2**26
"""Products of entries that are kept: 256 MB in single precision. Larger tables are computed anew
for each block of rows and each group."""


def is_linear(model: SDLGM) -> bool:
    r"""Whether decoded rows are linear in the code: :math:`\hat x(z) = c + A z`.

    This holds for a Gaussian likelihood and a decoder without hidden layers.
    """
    return model.config.likelihood == "gaussian" and not model.config.decoder_hidden


def is_quadratic(model: SDLGM) -> bool:
    """Whether ``-log p(x | z)`` is quadratic in ``z``, with at most one feature in each group.

    This holds for a Gaussian likelihood, a decoder without hidden layers, and one slot per group;
    the prior must be a product over groups, too.
    """
    return quadratic(model.config)


class AdditiveSearch:
    r"""Searches for sums of entries, one of each group, that are close to vectors.

    Minimises, for each vector :math:`x`,

    .. math:: J(s) = \sum_{m=1}^G w_m \Big\|x - \sum_{g \le m} c_{g, s_g}\Big\|^2
        + \beta \sum_g \ell_{g, s_g}

    over :math:`s`, where :math:`c` are the entries, :math:`\ell` their lengths, and :math:`w_m` the
    weight of the error of the first :math:`m` groups. It computes the products of all entries once.
    A sweep over the groups then takes sums of table rows and no product with :math:`x`.

    Parameters
    ----------
    entries
        Entries ``c`` of shape ``(G, S, D)``.
    lengths
        Lengths of shape ``(G, S)``; an infinite one is never selected. Default: zeros.
    error_weights
        Weights ``w`` of the errors, ``(G,)``, at least 0 and the last one positive. Default: 1 for
        all groups, and 0 for fewer.

    Examples
    --------
    >>> entries = torch.tensor([[[0.0], [4.0]], [[0.0], [1.0]]])
    >>> search = AdditiveSearch(entries)
    >>> search(torch.tensor([[4.9], [0.8]]), width=2).tolist()
    [[1, 1], [0, 1]]
    """

    def __init__(
        self,
        entries: Tensor,
        lengths: Tensor | None = None,
        error_weights: Sequence[float] | None = None,
    ) -> None:
        self.groups, self.size, _ = entries.shape
        self.entries = entries
        self._weights = error_weights or [0.0] * (self.groups - 1) + [1.0]
        self._shares = shares_of(self._weights)
        self._flat = entries.flatten(0, 1)
        lengths = entries.new_zeros(entries.shape[:2]) if lengths is None else lengths
        never = lengths.isinf()
        self._lengths = lengths.masked_fill(never, 0.0)
        self._share = entries.new_tensor(self._shares).unsqueeze(-1)
        self._bias = (self._share * entries.square().sum(-1)).masked_fill(never, torch.inf)
        self._first = torch.arange(self.groups, device=entries.device) * self.size
        self._at_once = numbers_at_once(entries.device, NUMBERS_AT_ONCE)
        keep = len(self._flat) ** 2 <= TABLE_LIMIT
        self._tables = [self._table(group) for group in range(self.groups)] if keep else []

    def __call__(
        self,
        x: Tensor,
        *,
        rate: Tensor | float = 0.0,
        start: Tensor | None = None,
        width: int = 8,
        sweeps: int = 8,
    ) -> Tensor:
        """Return the index of an entry in each group, shape ``(n, G)``.

        Parameters
        ----------
        x
            Vectors, shape ``(n, D)``.
        rate
            Weight ``beta`` of the lengths, at least 0: a number or shape ``(n,)``.
        start
            Indices ``(n, G)`` to improve. Default: a beam search over the groups in their order.
        width
            Number of candidates that the beam search keeps; each is improved, and the best wins.
        sweeps
            Largest number of sweeps over the groups. Each replaces one entry at a time by the best
            one, given the others, so that ``J`` never rises.
        """
        rates = torch.as_tensor(rate, dtype=x.dtype, device=x.device).reshape(-1, 1)
        found = []
        for rows in self._blocks(len(x), 1 if start is not None else width):
            block, beta = x[rows], _of_rows(rates, rows)
            products = [
                -2 * share * (block @ own.T)
                for own, share in zip(self.entries, self._shares, strict=True)
            ]
            if start is not None:
                found.append(self._sweep(products, start[rows], beta, sweeps)[0])
                continue
            beams = self._beam(products, beta, width)
            wide = beams.shape[1]
            which = torch.arange(len(block), device=x.device).repeat_interleave(wide)
            slots, cost = self._sweep(products, beams.flatten(0, 1), beta, sweeps, which)
            best = cost.view(-1, wide).argmin(1)
            found.append(slots.view(-1, wide, self.groups)[which[::wide], best])
        return torch.cat(found) if found else x.new_zeros(0, self.groups, dtype=torch.int64)

    def close(self, x: Tensor, slots: Tensor, most: int, *, rate: Tensor | float = 0.0) -> Tensor:
        """Close slots until at most ``most`` hold a feature, one at a time.

        The last entry of each group must be zero; it stands for a closed slot. Each step closes the
        slot that raises ``J`` least. Arguments are those of a call.
        """
        slots, last = slots.clone(), self.size - 1
        rates = torch.as_tensor(rate, dtype=x.dtype, device=x.device).reshape(-1, 1)
        squares, lengths = self.entries.square().sum(-1), self._lengths.flatten()
        squares = (self._share * squares).flatten()
        weights = x.new_tensor(self._weights).unsqueeze(-1)
        for _ in range(self.groups - most):
            over = ((slots != last).sum(-1) > most).nonzero().squeeze(-1)
            for rows in over.split(max(1, self._at_once // self.entries[:, 0].numel())):
                places = slots[rows] + self._first
                selected = self._flat[places]
                residual = weights * (x[rows].unsqueeze(1) - selected.cumsum(1))
                residual = residual.flip(1).cumsum(1).flip(1)  # of all prefixes with the group
                rise = 2 * (selected * residual).sum(-1) + squares[places]
                saved = lengths[places] - lengths[self._first + last]
                rise -= _of_rows(rates, rows) * saved
                rise.masked_fill_(slots[rows] == last, torch.inf)
                slots[rows, rise.argmin(-1)] = last
        return slots

    def decode(self, slots: Tensor) -> Tensor:
        """Return the sums of the entries ``(n, G)``, shape ``(n, D)``."""
        return additive_sum(self.entries, slots)

    def _blocks(self, number: int, width: int) -> Iterator[slice]:
        """Yield blocks of rows of so many products, and candidates, as are held at a time."""
        per_row = self.size * max(self.groups, width)
        step = max(1, self._at_once // per_row)
        return (slice(at, at + step) for at in range(0, number, step))

    def _table(self, group: int) -> Tensor:
        """Return twice the products of all entries with those of a group, shape ``(G S, S)``.

        They are weighted by the prefixes that hold both groups.
        """
        both = self._share.clamp(max=self._shares[group])
        return 2 * both.repeat_interleave(self.size, 0) * (self._flat @ self.entries[group].T)

    def _products_of(self, slots: Tensor, others: list[int], group: int) -> Tensor:
        """Return twice the products of a group's entries with the sum of the others' selected."""
        table = self._tables[group] if self._tables else self._table(group)
        if not others:
            return table.new_zeros(len(slots), self.size)
        return F.embedding_bag((slots + self._first)[:, others], table, mode="sum")

    def _charge(self, rate: Tensor, group: int) -> Tensor:
        """Return what an entry costs by itself, shape ``(n, S)``, or ``(1, S)`` for one rate."""
        return self._bias[group] + rate * self._lengths[group]

    def _beam(self, products: list[Tensor], rate: Tensor, width: int) -> Tensor:
        """Return the best codes that a beam search finds, shape ``(n, w, G)``."""
        number, device = len(products[0]), products[0].device
        slots = torch.zeros(number, 1, self.groups, dtype=torch.int64, device=device)
        total = products[0].new_zeros(number, 1)
        for group in range(self.groups):
            wide = slots.shape[1]
            alone = products[group] + self._charge(rate, group)
            joint = self._products_of(slots.flatten(0, 1), list(range(group)), group)
            cost = total.unsqueeze(-1) + alone.unsqueeze(1) + joint.view(number, wide, self.size)
            kept = min(width, wide * self.size)
            total, best = cost.flatten(1).topk(kept, largest=False)
            parent = (best // self.size).unsqueeze(-1).expand(-1, -1, self.groups)
            slots = slots.gather(1, parent)
            slots[:, :, group] = best % self.size
        return slots

    def _sweep(
        self,
        products: list[Tensor],
        slots: Tensor,
        rate: Tensor,
        sweeps: int,
        which: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Improve slots one group at a time; return them and ``J`` up to a term of ``x``.

        ``which`` names the row of ``products`` and ``rate`` that a row of ``slots`` belongs to.
        """
        slots = slots.clone()
        everything = torch.arange(len(slots), device=slots.device) if which is None else which
        active = torch.arange(len(slots), device=slots.device)
        for _ in range(sweeps):
            now = slots[active]
            before = now.clone()
            rows = everything[active]
            charged = _of_rows(rate, rows)
            for group in range(self.groups):
                others = [other for other in range(self.groups) if other != group]
                cost = self._products_of(now, others, group)
                cost += products[group].index_select(0, rows)
                cost += self._charge(charged, group)
                best = _argmin(cost)
                held = now[:, group]
                better = _at(cost, best) < _at(cost, held)
                now[:, group] = torch.where(better, best, held)
            slots[active] = now
            active = active[(now != before).any(-1)]
            if not len(active):
                break
        return slots, self._cost(products, slots, rate, everything)

    def _cost(self, products: list[Tensor], slots: Tensor, rate: Tensor, rows: Tensor) -> Tensor:
        """Return ``J`` less the squared norm of ``x``, shape ``(n,)``."""
        alone = sum(own[rows, held] for own, held in zip(products, slots.T, strict=True))
        length = self._lengths.flatten()[slots + self._first].sum(-1)
        charged = _of_rows(rate, rows).squeeze(-1)
        squares = sum(
            weight * additive_sum(self.entries[:groups], slots[:, :groups]).square().sum(-1)
            for groups, weight in enumerate(self._weights, 1)
            if weight
        )
        return alone + charged * length + squares


def shares_of(weights: Sequence[float]) -> list[float]:
    """Return for each group the total weight of the prefixes that hold it: it never rises.

    Examples
    --------
    >>> shares_of([0.25, 0.0, 0.75])
    [1.0, 0.75, 0.75]
    """
    return [math.fsum(weights[group:]) for group in range(len(weights))]


def weights_of_errors(config: ModelConfig) -> list[float]:
    """Return the weights of the errors of the first 1, ..., G groups that a model minimises.

    They are equal for the prefixes and the whole code, and sum to 1.

    Examples
    --------
    >>> from sdlgm.config import ModelConfig
    >>> settings = {"features": 12, "budget": 4, "likelihood": "gaussian"}
    >>> weights_of_errors(ModelConfig(**settings, prefixes=(2,)))
    [0.0, 0.5, 0.0, 0.5]
    """
    groups = config.groups or config.budget
    served = {*config.prefixes, groups}
    return [(group in served) / len(served) for group in range(1, groups + 1)]


def additive_sum(entries: Tensor, slots: Tensor) -> Tensor:
    """Return the sums of selected entries: ``entries`` ``(G, S, D)``, ``slots`` ``(n, G)``."""
    groups, size, _ = entries.shape
    first = torch.arange(groups, device=entries.device) * size
    return F.embedding_bag(slots + first, entries.flatten(0, 1), mode="sum")


def _argmin(values: Tensor) -> Tensor:
    """Return the place of the least value of each row; NumPy's is ten times as fast on a CPU."""
    if values.device.type != "cpu":
        return values.argmin(-1)
    return torch.from_numpy(values.numpy().argmin(-1))


def _of_rows(rates: Tensor, rows: Tensor | slice) -> Tensor:
    """Return the rates ``(n, 1)`` of some rows, or the only rate, ``(1, 1)``."""
    return rates[rows] if len(rates) > 1 else rates


def _at(values: Tensor, places: Tensor) -> Tensor:
    return values.gather(-1, places.unsqueeze(-1)).squeeze(-1)


_KEPT: WeakKeyDictionary[SDLGM, tuple[list[tuple[int, int]], AdditiveSearch]] = WeakKeyDictionary()
"""The latest search of each model, and the state of the weights that it was made from."""


def quadratic_search(model: SDLGM) -> AdditiveSearch:
    r"""Return the search over the codes of a model for which :func:`is_quadratic` is true.

    Vectors are residuals without any feature (:func:`standard_residual`), and the last entry of a
    group stands for a closed slot. ``J`` with a rate of :math:`\beta` is then, up to a constant,
    :math:`-2 \log p(x \mid z) - \beta \log p(z)`, where the first term is a mean over the
    prefixes of ``z`` that serve alone, if the model has such. The search is kept until the model
    changes.
    """
    tensors = (*model.output_head.parameters(), model.prior_gate_logits,
               model.prior_feature_logits, *model.likelihood.parameters())  # fmt: skip
    state = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
    kept = _KEPT.get(model)
    if kept is None or kept[0] != state:
        kept = _KEPT[model] = state, _new_search(model)
    return kept[1]


@torch.no_grad()
def _new_search(model: SDLGM) -> AdditiveSearch:
    size = model.config.features // model.groups
    spread = _without_features(model).standard.scale[0]
    entries = (model.output_head.weight / spread.unsqueeze(-1)).T.unflatten(0, (-1, size))
    lengths = _lengths(model)
    if model.config.gates != "learned":
        lengths[:, -1] = torch.inf
    return AdditiveSearch(F.pad(entries, (0, 0, 0, 1)), lengths, weights_of_errors(model.config))


@torch.no_grad()
def standard_residual(model: SDLGM, x: Tensor) -> Tensor:
    """Return samples ``(n, D)`` less the decoder's bias, in units of the likelihood's scale."""
    base = _without_features(model)
    residual: Tensor = (base.standard_units(x) - base.standard.loc) / base.standard.scale
    return residual


def _without_features(model: SDLGM) -> Any:
    """Return the scaled normal distribution of a sample whose slots are all closed."""
    nothing = torch.zeros(1, model.config.features, device=model.output_head.weight.device)
    return model.data_distribution(nothing).base_dist  # type: ignore[attr-defined]


def _lengths(model: SDLGM) -> Tensor:
    """Return ``-log p`` of each outcome of a slot under the prior, shape ``(G, K/G + 1)``."""
    gate = model.prior_gate_logits.unsqueeze(-1)
    feature = model.prior_feature_logits.unflatten(0, (model.groups, -1)).log_softmax(-1)
    return -torch.cat([F.logsigmoid(gate) + feature, F.logsigmoid(-gate)], -1)
