"""Limits on files from strangers: JSON, YAML, text that is printed, and their documentation."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from sdlgm.errors import ConfigError, DataError, ModelFileError, printable
from sdlgm.limits import LIMITS, check_cells, limit, open_regular, parse_json, parse_yaml
from sdlgm.storage import read_json
from sdlgm.training import RunConfig
from sdlgm.training.log import read_log

SECURITY = Path(__file__).parents[1] / "docs" / "security.md"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * 65 + "]" * 65, "nested too deeply: 65 is more than the limit of 64"),
        ('{"a": ' + "9" * 5000 + "}", "integer that is too long"),
        ('{"a": NaN}', "NaN is not a number of JSON"),
        ('{"a": 1e999}', "too large a number"),
        ('"' + "a" * 70_000 + '"', "SDLGM_MAX_STRING_LENGTH=70000"),
        ('"\\ud800"', "not Unicode"),
        ("[" + "1," * 1_000_001 + "1]", "holds too many values"),
        ("{", "is not JSON"),
    ],
)
def test_hostile_json_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelFileError, match=message):
        read_json(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1, 2]\nb: *a\n", "aliases are not allowed"),
        ("a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\n" * 1, "aliases are not allowed"),
        ("data: " + "[" * 20_000, "nested too deeply"),
        ("seed: " + "9" * 5000, "integer is too long"),
        ("seed: 2020-99-99", "is not YAML"),
        ("a: 1\n" * 50_000, "SDLGM_MAX_YAML_BYTES"),
        ("a: [", "is not YAML"),
        ("\x00", "is not YAML"),
        ("5", "must map keys to values"),
    ],
)
def test_hostile_settings_of_a_run_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    began = time.process_time()
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_yaml(path)
    assert time.process_time() - began < 10


def test_a_log_of_others_gives_only_lines_with_a_step(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = ['{"step": 3, "event": "train"}', "7", "[" * 50_000, '{"step": "x"}', '{"step": 1e', ""]
    path.write_text("\n".join(lines))
    assert read_log(path) == [{"step": 3, "event": "train"}]


def test_plain_json_and_yaml_are_read() -> None:
    assert parse_json('{"a": [1, -2.5, null, "é"]}', "x") == {"a": [1, -2.5, None, "é"]}
    assert parse_yaml("a: [1, -2.5, null, é]", "x") == {"a": [1, -2.5, None, "é"]}


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.parquet")
    for path in (tmp_path / "x.parquet", tmp_path):
        with pytest.raises(DataError, match="is not a regular file"):
            open_regular(path, DataError)
    with pytest.raises(DataError, match="does not exist"):
        open_regular(tmp_path / "none", DataError)


def test_environment_variables_raise_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = limit("cells")
    with pytest.raises(DataError, match=f"SDLGM_MAX_CELLS={cells + 1}"):
        check_cells(cells + 1, 100, "x", DataError)
    check_cells(cells + 1, cells, "x", DataError)  # a large file may hold a large table
    monkeypatch.setenv("SDLGM_MAX_CELLS", str(cells + 1))
    check_cells(cells + 1, 100, "x", DataError)
    monkeypatch.setenv("SDLGM_MAX_CELLS", "many")
    with pytest.raises(ConfigError, match="must be a positive integer"):
        limit("cells")


def test_every_limit_is_documented_with_its_default() -> None:
    found = dict(
        re.findall(
            r"^\| `([A-Z_]+)` \| ([\d,]+(?: [KM]iB)?) \|", SECURITY.read_text(), re.MULTILINE
        )
    )
    units = {"": 1, "KiB": 2**10, "MiB": 2**20}

    def number(text: str) -> int:
        digits, _, unit = text.partition(" ")
        return int(digits.replace(",", "")) * units[unit]

    assert {name.lower(): number(text) for name, text in found.items()} == LIMITS


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert printable("\x1b[31mred\x07\x9b") == r"\x1b[31mred\x07\x9b"
    assert printable("a\u202eb") == r"a\u202eb"
    assert printable("café 漢字 ok") == "café 漢字 ok"
    assert printable("a\nb") == r"a\nb"
    assert printable("a\nb", kept="\n") == "a\nb"
