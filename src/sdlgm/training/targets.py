"""Targets of search and refitting: a rate or a distortion, and the weight of the length for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from sdlgm.config import TrainingConfig
from sdlgm.errors import warn

__all__ = ["Reached", "Target", "find_crossing"]

MISSED = 0.1
"""Relative distance from a target beyond which there is a warning."""

CLOSE = 0.003
"""Relative distance from a target at which the search for a weight ends."""

LEAST_STEP, LARGEST_STEP = 0.1, 2.0
"""Steps of the logarithm of the weight until the target lies between two places."""

MARGIN = 0.1
"""Least part of the way between two places that a step takes, from either."""


@dataclasses.dataclass(frozen=True)
class Reached:
    """What codes with some weight of the length reach."""

    weight: float
    """The weight."""
    distortion: float
    """Mean squared error as a share of the variance."""
    bits: float
    """Mean length of a code."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A mean length or a mean error of codes to aim at.

    Parameters
    ----------
    name
        ``"rate"`` or ``"distortion"``.
    wanted
        Its value.
    """

    name: str
    wanted: float

    @classmethod
    def of(cls, config: TrainingConfig) -> Target | None:
        """Return the target of a training, or ``None``."""
        for name in ("rate", "distortion"):
            if getattr(config, name) is not None:
                return cls(name, getattr(config, name))
        return None

    def excess(self, reached: Reached) -> float:
        """Return the logarithm of a ratio that is positive where the weight is too low."""
        if self.name == "rate":
            return math.log(max(reached.bits, 1e-12) / self.wanted)
        return math.log(self.wanted / max(reached.distortion, 1e-12))

    def warn_if_missed(self, reached: Reached, *, shortest: float, free: bool, rows: int) -> None:
        """Warn if codes are far from the target, with the reason and the cure.

        Parameters
        ----------
        reached
            What the codes reach.
        shortest
            Bits of the shortest code if all rows had it.
        free
            Whether length has next to no weight, so that codes use the budget as they like.
        rows
            Number of different rows.
        """
        found = reached.bits if self.name == "rate" else reached.distortion
        if abs(found - self.wanted) > MISSED * self.wanted:
            why = self._reason(reached, shortest, free, rows)
            warn(f"{self.name} = {self.wanted:g} was aimed at, but the codes {why}")

    def _reason(self, reached: Reached, shortest: float, free: bool, rows: int) -> str:
        if self.name == "rate" and self.wanted < shortest:
            return (
                f"of {rows:,} different rows take at least {shortest:.3g} bits: the prior counts "
                "each outcome of a slot once more than it occurs. Ask for more, lower the number "
                "of features, or give more rows."
            )
        if self.name == "rate" and free and reached.bits < self.wanted:
            return (
                f"take {reached.bits:.3g} bits, since longer ones are not more exact on these "
                "rows. Leave rate out, or lower it."
            )
        if self.name == "distortion" and free and reached.distortion > self.wanted:
            return (
                f"reach {reached.distortion:.3g} of the variance with the whole budget. Raise the "
                "budget or the number of features, or lower the number of columns."
            )
        return (
            f"take {reached.bits:.3g} bits and leave {reached.distortion:.3g} of the variance. "
            "This is the nearest that was found: few different rows, or few features in use, have "
            "few lengths of codes. Aim at that, raise turns, or give more rows."
        )


def find_crossing(
    excess: Callable[[float], float],
    start: float,
    *,
    low: float,
    high: float,
    steps: int,
) -> float:
    """Return the place, among those visited, where a falling function is nearest to zero.

    Steps double until zero lies between two places, and then follow the line through them. A
    function that is flat at its ends, as that of a target is, does not mislead it.

    Parameters
    ----------
    excess
        The function.
    start
        Where to begin.
    low, high
        Range of places.
    steps
        Most places to visit.

    Examples
    --------
    >>> round(find_crossing(lambda x: 2 - x, 0.0, low=-9, high=9, steps=9), 6)
    2.0
    """
    at, step = min(max(start, low), high), 0.0
    best, least = at, math.inf
    ends: dict[bool, tuple[float, float]] = {}
    for _ in range(steps):
        value = excess(at)
        if abs(value) <= least:  # on a plateau, go on
            best, least = at, abs(value)
        if least < CLOSE:
            break
        ends[value > 0] = (at, value)
        if len(ends) == 2:
            at = _between(*ends[True], *ends[False])
            continue
        size = max(LEAST_STEP, abs(value), 2 * abs(step))
        step = math.copysign(min(LARGEST_STEP, size), value)
        following = min(max(at + step, low), high)
        if following == at:
            break
        at = following
    return best


def _between(left: float, above: float, right: float, below: float) -> float:
    """Return where a line crosses zero, but not very near to its ends."""
    share = above / (above - below)
    return left + min(1 - MARGIN, max(MARGIN, share)) * (right - left)
