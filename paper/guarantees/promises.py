"""What both simulations of guarantees share: levels on a set, its rows, and counts of what held."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paper.results import Numbers
from sdlgm.data import load_multilabel
from sdlgm.estimators.guarantees import (
    FalsePositivesAtMost,
    Guarantee,
    HeldOut,
    PrecisionAtLeast,
    RecallAtLeast,
)

__all__ = ["CONFIDENCE", "Levels", "all_rows", "summary"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Levels:
    """The levels that are promised on one set, and the largest size of its sets of labels."""

    max_labels: int
    recall: float
    precision: float
    false_positives: float

    def guarantees(
        self, confidence: float | None = CONFIDENCE, held_out: HeldOut = "split"
    ) -> dict[str, Guarantee]:
        """Return the promises that there are with this confidence, by name, in order."""
        levels = (
            (RecallAtLeast, self.recall),
            (PrecisionAtLeast, self.precision),
            (FalsePositivesAtMost, self.false_positives),
        )
        end = "" if confidence is not None else ", None"
        return {
            f"{kind.__name__}({level:g}{end})": kind(level, confidence, held_out)
            for kind, level in levels
            if confidence is not None or kind.monotone
        }


def all_rows(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the inputs and labels of all rows of a set, training rows first."""
    data = load_multilabel(name)
    return np.vstack([data.X_train, data.X_test]), np.vstack([data.Y_train, data.Y_test])


def summary(promise: Numbers, averaged: Sequence[str]) -> Numbers:
    """Return how many repetitions keep the level, how many are refused, and means over the others.

    The means are ``None`` if all are refused.
    """
    given = [one for one in promise["repetitions"] if not one["refused"]]
    level, sign = promise["level"], 1 if promise["highest"] else -1
    kept = sum(sign * (one["reached"] - level) >= 0 for one in given)
    means = {k: statistics.fmean(one[k] for one in given) if given else None for k in averaged}
    refused = len(promise["repetitions"]) - len(given)
    return {"kept": kept, "refused": refused, **means}
