"""The trainings of the discrete bound: the preset, baselines, and variations of the preset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdlgm.config import ModelConfig, TrainingConfig, preset

__all__ = ["BUDGETS", "PROFILES", "Case", "Size", "case_of", "cases"]

BUDGETS = (5, 10, 20, 40, 80)
"""Budgets L0 of the sweep, with K = 200; with more than 40 slots, two share a group."""


@dataclass(frozen=True)
class Size:
    """The size of the experiment."""

    data: str
    iterations: int | None
    """Iterations of the headline; ``None`` for those of the preset."""
    short: int
    """Iterations of all other trainings; in the profile full those of the paper."""
    points: int
    """Number of evaluations during a training, evenly spaced."""
    rows: int
    """Number of test rows in those evaluations. The final numbers use the whole split."""
    importance_samples: int
    """Codes per sample in ``nll_bound``, except in the closer evaluations."""
    close_samples: int
    """Codes per sample in the closer evaluations of the headline (seed 0) and the longest run."""
    refine_steps: int
    """Gradient steps that refine the posteriors in the second closer evaluation."""
    seeds: int
    """Seeds of the headline, and of the default and its baseline. All other cases have one."""
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
    """Tables that list it: headline, long, short, networks, budget or data."""
    title: str
    data: str
    model: ModelConfig
    training: TrainingConfig
    importance_samples: int
    seeds: int = 1
    close_samples: int = 0
    """Codes per sample in two more evaluations of seed 0, with the encoder's posteriors and with
    posteriors refined by ``refine_steps`` steps; 0 for neither."""
    refine_steps: int = 0

    def settings(self, size: Size) -> dict[str, Any]:
        """Return everything that its numbers depend on, except the seed."""
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
"""20 latents of 10 values as in Jang et al. 2017, with the preset's networks and training."""
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
"""Factor on the iterations of the categorical latent, for equal wall time."""


LONG: dict[str, Any] = {"weight_decay": 0.05, "slot_cost": 0.0}
"""Changes for the longest training: rate x decay x iterations is 6, as in the preset best."""
ONE_LEVEL: dict[str, Any] = {"levels": 1, "prior": "learned_gates"}
"""A posterior and a prior that are products over groups; of the presets, only plain has both.
Structured codes have an experiment of their own."""
BEST: dict[str, Any] = {
    "weight_decay": 0.1, "slot_cost": 0.03, "iterations": 30_000, "draws": None,
}  # fmt: skip
"""Training of the headline: the preset best of that time."""


def cases(size: Size) -> dict[str, Case]:
    """Return all cases by name, in the order in which they run."""
    ours, categorical = "K = 200, L0 = 40, 40 groups", "20 x 10 categorical"
    sparse = f"{ours}, a slot cost of 0.1"
    headline: dict[str, Any] = {} if size.iterations is None else {"iterations": size.iterations}
    iterations = {**BEST, **headline}["iterations"]
    longer: dict[str, Any] = {"iterations": int(LONGER * iterations)}
    learned = CATEGORICAL | {"prior": "learned"}

    def case(*names: str, start: str = "default", **more: Any) -> Case:
        pinned = {} if start == "plain" else ONE_LEVEL | (BEST if start == "best" else {})
        return case_of(size, *names, start=start, pinned=pinned, **more)

    found = {
        "long": case(
            "long", f"{ours}, no slot cost", start="best", close=True, **LONG, iterations=size.long
        ),
        "best": case("headline", ours, start="best", repeated=True, close=True, **headline),
        "categorical": case(
            "headline", categorical, start="best", repeated=True, **CATEGORICAL, **longer
        ),
        "best-sparse": case(
            "headline", sparse, start="best", repeated=True, slot_cost=0.1, **headline
        ),
        "default": case("short budget", f"{ours}, the default", repeated=True),
        "default-plain": case("short", f"{ours}, the preset plain", start="plain"),
        "categorical-short": case("short", categorical, repeated=True, **CATEGORICAL),
        "paper-networks": case("networks", ours, **PLAIN),
        "categorical-paper-networks": case("networks", categorical, **PLAIN, **CATEGORICAL),
    }
    for budget in BUDGETS:
        if budget != found["default"].model.budget:
            groups = min(budget, 40)
            title = f"L0 = {budget}, {groups} groups"
            found[f"budget-{budget}"] = case("budget", title, budget=budget, groups=groups)
    for data in ("fashion-mnist", "digits", "mnist-5k"):
        found[data] = case("data", f"{ours}, the default", data)
        found[f"{data}-plain"] = case("data", f"{ours}, the preset plain", data, start="plain")
    found["categorical-learned-short"] = case("short", f"{categorical}, learned prior", **learned)
    return found


def case_of(
    size: Size,
    parts: str,
    title: str,
    data: str | None = None,
    *,
    start: str = "default",
    repeated: bool = False,
    close: bool = False,
    pinned: Mapping[str, Any],
    **changes: Any,
) -> Case:
    """Make a case from a preset and changes; all but the headline and the longest run are short.

    ``pinned`` holds what a preset is changed to first.
    """
    long = parts in ("headline", "long")
    if not long:
        changes = {**changes, "iterations": size.short}
    model, training = preset(start, **{**pinned, **changes})
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
