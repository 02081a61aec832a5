"""Recipes: named settings to start from, where the defaults are not what is wanted."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from sdlgm.config import ModelConfig, TrainingConfig, from_dict
from sdlgm.errors import ConfigError

__all__ = ["RECIPES", "recipe", "usual_recipe"]

_GOOD: dict[str, Any] = {
    "encoder_hidden": (512, 512, 512),
    "residual": True,
    "shared_trunk": True,
    "joint_gates": True,
    "prior": "learned_gates",
    "learning_rate": 2e-3,
    "weight_decay": 0.3,
}
RECIPES: dict[str, dict[str, Any]] = {
    "default": _GOOD,
    "best": {**_GOOD, "weight_decay": 0.1, "slot_cost": 0.03, "iterations": 30_000},
    "plain": {},
}
"""Settings of each recipe that differ from those of the bare dataclasses."""


def recipe(name: str, **changes: Any) -> tuple[ModelConfig, TrainingConfig]:
    """Return the settings of a recipe, with changes.

    ``sdlgm.fit("mnist", *recipe("best", seed=1), out="runs/best")`` is
    ``sdlgm fit mnist --recipe best --seed 1 --out runs/best``.

    Parameters
    ----------
    name
        One of ``RECIPES``.
    **changes
        Fields of :class:`~sdlgm.config.ModelConfig` or :class:`~sdlgm.config.TrainingConfig`.

    Raises
    ------
    ConfigError
        If the recipe or a field is unknown, or a value does not fit.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Recipes: {', '.join(RECIPES)}."
        raise ConfigError(f"There is no recipe {name!r}.{hint}")
    values = {**RECIPES[name], **changes}
    of_model = {field.name for field in dataclasses.fields(ModelConfig)}
    shape = {key: value for key, value in values.items() if key in of_model}
    course = {key: value for key, value in values.items() if key not in of_model}
    return from_dict(ModelConfig, shape), from_dict(TrainingConfig, course)


def usual_recipe(likelihood: str = "bernoulli", objective: str = "elbo") -> str:
    """Return the name of the recipe that ``fit`` starts from where none is named.

    That is ``default`` where it is better at equal time: for bits and the discrete bound. It is
    ``plain`` for other likelihoods, and for the paper's objective
    (docs/research/discrete-bound.md).
    """
    return "default" if (likelihood, objective) == ("bernoulli", "elbo") else "plain"
