"""Fit a linear decoder and a prior to codes that are searched for: hard EM, with annealed noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.config import TrainingConfig
from sdlgm.data import Samples
from sdlgm.errors import warn
from sdlgm.inference.codes import CANDIDATES
from sdlgm.inference.linear import AdditiveSearch, additive_sum, weights_of_errors
from sdlgm.inference.refitting import ROWS_AT_ONCE, least_squares, set_prior, weighted_counts
from sdlgm.models import SDLGM
from sdlgm.nn import rows_at_once
from sdlgm.nn.statistics import list_columns
from sdlgm.random import generator
from sdlgm.training.targets import Reached, Target, find_crossing

__all__ = ["Turn", "fit_codes", "rows_of_turns"]

MAX_ROWS, MAX_NUMBERS = 65_536, 2**26
"""Most rows that turns visit, and most numbers in them (256 MB in single precision). Of more rows,
as many are drawn. The encoder's training visits them all."""

NOISE = 0.5
"""Deviation of the noise of the first turn, relative to that of the data."""

SWEEPS = 2
"""Sweeps of a turn, which starts at the codes of the turn before."""

WIDTH = 4
"""Candidates of the beam search in the last turn, which starts from scratch."""

ROUGHLY, EXACTLY = (1024, 3, 1), (4096, 12, CANDIDATES)
"""Rows, most steps and candidates of the search for the weight of the length, if there is a target:
after each turn, and at the end."""

FREE, HIGHEST = 0.05, 100.0
"""Range of that weight: from this share of the slope of a Gaussian vector at the error of codes,
where length has next to no influence, to this multiple of the variance, where it decides alone."""

RISE = 12.0
"""Largest rise of the logarithm of that weight over all turns. A faster rise closes the slots of
features before the others could take their place, and closed ones seldom open again."""

MOST, ROWS_TO_JUDGE = 0.95, 100
"""Share of the variance in one column, or in one row of a hundred, from which there is a warning;
and the number of rows from which it is judged."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """What a turn of search and refitting reached on the rows that it visited."""

    turn: int
    """Number of the turn, from 1."""
    distortion: float
    """Mean squared error as a share of the variance, both in standard units."""
    bits: float
    """Mean length of a code under the refitted prior."""
    rows: int
    """Number of different rows that it visited."""
    prefixes: dict[int, float] = dataclasses.field(default_factory=dict)
    """The distortion of each prefix that serves alone, by its number of groups."""

    def line(self) -> dict[str, Any]:
        """Return a line of the log."""
        numbers = dataclasses.asdict(self)
        of_prefixes = {f"distortion_{m}": error for m, error in numbers.pop("prefixes").items()}
        return {"event": "turn", "step": 0, **numbers, **of_prefixes}


def rows_of_turns(width: int) -> int:
    """Return the most rows of a number of columns that turns visit."""
    return min(MAX_ROWS, max(1, MAX_NUMBERS // width))


@torch.no_grad()
def fit_codes(
    model: SDLGM,
    rows: Samples,
    config: TrainingConfig,
    *,
    index: Tensor,
    weights: Tensor,
    device: torch.device | str = "cpu",
    show: Callable[[Turn], None] = lambda turn: None,
) -> list[Turn]:
    r"""Fit the decoder, the prior and the likelihood's scale of a quadratic model in place.

    Minimises the mean over rows of

    .. math:: J(z) = \|t - W z - b\|^2 - \beta \log p(z)

    where :math:`t` is the row in standard units, over the codes :math:`z`, the decoder and the
    prior in turn. A turn searches for codes with a noisy decoder, fits the decoder to them by least
    squares, and sets the prior to their frequencies. The noise falls to zero over the turns. It
    lets codes leave poor optima and spreads them over all features. The last turn searches without
    noise and from scratch, as ``code="search"`` does. If a model has ``prefixes``, the squared
    error is the mean of theirs and of that of the whole code.

    The rate weight :math:`\beta` is 0 by default, so that codes use the full budget. With a target
    rate or distortion, it is set after each turn, from the codes of some of the rows. It starts
    low, and rises by small steps.

    Parameters
    ----------
    model
        A model for which :func:`~sdlgm.inference.linear.is_quadratic` is true.
    rows, index, weights
        The data; which of the rows to use, and their positive weights.
    config
        Gives ``turns``, ``rate``, ``distortion`` and ``seed``.
    device
        Where to compute.
    show
        Called after each turn.

    Returns
    -------
    list of Turn
        What each turn reached.

    References
    ----------
    Martinez et al., "LSQ++: Lower running time and higher recall in multi-codebook quantization",
    ECCV 2018 (noise on codebooks). Chou, Lookabaugh, Gray, "Entropy-constrained vector
    quantization", 1989 (the weight of the length).
    """
    x, weights = _standard(model, rows, index).cpu(), weights.double().cpu()
    _warn_if_concentrated(x, weights, rows)
    x, weights = _merged(x, weights)
    fit = _HardEM(model, x.to(device), weights.to(device), config)
    found = []
    for turn in range(1, config.turns + 1):
        found.append(fit.turn(turn))
        show(found[-1])
    fit.calibrate(*EXACTLY, turn=False)
    fit.warn_if_missed()
    fit.store()
    return found


def _standard(model: SDLGM, rows: Samples, index: Tensor) -> Tensor:
    """Return rows in standard units, a block at a time."""
    noise = generator(0, "bits")  # real numbers take none
    device = model.input_shift.device
    parts = index.split(rows_at_once(rows.n_inputs))
    return torch.cat([model.standard_units(rows.batch(part, noise).to(device)) for part in parts])


def _warn_if_concentrated(x: Tensor, weights: Tensor, rows: Samples) -> None:
    """Warn if nearly all of the variance is in one column, or in one row of a hundred.

    ``x`` are rows in standard units, which are centred.
    """
    if len(x) < ROWS_TO_JUDGE:
        return
    blocks = list(zip(x.split(ROWS_AT_ONCE), weights.split(ROWS_AT_ONCE), strict=True))
    of_columns = torch.stack([part @ each.double().square() for each, part in blocks]).sum(0)
    of_rows = weights * torch.cat([each.double().square().sum(-1) for each, _ in blocks])
    total = float(of_columns.sum())
    column, large = int(of_columns.argmax()), of_rows.topk(len(x) // ROWS_TO_JUDGE).values
    if int((of_columns > 0).sum()) > 1 and float(of_columns[column]) > MOST * total:
        warn(
            f"{rows.name}: {list_columns([column], rows.columns)} holds "
            f"{float(of_columns[column]) / total:.1%} of the variance, so that codes tell little "
            "of the others. Leave it out if it is an id, or take scaling = 'columns'."
        )
    if float(large.sum()) > MOST * total:
        warn(
            f"{rows.name}: {len(large)} of {len(x):,} rows hold {float(large.sum()) / total:.1%} "
            "of the variance, so that codes tell little of the others. Look at the rows of the "
            "largest norm: correct or drop them if they are errors."
        )


def _merged(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Merge equal neighbours, so that two equal rows are one of twice the weight."""
    new = torch.ones(len(x), dtype=torch.bool, device=x.device)
    new[1:] = (x[1:] != x[:-1]).any(-1)
    if bool(new.all()):
        return x, weights
    total = weights.new_zeros(int(new.sum())).index_add_(0, new.cumsum(0) - 1, weights)
    return x[new], total


class _HardEM:
    """The state of a fit: entries, bias, prior and codes as slots."""

    def __init__(self, model: SDLGM, x: Tensor, weights: Tensor, config: TrainingConfig) -> None:
        self.model, self.config, self.x = model, config, x
        self.weights = weights / weights.mean()
        self.groups = model.groups
        self.size = model.config.features // model.groups
        self.closes = model.config.gates == "learned"
        self.error_weights = weights_of_errors(model.config)
        mean = self._mean(x)
        spread = self._mean(x, lambda rows: (rows - mean).square())
        self.variance = float(spread.sum())
        self.target = Target.of(config) if self.variance > 0 else None
        self.noise = NOISE * (spread / self.groups).sqrt().to(x.dtype)
        self.degrees = self._degrees_of_freedom(mean) if self.target else 1.0
        self.bias = mean.to(x.dtype)
        self.entries = self._draw(0) / NOISE
        self.lengths = x.new_full((self.groups, self.size + 1), math.log(self.size + 1))
        self.rate = self._first_rate()
        self.slots = self._search(self.entries)(x - self.bias, rate=self.rate, width=1, sweeps=1)
        self._refit()

    def turn(self, number: int) -> Turn:
        """Search and refit once."""
        residual, last = self.x - self.bias, self.config.turns
        if number < last:
            share = max(0, last - 1 - number) / last
            search = self._search(self.entries + math.sqrt(share) * self._draw(number))
            self.slots = search(residual, rate=self.rate, start=self.slots, sweeps=SWEEPS)
        else:
            self.slots = self._search(self.entries)(residual, rate=self.rate, width=WIDTH)
        self._refit()
        residual = self.x - self.bias
        error, bits = self._reached(residual, self.slots, self.weights)
        prefixes = {
            groups: self._share(self._error(residual, self.slots, self.weights, groups))
            for groups in self.model.config.prefixes
        }
        self.error = error
        self.calibrate(*ROUGHLY)
        return Turn(number, self._share(error), bits, len(self.x), prefixes)

    def calibrate(self, rows: int, steps: int, width: int, *, turn: bool = True) -> None:
        """Set the weight of the length so that codes meet the target; the rest is fixed.

        Codes of some of the rows are searched for with a few weights. Without a target there is
        nothing to do. After a turn, the codes start at those of the turn, and the weight rises by a
        step at most.
        """
        target = self.target
        if target is None:
            return
        number, search = len(self.x), self._search(self.entries)
        some = torch.linspace(0, number - 1, min(number, rows), device=self.x.device).long()
        x, weights = self.x[some] - self.bias, self.weights[some]
        start = self.slots[some] if turn else None
        tried: dict[float, Reached] = {}

        def excess(place: float) -> float:
            rate = math.exp(place)
            slots = search(x, rate=rate, width=width, sweeps=SWEEPS, start=start)
            error, bits = self._reached(x, slots, weights)
            tried[place] = Reached(rate, self._share(error), bits)
            return target.excess(tried[place])

        low, high = math.log(self._free()), math.log(HIGHEST * self.variance)
        before = math.log(self.rate)
        if turn:
            high = min(high, max(low, before + RISE / min(self.config.turns, int(RISE / 0.3))))
        best = find_crossing(excess, before, low=low, high=high, steps=steps)
        self.rate, self.reached = math.exp(best), tried[best]

    def warn_if_missed(self) -> None:
        """Warn if codes are far from the target."""
        if self.target is None:
            return
        rows, outcomes = len(self.x), self.size + self.closes
        shortest = self.groups * math.log2((rows + outcomes) / (rows + 1))
        free = self.rate <= 2 * self._free()
        self.target.warn_if_missed(self.reached, shortest=shortest, free=free, rows=rows)

    def store(self) -> None:
        """Write the result into the model."""
        model = self.model
        model.output_head.weight.copy_(self.entries.flatten(0, 1).T)
        model.output_head.bias.copy_(self.bias)
        set_prior(model, self.lengths.neg().exp())
        spread = math.sqrt(max(self.error / self.x.shape[1], 1e-12)) + 1e-3
        model.likelihood.set_spread(spread)  # type: ignore[operator]
        model.rate_weight.fill_(self.rate / (2 * spread**2))

    def _search(self, entries: Tensor) -> AdditiveSearch:
        """Return the search; a closed slot is a zero entry, where gates can close."""
        lengths = self.lengths.clone()
        if not self.closes:
            lengths[:, -1] = torch.inf
        return AdditiveSearch(F.pad(entries, (0, 0, 0, 1)), lengths, self.error_weights)

    def _draw(self, turn: int) -> Tensor:
        """Return the noise of a turn."""
        source = generator(self.config.seed, "codebooks", turn)
        shape = (self.groups, self.size, self.x.shape[1])
        return torch.randn(shape, generator=source).to(self.x) * self.noise

    def _refit(self) -> None:
        """Fit the decoder and the prior to the codes."""
        entries, bias = least_squares(
            self.x, self.slots, self.groups, self.size, weights=self.weights,
            error_weights=self.error_weights,
        )  # fmt: skip
        self.entries = entries.to(self.x.dtype).unflatten(0, (self.groups, self.size))
        self.bias = bias.to(self.x.dtype)
        self.lengths = self._frequencies().log().neg().to(self.x.dtype)

    def _frequencies(self) -> Tensor:
        """Return the probability of each outcome of a slot, shape ``(G, K/G + 1)``, in float64.

        Each possible outcome counts once more than it occurs.
        """
        width = self.size + 1
        counts = [weighted_counts(held, self.weights, width) for held in self.slots.T]
        counted = torch.stack(counts) + 1
        if not self.closes:
            counted[:, -1] = 0
        return counted / counted.sum(-1, keepdim=True)

    def _reached(self, x: Tensor, slots: Tensor, weights: Tensor) -> tuple[float, float]:
        """Return the mean squared error, summed over columns, and the mean bits of codes.

        ``x`` are rows less the bias.
        """
        places = torch.arange(self.groups, device=x.device)
        nats = self.lengths[places, slots].sum(-1)
        bits = float((weights * nats).sum() / weights.sum()) / math.log(2)
        return self._error(x, slots, weights, self.groups), bits

    def _error(self, x: Tensor, slots: Tensor, weights: Tensor, groups: int) -> float:
        """Return the mean squared error of the first groups of codes, summed over columns."""
        entries = F.pad(self.entries[:groups], (0, 0, 0, 1))
        squares = (x - additive_sum(entries, slots[:, :groups])).square_().sum(-1)
        return float((weights * squares).sum() / weights.sum())

    def _share(self, error: float) -> float:
        return error / self.variance if self.variance else 0.0

    def _mean(self, x: Tensor, of: Callable[[Tensor], Tensor] = lambda rows: rows) -> Tensor:
        """Return the weighted mean of a function of rows, in float64."""
        blocks = zip(x.split(ROWS_AT_ONCE), self.weights.split(ROWS_AT_ONCE), strict=True)
        sums = [(part.unsqueeze(-1) * of(rows.double())).sum(0) for rows, part in blocks]
        return torch.stack(sums).sum(0) / self.weights.sum()

    # --- the weight of the length --------------------------------------------------------------

    def _degrees_of_freedom(self, mean: Tensor) -> float:
        """Return how many directions share the variance evenly: tr(S)^2 / tr(S^2)."""
        blocks = zip(self.x.split(ROWS_AT_ONCE), self.weights.split(ROWS_AT_ONCE), strict=True)
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
        for rows, weights in blocks:
            centred = rows - mean
            covariance += (weights.unsqueeze(-1) * centred).T @ centred / self.weights.sum()
        square = float(covariance.square().sum())
        return self.variance**2 / square if square > 0 else 1.0

    def _slope(self, error: float) -> float:
        """Return the slope -dD/dR of a Gaussian vector at an error."""
        return 2 * max(error, 1e-4 * self.variance) / self.degrees

    def _free(self) -> float:
        """Return a weight of the length that is next to none."""
        return FREE * self._slope(self.error)

    def _first_rate(self) -> float:
        """Return the slope at the full budget; 0 without a target."""
        bits = self.groups * math.log2(self.size + self.closes)
        left = max(FREE, math.exp(-2 * bits * math.log(2) / self.degrees))
        return 0.0 if self.target is None else self._slope(left * self.variance)
