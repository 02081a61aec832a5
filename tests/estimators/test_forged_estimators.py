"""Estimators whose files are signed with the right digest, but ask for too much or are unsound."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdlgm import load
from sdlgm.cli import main
from sdlgm.errors import ModelFileError, SDLGMError
from sdlgm.estimators import SDLGMClassifier
from sdlgm.storage import read_tensors, write_described

GOLDEN = Path(__file__).parents[1] / "golden"
Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]


def forge(kind: str, folder: Path, change: Change) -> Path:
    """Copy a saved estimator, change its description and tensors, and sign them."""
    shutil.copytree(GOLDEN / kind, folder / kind)
    files = [folder / kind / f"estimator.{end}" for end in ("safetensors", "json")]
    tensors, about, _ = read_tensors(files[0])
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(about, tensors)
    write_described(files[0], files[1], tensors, about)
    return folder / kind


def _config(**changes: Any) -> Change:
    return lambda about, _: about["network"]["dict"]["config"]["dict"].update(changes)


def _fitted(**changes: Any) -> Change:
    return lambda about, _: about["fitted"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_config(members=10**9), "is torch.float32"),
        (_config(hidden={"tuple": [10**9]}), "is torch.float32"),
        (_config(hidden={"tuple": [1] * 100_000}), "SDLGM_MAX_LAYERS"),
        (_config(slots=10**9), "settings of the network"),
        (_config(members=True), "settings of the network"),
        (_config(latents=-1), "settings of the network"),
        (_fitted(n_features_in_=10**12), "n_features_in_"),
        (_fitted(n_labels_="x"), "n_labels_"),
        (_fitted(threshold_="x"), "threshold_"),
        (_fitted(classes_=[1]), "threshold_, classes_"),
        (_fitted(extra_={"strings": ["str", [300], ["a" * 60_000, *["b"] * 299]]}), "fixed-width"),
        (_fitted(_fitted_rows={"tuple": [3, False, "", 1, False]}), "rows of the fit"),
        (_fitted(_fitted_rows=3), "rows of the fit"),
        (_fitted(extra_={"scalar": ["int8", 1000]}), "damaged"),
        (_fitted(extra_={"scalar": ["float64", [1]]}), "not a value"),
        (_fitted(extra_={"strings": ["object", [-1, "x"], ["a"]]}), "damaged"),
        (lambda a, t: t["network.gate_head.bias"].fill_(torch.nan), "network.gate_head.bias holds"),
        (lambda a, t: t["network_values.scaling.scale"].fill_(torch.nan), "scaling"),
    ],
)
def test_forged_classifiers_are_refused_at_once(
    change: Change, message: str, tmp_path: Path
) -> None:
    folder = forge("classifier-1", tmp_path, change)
    began = time.process_time()
    with pytest.raises(SDLGMError, match=message):
        load(folder)
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_fitted(sample_shape_={"tuple": [10**9, 10**9]}), "sample_shape_"),
        (_fitted(sample_shape_={"tuple": [1, 72]}), "is torch.float32"),
        (_fitted(max_count_=10**12), "budget_"),
        (lambda a, t: a["params"].update(channels={"tuple": [10**6, 10**6]}), "is torch.float32"),
        (lambda a, t: a["params"].update(columns=0), "describe a network"),
        (lambda a, t: a["network"]["dict"].update(features=10**9), "describe a network"),
    ],
)
def test_forged_counters_are_refused_at_once(change: Change, message: str, tmp_path: Path) -> None:
    folder = forge("counter-1", tmp_path, change)
    began = time.process_time()
    with pytest.raises(ModelFileError, match=message):
        load(folder)
    assert time.process_time() - began < 10


def test_tables_of_label_numbers_are_no_wider_than_the_labels(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    x, y = source.normal(size=(20, 3)), (source.random((20, 4)) < 0.5).astype(int)
    y[:, 0] = 1
    model = SDLGMClassifier(max_labels=10**9, epochs=1, random_state=0).fit(x, y)
    assert model.predict_count_proba(x).shape == (20, 5)
    folder = forge("classifier-1", tmp_path, _fitted(max_labels_=10**9))
    loaded = load(folder)
    assert loaded.predict_count_proba(np.zeros((2, 4), np.float32)).shape == (2, 4)


def test_a_transformer_whose_file_names_no_network_is_refused(tmp_path: Path) -> None:
    folder = forge("transformer-1", tmp_path, lambda about, tensors: about.pop("network"))
    with pytest.raises(ModelFileError, match="does not belong to"):
        load(folder)


@pytest.mark.parametrize("kind", ["classifier-1", "counter-1", "transformer-1"])
@pytest.mark.parametrize(
    "changes",
    [
        {"feature_names_in_": 3, "target_names_in_": 3},
        {"feature_names_in_": {"strings": ["object", [1], ["\x1b[2J"]]}},
        {"inputs_": [1]},
    ],
)
def test_forged_values_are_described_as_text(
    kind: str, changes: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def change(about: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        about["fitted"].update(changes)
        about["params"].update({"variant": 3} if kind == "classifier-1" else {})
        about["versions"] = [1]

    assert main(["info", str(forge(kind, tmp_path, change))]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "\x1b" not in out
