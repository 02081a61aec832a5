"""What is trained for the discrete bound: the preset, its rivals, and its variations."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

from sdlgm.config import ModelConfig, TrainingConfig, preset

__all__ = ["BUDGETS", "PROFILES", "Case", "Size", "cases"]

BUDGETS = (5, 10, 20, 40, 80)
"""Budgets L0 of the sweep, at K = 200; of more than 40 slots, two share a group."""


@dataclass(frozen=True)
class Size:
    """How much is trained and measured."""

    data: str
    iterations: int | None
    """Of the headline; ``None``: the preset's own."""
    short: int
    """The paper's budget of iterations, of all other trainings."""
    points: int
    """Evaluations along a training, evenly spaced."""
    rows: int
    """Test rows of those evaluations, evenly spaced; the final numbers are of the whole split."""
    importance_samples: int
    """Of every ``nll_bound`` but those of ``close_samples``."""
    close_samples: int
    """Of two more measurements of ours: seed 0 of the headline, and the longest training."""
    refine_steps: int
    """By which posteriors are refined for the second of these."""
    seeds: int
    """Of the headline, and of the default and its rival; all others take one."""
    long: int
    """Iterations of the longest training."""


PROFILES = {
    "full": Size("mnist", None, 10_000, 20, 2000, 100, 1000, 50, 3, 60_000),
    "smoke": Size("digits", 40, 20, 2, 50, 5, 20, 3, 1, 60),
}


@dataclass(frozen=True)
class Case:
    """One model and its training."""

    parts: tuple[str, ...]
    """Tables that it stands in: headline, long, short, networks, budget or data."""
    title: str
    data: str
    model: ModelConfig
    training: TrainingConfig
    importance_samples: int
    seeds: int = 1
    close_samples: int = 0
    """Codes a sample of two more measurements of seed 0: at the encoder's posteriors, and at
    posteriors refined by ``refine_steps`` steps; 0: none."""
    refine_steps: int = 0

    def settings(self, size: Size) -> dict[str, Any]:
        """Return all that its numbers depend on, beside the seed."""
        return {
            "data": self.data,
            "model": dataclasses.asdict(self.model),
            "training": dataclasses.asdict(self.training),
            "importance_samples": self.importance_samples,
            "close_samples": self.close_samples,
            "refine_steps": self.refine_steps,
            "points": size.points,
            "rows": size.rows,
        }


CATEGORICAL: dict[str, Any] = {"budget": 20, "groups": 20, "gates": "open", "slot_cost": 0.0}
"""20 latents of 10 values, as of Jang et al. 2017, under the preset's networks and training."""
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


LONG: dict[str, Any] = {"weight_decay": 0.05, "slot_cost": 0.0}
"""Of the longest training. The longer, the less decay: rate x decay x iterations is 6 in all."""


def cases(size: Size) -> dict[str, Case]:
    """Return all cases by name, in the order in which they are run."""
    ours, theirs = "K = 200, L0 = 40, 40 groups", "20 x 10 categorical"
    sparse = f"{ours}, a slot cost of 0.1"
    headline: dict[str, Any] = {} if size.iterations is None else {"iterations": size.iterations}
    iterations = preset("best", **headline)[1].iterations
    longer: dict[str, Any] = {"iterations": int(LONGER * iterations)}
    learned = CATEGORICAL | {"prior": "learned"}
    case = functools.partial(_case, size)
    found = {
        "long": case(
            "long", f"{ours}, no slot cost", start="best", close=True, **LONG, iterations=size.long
        ),
        "best": case("headline", ours, start="best", repeated=True, close=True, **headline),
        "categorical": case(
            "headline", theirs, start="best", repeated=True, **CATEGORICAL, **longer
        ),
        "best-sparse": case(
            "headline", sparse, start="best", repeated=True, slot_cost=0.1, **headline
        ),
        "default": case("short budget", f"{ours}, the default", repeated=True),
        "default-plain": case("short", f"{ours}, the preset plain", start="plain"),
        "categorical-short": case("short", theirs, repeated=True, **CATEGORICAL),
        "paper-networks": case("networks", ours, **PLAIN),
        "categorical-paper-networks": case("networks", theirs, **PLAIN, **CATEGORICAL),
    }
    for budget in BUDGETS:
        if budget != found["default"].model.budget:
            groups = min(budget, 40)
            title = f"L0 = {budget}, {groups} groups"
            found[f"budget-{budget}"] = case("budget", title, budget=budget, groups=groups)
    for data in ("fashion-mnist", "digits", "mnist-5k"):
        found[data] = case("data", f"{ours}, the default", data)
        found[f"{data}-plain"] = case("data", f"{ours}, the preset plain", data, start="plain")
    found["categorical-learned-short"] = case("short", f"{theirs}, learned prior", **learned)
    return found


def _case(
    size: Size,
    parts: str,
    title: str,
    data: str | None = None,
    *,
    start: str = "default",
    repeated: bool = False,
    close: bool = False,
    **changes: Any,
) -> Case:
    """Make a case of a preset and changes; all but the headline and the longest are short."""
    long = parts in ("headline", "long")
    if not long:
        changes = {**changes, "iterations": size.short}
    model, training = preset(start, **changes)
    training = dataclasses.replace(training, evaluate_every=training.iterations // size.points)
    return Case(
        parts=tuple(parts.split()),
        title=title,
        data=data or size.data,
        model=model,
        training=training,
        importance_samples=size.importance_samples,
        seeds=size.seeds if repeated else 1,
        close_samples=size.close_samples if close else 0,
        refine_steps=size.refine_steps if close else 0,
    )
