"""Where the options of ``sdlgm fit`` start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdlgm.cli.start import starting_values
from sdlgm.recipes import RECIPES


@pytest.mark.parametrize(
    ("tokens", "name"),
    [
        ("fit digits", "default"),
        ("fit digits --objective elbo --likelihood=bernoulli", "default"),
        ("fit digits --objective=paper", "plain"),
        ("fit digits --objective paper --recipe best", "best"),
        ("fit table.csv --likelihood gaussian", "plain"),
        ("fit table.csv --likelihood=poisson --recipe=default", "default"),
        ("fit --seed 1 --recipe=best", "best"),
    ],
)
def test_the_command_line_names_it_or_what_it_is_for(tokens: str, name: str) -> None:
    assert starting_values(tokens.split()) == {"recipe": name, **RECIPES[name]}


def test_a_file_of_settings_counts_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("likelihood: gaussian\nfeatures: 8\n")
    assert starting_values(["fit", "--config", str(path)]) == {"recipe": "plain"}
    tokens = ["fit", f"--config={path}", "--likelihood", "bernoulli"]
    assert starting_values(tokens)["recipe"] == "default"
    path.write_text("recipe: best\n")
    assert starting_values(["fit", "--config", str(path)])["recipe"] == "best"


@pytest.mark.parametrize("content", ["- a list", "a: b: c", "\x00", "recipe: [best]"])
def test_what_is_wrong_is_left_to_the_parser(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    tokens = ["fit", "--config", str(path)]
    assert starting_values(tokens).get("recipe", "default") == "default"
    assert starting_values([*tokens, "--recipe", "beast"]) == {}
    assert starting_values(["fit", "--recipe"]) == starting_values(["fit"])
    assert starting_values(["fit", "--config", "nowhere.yaml"])["recipe"] == "default"
