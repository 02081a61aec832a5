"""The comparison of classifiers of label sets, in its smallest profile: files, resuming, ranks."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from paper.labels import debian_tags, experiment
from paper.labels.experiment import LEFT_OUT, reproduce
from paper.labels.methods import METHODS
from paper.labels.tables import METRICS, average_ranks, markdown

from sdlgm.errors import DataError, SDLGMError

WITH_DATA = pytest.mark.skipif(
    not (Path(os.environ.get("SDLGM_DATA", "-")) / "mulan" / "emotions").is_dir(),
    reason="SDLGM_DATA names no folder with mulan/emotions",
)


@WITH_DATA
def test_a_comparison_is_written_and_continued(tmp_path: Path, monkeypatch) -> None:
    lines: list[str] = []
    only = ["emotions", "sdlgm", "logistic", "extra trees"]
    path = reproduce(tmp_path, profile="smoke", only=only, say=lines.append)
    rows = json.loads(path.read_text())["rows"]
    assert {row["method"] for row in rows} == set(only[1:])
    assert {row["metric"] for row in rows} == set(METRICS)
    assert all(len(row["seeds"]) == 2 for row in rows)
    text = path.with_suffix(".md").read_text()
    assert "### Average ranks over 1 sets" in text

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"{arguments} is computed again")

    monkeypatch.setattr(experiment, "_measure", refuse)
    again: list[str] = []
    reproduce(tmp_path, profile="smoke", only=only, say=again.append)
    assert all("done before" in line for line in again)
    assert len(again) == len(lines) == 6


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match="No method or set is named 'forest'"):
        reproduce(tmp_path, profile="smoke", only=["forest"])


def test_ranks_and_their_test_are_those_of_the_textbook() -> None:
    """The example of Demsar 2006, section 3.2.2: 4 methods, 14 sets, critical distance 1.25."""
    values = np.random.default_rng(0).random((14, 4)) + np.array([0.0, 0.5, 1.0, 2.0])
    ranks, p, distance = average_ranks(values, higher=True)
    assert distance == pytest.approx(1.25, abs=0.01)
    assert ranks[3] == 1
    assert p < 0.001
    np.testing.assert_allclose(average_ranks(-values, higher=False)[0], ranks)


def _found(folds: dict[tuple[str, str], list[float]]) -> dict[str, dict[str, dict[int, dict]]]:
    """Return numbers by set, method and fold, from the value that all metrics of a fold have."""
    found: dict[str, dict[str, dict[int, dict]]] = {}
    for (name, method), values in folds.items():
        numbers = {place: dict.fromkeys(METRICS, value) for place, value in enumerate(values)}
        found.setdefault(name, {})[method] = numbers
    return found


def _tables(found: dict[str, dict[str, dict[int, dict]]]) -> str:
    return markdown(found, "About.", groups={"small": ["one"]}, own="ours", averages=["both"])


def test_ranks_are_over_sets_and_methods_without_gaps() -> None:
    values = {"ours": 3.0, "slow": 1.0, "trees": 2.0}
    found = _found({(name, m): [v] for name in ("one", "two") for m, v in values.items()})
    found |= _found({("three", "ours"): [2.0], ("three", "trees"): [1.0]})
    text = _tables(found)
    all_sets, all_methods = text.split("### Average ranks over ")[1:3]
    assert all_sets.startswith("3 sets (all sets)\n\nSets (folds): one (1), two (1), three (1).")
    assert "| ours | 1.0" in all_sets
    assert "slow" not in all_sets
    assert all_methods.startswith("2 sets (all sets)\n\nSets (folds): one (1), two (1).")
    assert "| slow | 3.0" in all_methods
    assert "| slow | 1.00 | 1.00 | - |" in text


def test_a_method_with_fewer_folds_is_marked_and_has_no_rank() -> None:
    found = _found({("one", "ours"): [1.0, 1.0], ("one", "a"): [2.0, 2.0], ("one", "b"): [9.0]})
    text = _tables(found)
    assert "| b | 9.00* |" in text
    assert "| b | 1.0" not in text
    assert "| one | 1.00 | a | 2.00 | -1.00 | 0.00 |" in text


def test_an_average_of_methods_is_no_rival() -> None:
    text = _tables(_found({("one", "ours"): [1.0], ("one", "a"): [2.0], ("one", "both"): [3.0]}))
    assert "| one | 1.00 | a | 2.00 | -1.00 | - |" in text
    without = text.split("(all sets, without averages)")[1].split("###")[0]
    assert "both" not in without


def test_methods_that_take_hours_on_a_set_are_measured_only_if_both_are_named() -> None:
    everything = experiment._pairs([*METHODS, *experiment.SETS])
    assert ("emotions", "extra trees") in everything
    assert ("delicious", "sdlgm") in everything
    assert not any(method in LEFT_OUT.get(name, ()) for name, method in everything)
    assert experiment._pairs(["delicious", "chain"]) == [("delicious", "chain")]
    assert ("delicious", "chain") not in experiment._pairs(["delicious"])


# --- Debian tags ------------------------------------------------------------------------------

INDEX = """\
Package: able
Description: editor written in C++
Description-md5: 0
Tag: role::program, implemented-in::c++,
 use::editing, sound::TODO

Package: able-data
Source: able (1.0)
Description: editor written in C++ (data)
Tag: role::app-data

Package: baker
Description: C library

Package: cook
Description: an editor, an editor!
 With a long description
 .
 of recipes.
Tag: role::program
"""


def test_an_index_gives_one_package_with_tags_of_each_source() -> None:
    found = list(debian_tags.packages(INDEX.splitlines()))
    assert [package.source for package in found] == ["able", "cook"]
    assert found[0].tags == ("role::program", "implemented-in::c++", "use::editing")
    assert found[1].description == "an editor, an editor! With a long description . of recipes."


def test_words_are_counted_and_rare_tags_and_words_are_left_out() -> None:
    found = list(debian_tags.packages(INDEX.splitlines()))
    x, y, names = debian_tags.tag_table(found, 1, 1)
    assert names == ["implemented-in::c++", "role::program", "use::editing"]
    assert y.tolist() == [[1, 1, 1], [0, 1, 0]]
    assert x.max() == 2
    assert x.sum() == 4 + 10
    x, y, names = debian_tags.tag_table(found, 2, 2)
    assert names == ["role::program"]
    assert x.toarray().tolist() == [[1], [2]]


def test_an_index_without_tags_is_refused() -> None:
    with pytest.raises(DataError, match="No tag has 5 packages in this index of 2 packages"):
        debian_tags.tag_table(debian_tags.packages(INDEX.splitlines()), 5, 1)


def test_a_set_of_tags_is_read_from_the_data_folder(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "debian").mkdir()
    with gzip.open(tmp_path / "debian" / "Packages.gz", "wt") as file:
        file.write(INDEX)
    monkeypatch.setenv("SDLGM_DATA", str(tmp_path))
    assert debian_tags.available()
    x, y, _ = debian_tags.load_debian_tags(1, 1)
    assert x.shape == (2, 11)
    assert y.shape == (2, 3)
