"""Table I in its smallest profile: files, resuming, bounds, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from paper.__main__ import main
from paper.table1 import experiment as table1
from paper.table1.methods import PUBLISHED, methods

from sdlgm.errors import SDLGMError

JANG = ["gumbel_softmax-categorical", "muprop-bernoulli", "reinmax-code-1"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table1")
    for protocol, names in (("jang", JANG), ("paper", ["sdlgm", "default"])):
        words = f"table1 --protocol {protocol} --profile smoke --out {folder} --only"
        assert main([*words.split(), *names]) == 0
    return folder


def values(out: Path, protocol: str) -> dict[tuple[str, str], dict]:
    result = json.loads((out / f"table1_{protocol}.json").read_text())
    assert result["experiment"] == "table1"
    assert result["command"].startswith(f"python -m paper table1 --protocol {protocol}")
    return {(line["method"], line["metric"]): line for line in result["rows"]}


def test_bounds_are_listed_beside_the_relaxed_objective(out: Path) -> None:
    for protocol, names in (("jang", JANG), ("paper", ["sdlgm", "default"])):
        by = values(out, protocol)
        assert {method for method, _ in by} == set(names)
        for name in names:
            for metric in ("negative_elbo", "nll_bound", "relaxed_objective"):
                line = by[name, metric]
                assert 80 < line["value"] < 600
                assert ("NOT a bound" in line["unit"]) == (metric == "relaxed_objective")
                assert line["protocol"] == protocol
                assert line["seeds"] == [0]
    assert values(out, "paper")["sdlgm", "relaxed_objective"]["published"] == 99.05


def test_published_numbers_are_those_of_jang_et_al(out: Path) -> None:
    by = values(out, "jang")
    assert by["gumbel_softmax-categorical", "nll_bound"]["published"] == 101.5
    assert by["muprop-bernoulli", "nll_bound"]["published"] == 109.7
    assert by["reinmax-code-1", "nll_bound"]["published"] is None
    assert {f"{name}-{kind}" for name in PUBLISHED for kind in ("categorical", "bernoulli")} <= set(
        methods("jang")
    )
    text = (out / "table1_jang.md").read_text()
    assert "| 20 x 10 categorical | `gumbel_softmax` |" in text
    assert "| 101.5 |" in text


def test_latent_families_have_the_expected_number_of_features(out: Path) -> None:
    by = values(out, "jang")
    line = by["gumbel_softmax-categorical", "active_features_mean"]
    assert line["value"] == by["gumbel_softmax-categorical", "active_features_max"]["value"] == 20
    assert by["reinmax-code-1", "active_features_max"]["value"] <= 40


def test_finished_methods_are_not_trained_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = values(out, "jang")
    monkeypatch.setattr(table1, "train", None)
    lines: list[str] = []
    table1.reproduce(out, profile="smoke", only=JANG[:1], say=lines.append)
    assert "rates [1/2]" in lines[0]
    assert values(out, "jang") == before
    assert not list((out / "work").iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("table1 --only gumbel", "No method is named 'gumbel'. There are score_function-"),
        ("table1 --seeds 0", "seeds must be a positive integer, got 0"),
        ("table1 --jobs 0", "jobs must be a positive integer, got 0"),
        ("table1 --profile huge", "No profile is named 'huge'. There are full, smoke"),
    ],
)
def test_wrong_values_exit_with_a_message(
    words: str, message: str, in_tmp: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["table1", "--profile", "smoke", *words.split()[1:]]) == 1
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not list(in_tmp.iterdir())


def test_options_of_other_experiments_are_usage_errors(
    in_tmp: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["counts", "--protocol", "paper", "--profile", "smoke"])
    assert "counts takes no --protocol" in capsys.readouterr().err
    assert not list(in_tmp.iterdir())


def test_an_unknown_protocol_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match="No protocol is named 'yang'. There are jang, paper"):
        table1.reproduce(tmp_path, protocol="yang")
