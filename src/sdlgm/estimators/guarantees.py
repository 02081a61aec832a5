"""Thresholds with a promise: recall, precision or false positives of new rows, under a cap.

A guarantee replaces the rule that chooses a threshold. It looks at rows that the probabilities
were not learned from, tries thresholds from the safest one on, and stops before the first for which
the promise cannot be shown. As scores are compared with one threshold, the sets of a row are nested
(:class:`~sdlgm.estimators.ranked_labels.RankedLabels`), also between a minimum and a maximum size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.parameters import check_choice, check_integer, is_real
from sdlgm.estimators.ranked_labels import RankedLabels

__all__ = [
    "FalsePositivesAtMost",
    "Guarantee",
    "HeldOut",
    "PrecisionAtLeast",
    "RankedLabels",
    "RecallAtLeast",
    "UnreachableError",
    "choose_guaranteed",
    "guarantee_named",
    "log_wealth",
]

HeldOut = Literal["split", "folds"]
"""Which rows a guarantee looks at: a split of its own, or those that each fold leaves out."""
Floats = NDArray[np.float64]

ODDS = 12.0
"""Thresholds are tried up to these log-odds."""
STEP = 0.04
"""Distance of two thresholds in log-odds."""
STARTS = (0.95, 0.8, 0.6, 0.4)
"""Thresholds from which a search starts where sets may be empty and the risk is not monotone."""
BLOCK = 200_000
"""Number of losses (rows x thresholds) that are computed at a time."""
DIGITS = 3
"""Digits of the best reachable level in an error."""


class UnreachableError(ConfigError):
    """A promised level cannot be reached under the minimum and maximum size of the sets."""

    def __init__(self, description: str, reachable: float | None) -> None:
        super().__init__(description)
        self.reachable = reachable
        """The best level that can be promised; ``None`` if there is none."""


@dataclass(frozen=True)
class Guarantee(ABC):
    """A promise about the sets of new rows; see its subclasses.

    Parameters
    ----------
    level
        The promised level: a share for recall and precision, a number for false positives.
    confidence
        Probability, over the draw of the held-out rows, that the mean over new rows keeps the
        level. ``None``: the mean over new rows *and* draws of the held-out rows keeps it, which
        allows smaller margins; for recall and false positives only.
    held_out
        ``"split"``: one fold of the rows is left out of all fits, and the promise holds exactly for
        rows like them. ``"folds"``: all rows serve for fitting and for choosing, each row scored by
        the fits that leave it out; the promise then is about such fits, and only approximately
        about their ensemble or a fit to all rows.
    """

    level: float
    confidence: float | None = 0.95
    held_out: HeldOut = "split"

    better: ClassVar[str]
    """Which end of the levels is the better one: ``"highest"`` or ``"lowest"``."""
    safest: ClassVar[Literal["largest", "smallest"]]
    """Sets at which the risk is lowest: the search for a threshold starts there."""
    monotone: ClassVar[bool] = True
    """Whether the loss of a row can only rise from the safest sets on."""

    def __post_init__(self) -> None:
        if self.confidence is None:
            if not self.monotone:
                raise ConfigError(
                    f"{type(self).__name__} needs a confidence, such as 0.95: its loss may rise "
                    "and fall with the threshold, so that there is no bound of its mean alone."
                )
        elif not is_real(self.confidence) or not 0 < self.confidence < 1:
            raise ConfigError(f"confidence must lie between 0 and 1, got {self.confidence!r}.")
        check_choice("held_out", self.held_out, get_args(HeldOut))
        self._check_level()

    def _check_level(self) -> None:
        if not is_real(self.level) or not 0 < self.level < 1:
            raise ConfigError(f"The level must lie between 0 and 1, got {self.level!r}.")

    def at(self, level: float) -> Self:
        """Return the same promise at another level."""
        return type(self)(level, self.confidence, self.held_out)

    @abstractmethod
    def risk(self, rows: RankedLabels) -> float:
        """Return the highest mean loss, between 0 and 1, at which the promise is kept."""

    @abstractmethod
    def losses(self, rows: RankedLabels, sizes: NDArray[np.int64]) -> Floats:
        """Return the loss of each row, between 0 and 1, for sets of these sizes."""

    def counted(self, rows: RankedLabels) -> RankedLabels:
        """Return the rows that the promise is about."""
        return rows

    @abstractmethod
    def measure(self, rows: RankedLabels, threshold: float) -> float:
        """Return the level that rows reach at a threshold: NaN if there is nothing to count."""

    def _mean_loss(self, rows: RankedLabels, threshold: float) -> float:
        rows = self.counted(rows)
        if not len(rows):
            return float("nan")
        return float(self.losses(rows, rows.sizes(np.array([threshold]))).mean())

    def sequences(self, rows: RankedLabels) -> list[Floats]:
        """Return thresholds in the order in which they are tried: one search, or several.

        They do not depend on the rows, and several searches divide the error among them.
        """
        odds = np.linspace(-ODDS, ODDS, round(2 * ODDS / STEP) + 1)
        # Every score is above -1, and none above 1.
        grid = np.concatenate([[-1.0, 0.0], 1 / (1 + np.exp(-odds)), [1.0]])
        if self.safest == "largest":
            return [grid]
        starts = STARTS if rows.low == 0 and not self.monotone else (1.0,)
        return [grid[grid <= start][::-1] for start in starts]


@dataclass(frozen=True)
class RecallAtLeast(Guarantee):
    r"""Promise that the mean recall of rows with labels is at least a level.

    The recall of a row is the share of its labels that are in its set, :math:`|S \cap Y| / |Y|`;
    rows without labels do not count. Larger sets have no lower recall, so that the promise is one
    of risk control [1]_ or, without a confidence, of conformal risk control [2]_. The highest
    threshold that keeps it is chosen, for small sets.

    Parameters
    ----------
    level, confidence, held_out
        See :class:`Guarantee`.

    References
    ----------
    .. [1] Bates et al., "Distribution-free, risk-controlling prediction sets", J. ACM 2021.
    .. [2] Angelopoulos et al., "Conformal risk control", ICLR 2024.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> Y = (random.random((1000, 6)) < 0.3).astype(int)
    >>> scores = np.clip(0.5 * Y + 0.5 * random.random((1000, 6)), 0.01, 0.99)
    >>> threshold = choose_guaranteed(scores, Y, RecallAtLeast(0.9), max_labels=6)
    >>> found = RankedLabels(scores, Y, 0, 6)
    >>> bool(RecallAtLeast(0.9).measure(found, threshold) > 0.9)
    True
    """

    better = "highest"
    safest = "largest"

    def risk(self, rows: RankedLabels) -> float:
        """Return the highest mean loss at which the promise is kept."""
        return 1 - self.level

    def counted(self, rows: RankedLabels) -> RankedLabels:
        """Return the rows with labels."""
        return rows.take(rows.true > 0)

    def losses(self, rows: RankedLabels, sizes: NDArray[np.int64]) -> Floats:
        """Return the share of the labels of each row that its set misses."""
        return 1 - rows.in_sets(rows.hits, sizes) / rows.true[:, None]

    def measure(self, rows: RankedLabels, threshold: float) -> float:
        """Return the mean recall of the rows with labels."""
        return 1 - self._mean_loss(rows, threshold)


@dataclass(frozen=True)
class PrecisionAtLeast(Guarantee):
    r"""Promise that the mean precision of rows with a set is at least a level.

    The precision of a row is the share of its set that is right, :math:`|S \cap Y| / |S|`; rows
    with an empty set do not count. It may rise and fall with the threshold, so that thresholds are
    tested in a fixed order, from the highest on [1]_; where sets may be empty, from several starts,
    among which the error is divided. The lowest threshold that passes is chosen, for large sets.

    Parameters
    ----------
    level, confidence, held_out
        See :class:`Guarantee`; a confidence is required.

    References
    ----------
    .. [1] Angelopoulos et al., "Learn then test: calibrating predictive algorithms to achieve risk
       control", Annals of Applied Statistics 2025.
    """

    better = "highest"
    safest = "smallest"
    monotone = False

    def risk(self, rows: RankedLabels) -> float:
        """Return the highest mean loss at which the promise is kept."""
        return 1 - self.level

    def losses(self, rows: RankedLabels, sizes: NDArray[np.int64]) -> Floats:
        """Return the share of each set that is wrong; empty sets neither help nor harm.

        With :attr:`risk` as the loss of an empty set, the mean over all rows is below that risk
        exactly if the mean over rows with a set is.
        """
        known = rows.in_sets(rows.known, sizes)
        wrong = known - rows.in_sets(rows.hits, sizes)
        empty = np.full(sizes.shape, self.risk(rows))
        return np.divide(wrong, known, out=empty, where=known > 0)

    def measure(self, rows: RankedLabels, threshold: float) -> float:
        """Return the mean precision of the rows with a set."""
        sizes = rows.sizes(np.array([threshold]))
        some = rows.in_sets(rows.known, sizes) > 0
        return float(1 - self.losses(rows, sizes)[some].mean()) if some.any() else float("nan")


@dataclass(frozen=True)
class FalsePositivesAtMost(Guarantee):
    r"""Promise that a row has at most a number of false positives on average.

    The false positives of a row are the labels of its set that are wrong, :math:`|S \setminus Y|`;
    all rows count. Smaller sets have no more of them, so that the bounds of :class:`RecallAtLeast`
    hold. The lowest threshold that keeps the promise is chosen, for large sets.

    Parameters
    ----------
    level, confidence, held_out
        See :class:`Guarantee`; here the level is a number of labels, such as 0.5.
    """

    better = "lowest"
    safest = "smallest"

    def _check_level(self) -> None:
        if not is_real(self.level) or not 0 < self.level < np.inf:
            raise ConfigError(f"The level must be a positive number, got {self.level!r}.")

    def risk(self, rows: RankedLabels) -> float:
        """Return the level as a share of the largest set."""
        return self.level / max(rows.high, 1)

    def losses(self, rows: RankedLabels, sizes: NDArray[np.int64]) -> Floats:
        """Return the wrong labels of each set as a share of the largest set."""
        wrong = rows.in_sets(rows.known, sizes) - rows.in_sets(rows.hits, sizes)
        return wrong / max(rows.high, 1)

    def measure(self, rows: RankedLabels, threshold: float) -> float:
        """Return the mean number of false positives."""
        return self._mean_loss(rows, threshold) * max(rows.high, 1)


def choose_guaranteed(
    scores: ArrayLike | RankedLabels,
    Y: Any,  # noqa: N803
    guarantee: Guarantee,
    *,
    min_labels: int = 0,
    max_labels: int | None = None,
    seed: int = 0,
) -> float:
    r"""Choose the threshold that gives the most useful sets for which a promise can be shown.

    Thresholds are tried in a fixed order. One passes if a test by betting [1]_ rejects that the
    mean loss exceeds the promised risk :math:`r`: the wealth :math:`\prod_i (1 + b_i (r - \ell_i))`
    of a gambler, whose bets :math:`b_i \in [0, 1]` depend on earlier rows only, exceeds
    ``1 / (1 - confidence)`` at some row. Without a confidence it passes if
    :math:`(\sum_i \ell_i + 1) / (n + 1) \le r` (conformal risk control).

    Parameters
    ----------
    scores
        Probabilities ``(n, K)`` of rows that they were not learned from.
    Y
        Their labels, 0 or 1, shape ``(n, K)``, dense or sparse; NaN where unknown: promises are
        then about known labels. Of two frames, columns are matched by name.
    guarantee
        The promise.
    min_labels, max_labels
        Smallest and largest size of a set.
    seed
        Seed of the order in which the rows are looked at, which must not depend on their labels.

    Raises
    ------
    UnreachableError
        If no threshold passes; the message names the best level that does.
    DataError
        If scores are not probabilities, or shapes differ, or no row counts.

    References
    ----------
    .. [1] Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
       J. R. Stat. Soc. B 2024.
    """
    if isinstance(scores, RankedLabels):
        given = scores
    else:
        check_integer("min_labels", min_labels, low=0)
        check_integer("max_labels", max_labels, low=0, optional=True)
        most = np.shape(scores)[-1] if max_labels is None else int(max_labels)
        given = RankedLabels(scores, Y, int(min_labels), most)
    if len(given) and not (given.scores.min(initial=0) >= 0 and given.scores.max(initial=1) <= 1):
        raise DataError("A guarantee needs scores that are probabilities, from 0 to 1.")
    rows = guarantee.counted(given)
    if not len(rows):
        raise DataError(
            f"{type(guarantee).__name__} has no held-out row to count: no row has a known label."
        )
    rows = rows.take(np.random.default_rng(seed).permutation(len(rows)))
    passed = [
        found
        for grid in guarantee.sequences(rows)
        if (found := _last_passed(guarantee, rows, grid)) is not None
    ]
    if not passed:
        raise _unreachable(guarantee, rows)
    return max(passed) if guarantee.safest == "largest" else min(passed)


def _last_passed(guarantee: Guarantee, rows: RankedLabels, grid: Floats) -> float | None:
    """Return the last threshold before the first that does not pass."""
    block = max(1, BLOCK // len(rows))
    last = None
    for first in range(0, len(grid), block):
        tried = grid[first : first + block]
        wrong = np.flatnonzero(~_passes(guarantee, rows, tried))
        if len(wrong):
            return float(tried[wrong[0] - 1]) if wrong[0] else last
        last = float(tried[-1])
    return last


def _passes(guarantee: Guarantee, rows: RankedLabels, thresholds: Floats) -> NDArray[np.bool_]:
    """Return whether the promise can be shown at each of some thresholds."""
    losses = guarantee.losses(rows, rows.sizes(thresholds))
    risk = guarantee.risk(rows)
    if risk >= 1:  # no mean loss exceeds it
        return np.ones(len(thresholds), bool)
    if guarantee.confidence is None:
        return (losses.sum(0) + 1) / (len(rows) + 1) <= risk
    error = (1 - guarantee.confidence) / len(guarantee.sequences(rows))
    return log_wealth(losses, risk, error) >= -np.log(error)


def log_wealth(losses: Floats, risk: float, error: float) -> Floats:
    """Return the highest log-wealth of bets against a mean loss above ``risk``, for each column.

    Bets are those of Bates et al. (2021), which suit a test at the level ``error``: the square root
    of ``2 log(1 / error) / (n variance)``, at most 1, with the variance of the rows before.

    Parameters
    ----------
    losses
        Between 0 and 1, shape ``(n, columns)``, rows in random order.
    risk
        Mean loss under the hypothesis.
    error
        Probability of rejecting the hypothesis although it is true.
    """
    number = np.arange(1, len(losses) + 1)[:, None]
    mean = (0.5 + losses.cumsum(0)) / (number + 1)
    variance = (0.25 + ((losses - mean) ** 2).cumsum(0)) / (number + 1)
    before = np.concatenate([np.full((1, losses.shape[1]), 0.25), variance[:-1]])
    bets = np.minimum(1, np.sqrt(2 * np.log(1 / error) / (len(losses) * before)))
    wealth: Floats = np.log1p(bets * (risk - losses)).cumsum(0).max(0)
    return wealth


def guarantee_named(name: object, values: Mapping[str, Any]) -> Guarantee:
    """Return a guarantee by the name of its class and its fields, such as from a file.

    Raises
    ------
    ConfigError
        If there is no such class, or a field is unknown or out of range.
    """
    known = {kind.__name__: kind for kind in Guarantee.__subclasses__()}
    if name not in known or values.keys() != {field.name for field in fields(Guarantee)}:
        raise ConfigError(f"{str(name)[:40]!r} with {sorted(values)[:9]} is no guarantee.")
    return known[str(name)](**values)


def _unreachable(guarantee: Guarantee, rows: RankedLabels) -> UnreachableError:
    best = _best_level(guarantee, rows)
    name, size = type(guarantee).__name__, f"{rows.low} to {rows.high} labels"
    confidence = (
        "on average" if guarantee.confidence is None else f"with confidence {guarantee.confidence}"
    )
    what = f"{name}({guarantee.level:g}) cannot be promised {confidence} for sets of {size} "
    what += f"from {len(rows)} held-out rows"
    if best is None:
        return UnreachableError(f"{what}, nor can any other level. Hold out more rows.", None)
    cures = [f"Ask for {name}({best:g})"]
    if guarantee.safest == "largest" and rows.high < rows.labels:
        cures.append("raise max_labels")
    if guarantee.safest == "smallest" and rows.low > 0:
        cures.append("lower min_labels")
    return UnreachableError(
        f"{what}: the {guarantee.better} level that can be is {best:g}. {', '.join(cures)}, or "
        "hold out more rows.",
        best,
    )


def _best_level(guarantee: Guarantee, rows: RankedLabels) -> float | None:
    """Return the best level that can be promised, to ``DIGITS`` digits on the safe side."""
    unit = 10**DIGITS

    def reached(place: int) -> bool:
        asked = guarantee.at(place / unit)
        return any(_passes(asked, rows, grid[:1])[0] for grid in asked.sequences(rows))

    if guarantee.better == "highest":
        best = _last_true(reached, 1, unit - 1)
        return None if best is None else best / unit
    # Counted from the largest set on, which is always reached.
    most = rows.high * unit
    best = _last_true(lambda down: reached(most - down), 0, most - 1)
    return None if best is None else (most - best) / unit


def _last_true(test: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the last integer of a range that passes a test which, once failed, stays failed."""
    if not test(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if test(middle) else (low, middle - 1)
    return low
