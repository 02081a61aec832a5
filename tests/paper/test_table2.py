"""The multi-label experiment in its smallest profile, on synthetic data sets."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from paper.__main__ import main
from paper.results import ResultCache
from paper.table2 import experiment as table2
from paper.table2 import protocol as table2_protocol
from paper.table2.methods import METHODS, PROFILES, Method, Size, own, thresholds
from paper.table2.protocol import blocks, in_fresh_process, measure, select
from scipy.sparse import csr_array

from sdlgm.baselines import ConstantLabels, LinearLabels
from sdlgm.data import MultilabelDataset
from sdlgm.errors import SDLGMError
from sdlgm.estimators.metrics import macro_f1_harmonic, micro_f1

FAST = ["constant", "all", "logistic", "softmax", "sparsemax", "extra-trees", "mlp"]
SETS = ["emotions", "cal500-folds", "bibtex"]
SMOKE = PROFILES["smoke"]


def small(name: str, split: str = "official", **options: bool) -> MultilabelDataset:
    """A data set of 12 labels that depend on 5 inputs, sparse if the real one is."""
    random = np.random.default_rng(int(split[-1]) if split.startswith("fold") else 0)
    x = random.normal(size=(90, 5)) * (random.random((90, 5)) < 0.8)
    y = (x @ np.random.default_rng(7).normal(size=(5, 12)) > 1.5).astype(np.int64)
    y[y.sum(1) == 0, 0] = 1
    kind = csr_array if name in ("bibtex", "delicious") else np.asarray
    names = tuple(map(str, range(12)))
    parts = (kind(part) for part in (x[:60], y[:60], x[60:], y[60:]))
    return MultilabelDataset(name, split, *parts, names, names[:5])


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the data sets by small ones and measure in this process, which has them."""
    table2._load.cache_clear()
    monkeypatch.setattr(table2, "load_multilabel", small)
    monkeypatch.setattr(table2, "in_fresh_process", lambda work, *arguments: work(*arguments))


@pytest.fixture
def out(tmp_path: Path, sets: None) -> Path:
    words = f"table2 --profile smoke --seeds 2 --out {tmp_path} --only"
    assert main([*words.split(), *SETS, *FAST]) == 0
    return tmp_path


def test_files_are_written_and_finished_choices_kept(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = json.loads((out / "table2.json").read_text())
    assert set(result) == {"experiment", "command", "commit", "versions", "rows"}
    assert result["command"] == "python -m paper table2 --profile smoke"
    by = {(line["method"], line["dataset"], line["metric"]): line for line in result["rows"]}
    assert {method for method, _, _ in by} == set(FAST)
    for method in FAST:
        f1 = [by[method, "Emotions", m]["value"] for m in ("macro_f1_mean", "macro_f1_harmonic")]
        assert 0 < f1[0] <= f1[1] <= 100
    assert by["mlp", "Emotions", "micro_f1"]["seeds"] == [0, 1]
    assert by["softmax", "Emotions", "micro_f1"]["seeds"] == [0]
    assert by["softmax", "Emotions", "micro_f1"]["published"] == 67.34
    assert by["softmax", "CAL500 (five folds)", "macro_f1_harmonic"]["published"] == 23.51
    assert len(by["softmax", "CAL500 (five folds)", "micro_f1"]["chosen"]) == 5
    assert ("softmax", "Emotions", "calibration_error") not in by  # its rows sum to 1
    assert by["mlp", "Emotions", "calibration_error"]["value"] < 1
    assert by["mlp", "Emotions", "empty (micro choice)"]["value"] == 0
    assert by["all", "Emotions", "over_budget (macro choice)"]["value"] == 30
    assert by["all", "CAL500 (five folds)", "over_budget (micro choice)"]["value"] == 150
    assert by["logistic", "Bibtex", "ndcg_at_5"]["value"] > 50
    assert by["logistic", "Bibtex", "peak_gigabytes"]["value"] > 0.05
    assert not any(key[0] == "all" and key[1] == "Bibtex" for key in by)

    text = (out / "table2.md").read_text()
    for part in ("harmonic", "67.34", "| published: 1-vs-all | 62.62", "by fold, see the JSON"):
        assert part in text, part
    page = (out / "table2.html").read_text()
    assert "<svg" in page
    assert page.count("<table>") == 5
    assert re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page) == []
    assert (out / "figure5.png").read_bytes().startswith(b"\x89PNG")

    def refuse(*arguments: object) -> None:
        raise AssertionError(arguments)

    for name in ("select", "measure", "select_ranking", "measure_ranking"):
        monkeypatch.setattr(table2, name, refuse)
    lines: list[str] = []
    table2.reproduce(out, profile="smoke", seeds=2, only=[*SETS, *FAST], say=lines.append)
    assert all("done before" in line for line in lines)
    assert json.loads((out / "table2.json").read_text()) == result


def test_seeds_that_miss_a_split_are_not_reported(out: Path) -> None:
    (out / "cells" / "cal500-folds.fold-3.softmax-0.json").unlink()
    (out / "cells" / "cal500-folds.fold-1.mlp-1.json").unlink()
    finished = list(table2._finished(ResultCache(out / "cells"), SMOKE))
    done = {(c.method, c.seed) for c in finished if c.task == "cal500-folds"}
    assert ("mlp", 0) in done
    assert not done & {("softmax", 0), ("mlp", 1)}


def test_folds_have_the_published_sizes() -> None:
    assert [int(held.sum()) for held in blocks(391)] == [79, 79, 79, 79, 75]
    assert np.flatnonzero(blocks(10)[1]).tolist() == [2, 3]
    assert sum(held.astype(int) for held in blocks(13)).tolist() == [1] * 13


def test_the_best_pair_is_chosen_without_test_rows() -> None:
    method, data = METHODS["logistic"], small("emotions")
    choice = select(method, data, SMOKE)
    decisions = method.decisions(Size(12, 5))
    found = {}
    for place, setting in enumerate(method.settings[:2]):
        for row, decision in enumerate(decisions):
            values = []
            for held in blocks(60):
                model = LinearLabels("logistic", **setting, max_iter=5)
                model.fit(data.X_train[~held], data.Y_train[~held])
                labels = model.predict_proba(data.X_train[held]) > 0.05 * (row + 1)
                assert decision.name == f"p > {0.05 * (row + 1):.4g}"
                truth = data.Y_train[held]
                values.append((micro_f1(truth, labels), macro_f1_harmonic(truth, labels)))
            found[place, row] = 100 * np.mean(values, axis=0)
    for aim, name in enumerate(("micro", "macro")):
        best = max(found, key=lambda key: found[key][aim])
        assert (choice[name]["setting"], choice[name]["decision"]) == best
        assert choice[name]["cross_validated"] == pytest.approx(found[best][aim])
    numbers = measure(method, data, SMOKE, choice, 0)
    model = LinearLabels("logistic", **method.settings[choice["micro"]["setting"]], max_iter=5)
    labels = model.fit(data.X_train, data.Y_train).predict_proba(data.X_test)
    labels = labels > 0.05 * (choice["micro"]["decision"] + 1)
    assert numbers["micro"]["micro_f1"] == pytest.approx(100 * micro_f1(data.Y_test, labels))
    assert numbers["micro"]["empty"] == (labels.sum(1) == 0).sum()


def test_a_single_pair_is_not_cross_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table2_protocol, "blocks", None)
    choice = select(METHODS["all"], small("emotions"), SMOKE)
    assert choice["macro"]["decision_name"] == "its own"
    assert choice["macro"]["cross_validated"] is None


def test_an_estimator_with_its_own_threshold_is_fitted_for_each_aim() -> None:
    made: list[str] = []

    def make(settings, profile, seed):
        made.append(settings["threshold"])
        return ConstantLabels({"micro": 1, "macro": "all"}[settings["threshold"]])

    method = Method("own", "test", make, [{}], own, aim="threshold")
    data = small("emotions")
    numbers = measure(method, data, SMOKE, select(method, data, SMOKE), 0)
    assert made == ["micro", "macro"]
    assert (numbers["micro"]["over_budget"], numbers["macro"]["over_budget"]) == (0, 30)


@pytest.mark.parametrize("name", METHODS)
def test_decision_rules_have_distinct_names(name: str) -> None:
    names = [decision.name for decision in METHODS[name].decisions(Size(12, 4))]
    assert len(set(names)) == len(names)


def test_thresholds_keep_the_minimum_and_maximum_number_of_labels() -> None:
    class Fixed:
        def predict_proba(self, rows: int) -> np.ndarray:
            return np.tile([0.9, 0.6, 0.2], (rows, 1))

    predictions = table2_protocol.Predictions(Fixed(), 2)
    low, high = thresholds([0.1, 0.95], clip=True)(Size(3, 2))
    assert low.labels(predictions).tolist() == [[1, 1, 0]] * 2
    assert high.labels(predictions).tolist() == [[1, 0, 0]] * 2
    free = thresholds([0.1, 0.95], clip=False)(Size(3, 2))
    assert [d.labels(predictions).sum() for d in free] == [6, 0]


def test_a_fresh_process_has_another_id() -> None:
    assert in_fresh_process(os.getpid) != os.getpid()


def test_unknown_names_raise_errors(tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match="No method or set is named 'yeast'. There are constant"):
        table2.reproduce(tmp_path, profile="smoke", only=["yeast"])
    with pytest.raises(SDLGMError, match="No profile is named 'huge'"):
        table2.reproduce(tmp_path, profile="huge")
    with pytest.raises(SDLGMError, match="seeds must be a positive integer, got 0"):
        table2.reproduce(tmp_path, profile="smoke", seeds=0)
