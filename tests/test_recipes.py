"""Recipes: settings in Python and on the command line."""

from __future__ import annotations

import pytest

from sdlgm.config import ModelConfig, TrainingConfig, to_dict
from sdlgm.errors import ConfigError
from sdlgm.recipes import RECIPES, recipe, recipe_given


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


@pytest.mark.parametrize("tokens", [["--recipe", "best"], ["fit", "--seed", "1", "--recipe=best"]])
def test_the_command_line_is_read_for_a_recipe(tokens: list[str]) -> None:
    assert recipe_given(tokens) == RECIPES["best"]


@pytest.mark.parametrize("tokens", [[], ["fit", "digits"], ["--objective", "elbo"]])
def test_without_one_it_is_the_default(tokens: list[str]) -> None:
    assert recipe_given(tokens) == RECIPES["default"]


@pytest.mark.parametrize("tokens", [["--objective=paper"], ["fit", "--objective", "paper"]])
def test_the_papers_objective_starts_from_the_papers_kind_of_model(tokens: list[str]) -> None:
    assert recipe_given(tokens) == RECIPES["plain"] == {}
    assert recipe_given([*tokens, "--recipe", "best"]) == RECIPES["best"]


@pytest.mark.parametrize("tokens", [["--recipe"], ["--recipe", "other"]])
def test_no_known_recipe_is_no_settings(tokens: list[str]) -> None:
    assert recipe_given(tokens) == {}
