"""Recipes: settings in Python and on the command line."""

from __future__ import annotations

import pytest

from sdlgm.config import ModelConfig, TrainingConfig, to_dict
from sdlgm.errors import ConfigError
from sdlgm.recipes import RECIPES, recipe, usual_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_what_it_says_and_the_defaults(name: str) -> None:
    model, training = recipe(name)
    values, usual = to_dict(model, training), to_dict(ModelConfig(), TrainingConfig())
    said = {k: list(v) if isinstance(v, tuple) else v for k, v in RECIPES[name].items()}
    assert {key: values[key] for key in said} == said
    assert {k for k in values if values[k] != usual[k]} == set(said)


def test_changes_win() -> None:
    model, training = recipe("best", seed=3, budget=20, iterations=5)
    assert (model.budget, model.groups, training.seed, training.iterations) == (20, 20, 3, 5)


def test_wrong_names_are_named() -> None:
    with pytest.raises(ConfigError, match="no recipe 'bets'. Did you mean 'best'"):
        recipe("bets")
    with pytest.raises(ConfigError, match="no key 'sed'. Did you mean 'seed'"):
        recipe("best", sed=3)


def test_the_usual_one_is_that_of_bits_and_the_discrete_bound() -> None:
    assert usual_recipe() == usual_recipe("bernoulli", "elbo") == "default"
    assert usual_recipe("gaussian") == usual_recipe(objective="paper") == "plain"
    assert RECIPES["plain"] == {}
