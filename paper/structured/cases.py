"""The trainings of structured codes: the recommended one, a short one, and sparser ones."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from paper.bound.cases import Case, Size, case_of

__all__ = ["SLOT_COSTS", "cases"]

LEVELS: dict[str, Any] = {"levels": 4, "prior": "masked", "slot_cost": 0.0}
"""Four levels under a masked prior."""
ONE_LEVEL: dict[str, Any] = {"levels": 1, "prior": "learned_gates", "slot_cost": 0.0}
SLOT_COSTS = (0.1, 0.2, 0.4, 0.8)
"""Nats per open slot in the sweep over sparsity."""


def cases(size: Size) -> dict[str, Case]:
    """Return all cases by name, in the order in which they run."""
    case = functools.partial(case_of, size)
    headline: dict[str, Any] = {} if size.iterations is None else {"iterations": size.iterations}
    ours = "four levels, masked prior"
    found = {
        "best": _closer(
            size, case("headline", ours, start="best", repeated=True, **LEVELS, **headline)
        ),
        "short": case("short", ours, repeated=True, **LEVELS),
        "autoregressive": case(
            "short", "four levels, a prior network for each", **LEVELS | {"prior": "autoregressive"}
        ),
        "two-levels": case("short", "two levels, masked prior", **LEVELS | {"levels": 2}),
        "one-level-masked": case("short", "one level, masked prior", **LEVELS | {"levels": 1}),
        "one-level": case("short", "one level, factorised prior", **ONE_LEVEL),
    }
    for cost in SLOT_COSTS:
        changes = LEVELS | {"slot_cost": cost}
        found[f"slot-cost-{cost:g}"] = case(
            "sparsity", f"{ours}, a slot cost of {cost:g}", **changes
        )
    return found


def _closer(size: Size, case: Case) -> Case:
    """Return a case whose bound is of as many codes per sample as the closer evaluations."""
    return dataclasses.replace(case, importance_samples=size.close_samples)
