"""How many features a model uses, and a warning if it uses few."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sdlgm.config import ObjectiveName
from sdlgm.errors import warn

__all__ = ["FEW", "count_used", "warn_of_unused"]

FEW = 0.2
"""Share of the features below which there is a warning."""


def count_used(codes: Iterable[Tensor], enough: float) -> int:
    """Return the number of features that batches of codes hold; stop once it is ``enough``."""
    used: Tensor | None = None
    for batch in codes:
        present = (batch > 0).any(0)
        used = present if used is None else used | present
        if int(torch.count_nonzero(used)) >= enough:
            break
    return 0 if used is None else int(torch.count_nonzero(used))


def warn_of_unused(
    used: int,
    features: int,
    possible: int,
    *,
    objective: ObjectiveName | None,
    length: str,
    number: str,
) -> None:
    """Warn if few features are used on the training rows.

    Parameters
    ----------
    used, features, possible
        Number of features that are in a code of a training row, of all features, and of those that
        so many rows can hold.
    objective
        What the training minimised.
    length, number
        Names of the parameters that set the length of the training and the number of features.
    """
    if used >= FEW * min(features, possible):
        return
    cure = f"Train longer (raise {length}), raise kl_warmup or learning_rate"
    if objective == "rate_distortion":
        cure = "Raise rate, or lower distortion (without either, codes use the full budget)"
    warn(
        f"Only {used:,} of {features:,} features are in a code of any training row; the others "
        f"have no use. {cure}, or lower {number} (to about {max(2 * used, 2):,})."
    )
