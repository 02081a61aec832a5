"""The preset that the options of ``sdlgm fit`` start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdlgm.cli.start import starting_values
from sdlgm.config import PRESETS


@pytest.mark.parametrize(
    ("tokens", "name"),
    [
        ("fit digits", "default"),
        ("fit digits --objective=paper", "default"),
        ("fit digits --preset best", "best"),
        ("fit --seed 1 --preset=paper", "paper"),
    ],
)
def test_the_command_line_names_the_preset(tokens: str, name: str) -> None:
    assert starting_values(tokens.split()) == {"preset": name, **PRESETS[name]}


def test_a_settings_file_may_name_the_preset_and_the_command_line_overrides_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("preset: best\n")
    assert starting_values(["fit", "--config", str(path)])["preset"] == "best"
    tokens = ["fit", f"--config={path}", "--preset", "plain"]
    assert starting_values(tokens)["preset"] == "plain"


@pytest.mark.parametrize("content", ["- a list", "a: b: c", "\x00", "preset: [best]"])
def test_errors_in_the_file_are_left_to_the_parser(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    tokens = ["fit", "--config", str(path)]
    assert starting_values(tokens).get("preset", "default") == "default"
    assert starting_values([*tokens, "--preset", "beast"]) == {}
    assert starting_values(["fit", "--preset"]) == starting_values(["fit"])
    assert starting_values(["fit", "--config", "nowhere.yaml"])["preset"] == "default"
