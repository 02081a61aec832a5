"""The trainings of structured codes: the recommended one, a short one, and sparser ones."""

from __future__ import annotations

import functools
from typing import Any

from paper.bound.cases import Case, Size, case_of

__all__ = ["BUDGETS", "SLOT_COSTS", "cases"]

CATEGORICAL: dict[str, Any] = {"budget": 20, "groups": 20, "gates": "open"}
"""20 latents of 10 values under the same prior: a baseline without sparsity."""
PRODUCT: dict[str, Any] = {"prior": "learned_gates"}
"""A prior that is a product over groups, as the posterior of one level is."""
ONE_CODE: dict[str, Any] = {"draws": None}
"""One code a sample in each step, as the default."""
BUDGETS = (10, 20)
"""Budgets in the sweep over sparsity, beside the default's."""
SLOT_COSTS = (0.1, 0.4)
"""Nats per open slot in the sweep over sparsity."""


def cases(size: Size) -> dict[str, Case]:
    """Return all cases by name, in the order in which they run."""
    case = functools.partial(case_of, size, pinned={})
    headline: dict[str, Any] = {} if size.iterations is None else {"iterations": size.iterations}
    masked = "one level, masked prior"
    found = {
        "best": case(
            "headline", f"{masked}, two codes a sample", start="best", repeated=True, **headline
        ),
        "one-code": case("headline", masked, start="best", repeated=True, **ONE_CODE, **headline),
        "sparse": case(
            "headline",
            f"{masked}, L0 = 20 in 20 groups",
            start="best",
            budget=20,
            **ONE_CODE,
            **headline,
        ),
        "default": case("short sparsity", masked, repeated=True),
        "product": case("short", "one level, product over groups", **PRODUCT),
        "categorical": case("short", "20 x 10 categorical, masked prior", **CATEGORICAL),
        "four-levels": case("short", "four levels, masked prior", levels=4),
        "four-levels-autoregressive": case(
            "short", "four levels, a prior network for each", levels=4, prior="autoregressive"
        ),
    }
    for budget in BUDGETS:
        title = f"{masked}, L0 = {budget} in {budget} groups"
        found[f"budget-{budget}"] = case("sparsity", title, budget=budget)
    for cost in SLOT_COSTS:
        found[f"slot-cost-{cost:g}"] = case(
            "sparsity", f"{masked}, a slot cost of {cost:g}", slot_cost=cost
        )
    return found
