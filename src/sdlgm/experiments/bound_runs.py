"""What is trained for the discrete bound: the recipe, its rivals, and its variations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from sdlgm.config import ModelConfig, TrainingConfig
from sdlgm.recipes import recipe

__all__ = ["BUDGETS", "PROFILES", "Case", "Size", "cases"]

BUDGETS = (5, 10, 20, 40, 80)
"""Budgets L0 of the sweep, at K = 200; of more than 40 slots, two share a group."""


@dataclass(frozen=True)
class Size:
    """How much is trained and measured."""

    data: str
    iterations: int | None
    """Of the headline; ``None``: the recipe's own."""
    short: int
    """The paper's budget of iterations, of all other trainings."""
    points: int
    """Evaluations along a training, evenly spaced."""
    rows: int
    """Test rows of those evaluations, evenly spaced; the final numbers are of the whole split."""
    importance_samples: int
    """Of the headline's final ``nll_bound``; all others take a tenth."""
    seeds: int
    """Of the headline; all others take one."""


PROFILES = {
    "full": Size("mnist", None, 10_000, 20, 2000, 1000, 3),
    "smoke": Size("digits", 40, 20, 2, 50, 20, 1),
}


@dataclass(frozen=True)
class Case:
    """One model and its training."""

    part: str
    """Table that it stands in: headline, short, plain, budget or data."""
    title: str
    data: str
    model: ModelConfig
    training: TrainingConfig
    importance_samples: int
    seeds: int = 1

    def settings(self, size: Size) -> dict[str, Any]:
        """Return all that its numbers depend on, beside the seed."""
        return {
            "data": self.data,
            "model": dataclasses.asdict(self.model),
            "training": dataclasses.asdict(self.training),
            "importance_samples": self.importance_samples,
            "points": size.points,
            "rows": size.rows,
        }


CATEGORICAL: dict[str, Any] = {"budget": 20, "groups": 20, "gates": "open", "slot_cost": 0.0}
"""20 latents of 10 values, as of Jang et al. 2017, under the recipe's networks and training."""
PLAIN: dict[str, Any] = {
    "encoder_hidden": (512, 384, 256),
    "residual": False,
    "shared_trunk": False,
    "sparsity_hidden": (256, 64),
    "activation": "relu",
    "normalisation": "none",
}
"""The paper's networks."""
LONGER = 1.15
"""The categorical latent's steps are shorter: it takes so many times as many."""


def cases(size: Size) -> dict[str, Case]:
    """Return all cases by name, in the order in which they are run."""
    few = max(1, size.importance_samples // 10)
    long: dict[str, Any] = {} if size.iterations is None else {"iterations": size.iterations}
    iterations = recipe("best", **long)[1].iterations
    longer: dict[str, Any] = {"iterations": int(LONGER * iterations)}
    short: dict[str, Any] = {"iterations": size.short, "kl_warmup": 0.4}

    def case(part: str, title: str, data: str = size.data, **changes: Any) -> Case:
        model, training = recipe("best", **changes)
        first = part == "headline"
        training = dataclasses.replace(training, evaluate_every=training.iterations // size.points)
        samples, seeds = (size.importance_samples, size.seeds) if first else (few, 1)
        return Case(part, title, data, model, training, samples, seeds)

    def default(part: str, title: str, **changes: Any) -> Case:
        training = TrainingConfig(**changes, evaluate_every=changes["iterations"] // size.points)
        return Case(part, title, size.data, ModelConfig(), training, few)

    ours, theirs = "K = 200, L0 = 40, 40 groups", "20 x 10 categorical"
    found = {
        "best": case("headline", ours, **long),
        "categorical": case("headline", theirs, **CATEGORICAL, **longer),
        "best-short": case("short", ours, **short),
        "categorical-short": case("short", theirs, **CATEGORICAL, **short),
        "categorical-learned-short": case(
            "short", f"{theirs}, learned prior", **{**CATEGORICAL, "prior": "learned"}, **short
        ),
        "default-short": default("short", f"{ours}, the defaults", iterations=size.short),
        "plain": case("plain", ours, **PLAIN, **short),
        "categorical-plain": case("plain", theirs, **PLAIN, **CATEGORICAL, **short),
    }
    for budget in BUDGETS:
        groups = min(budget, 40)
        title = f"L0 = {budget}, {groups} groups"
        found[f"budget-{budget}"] = case("budget", title, budget=budget, groups=groups, **short)
    for data in ("fashion-mnist", "digits"):
        found[data] = case("data", ours, data, **short)
    return found
