"""Recipes: named settings to start from, where the defaults are not what is wanted."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

from sdlgm.config import ModelConfig, TrainingConfig, from_dict
from sdlgm.errors import ConfigError

__all__ = ["RECIPES", "recipe", "recipe_given"]

RECIPES: dict[str, dict[str, Any]] = {
    "best": {
        "encoder_hidden": (512, 512, 512),
        "residual": True,
        "shared_trunk": True,
        "joint_gates": True,
        "prior": "learned_gates",
        "prior_gate": 0.25,
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "slot_cost": 0.1,
        "iterations": 30_000,
        "kl_warmup": 0.27,
    }
}
"""Settings of each recipe that are not the defaults."""


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


def recipe_given(tokens: Sequence[str]) -> dict[str, Any]:
    """Return the settings of the recipe that a command line asks for (none: an empty dictionary).

    A name that is unknown is left to the command's own parser.
    """
    for token, after in zip(tokens, [*tokens, ""][1:], strict=True):
        option, _, value = token.partition("=")
        if option == "--recipe":
            return RECIPES.get(value or after, {})
    return {}
