"""The preset that the options of ``sdlgm fit`` start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdlgm.cli import main
from sdlgm.cli.start import starting_values
from sdlgm.config import PRESETS
from sdlgm.errors import ConfigError


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


def test_the_last_settings_file_with_a_preset_names_it(tmp_path: Path) -> None:
    for name, text in (("model", "preset: best\nbudget: 3"), ("train", "seed: 1")):
        (tmp_path / f"{name}.yaml").write_text(text)
    tokens = ["fit", "--config", f"{tmp_path}/model.yaml", f"--config={tmp_path}/train.yaml"]
    assert starting_values(tokens)["preset"] == "best"
    (tmp_path / "train.yaml").write_text("preset: plain")
    assert starting_values(tokens)["preset"] == "plain"


ALIASES = "a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: b: c", "is not YAML"),
        (b"\x00", "is not YAML"),
        (b"\xff", "is not YAML"),
        (ALIASES.encode(), "aliases are not allowed"),
        (b"a: " + b"[" * 100, "nested too deeply: .* limit of 64.* SDLGM_MAX_DEPTH"),
        (b"a: " + b"1" * 5000, "integer is too long: 5,000 .* limit of 20.* SDLGM_MAX_DIGITS"),
        (b"data: " + b"x" * 70_000, "limit of 65,536.* SDLGM_MAX_STRING_LENGTH"),
        (b"# " + b"x" * 2**17, "limit of 131,072.* SDLGM_MAX_YAML_BYTES"),
    ],
)
def test_a_settings_file_beyond_the_limits_is_a_sentence_that_names_both(
    tmp_path: Path, content: bytes, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"settings.yaml.*{message}"):
        starting_values(["fit", "--config", str(path)])
    assert main(["fit", "digits", "--config", str(path), "--out", str(tmp_path / "run")]) == 1
    said = capfd.readouterr().err
    assert "settings.yaml" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["- a list", "preset: [best]"])
def test_errors_in_the_file_are_left_to_the_parser(tmp_path: Path, content: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(content)
    tokens = ["fit", "--config", str(path)]
    assert starting_values(tokens).get("preset", "default") == "default"
    assert starting_values([*tokens, "--preset", "beast"]) == {}
    assert starting_values(["fit", "--preset"]) == starting_values(["fit"])
    assert starting_values(["fit", "--config", "nowhere.yaml"])["preset"] == "default"
