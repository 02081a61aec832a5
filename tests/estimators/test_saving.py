"""Saved estimators are bit-identical when loaded, and refused when damaged."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.exceptions import NotFittedError

from helpers import tiny_model
from sdlgm.errors import ConfigError, DataError, ModelFileError, SDLGMError
from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer, load
from sdlgm.models import load_model, save_model
from sdlgm.storage import read_tensors, write_tensors
from sdlgm.training import Run
from trials import kill_while_saving

SOURCE = np.random.default_rng(0)
X = SOURCE.normal(size=(40, 4)).astype(np.float32)
Y = np.maximum(X[:, :3] > 0, np.eye(3, dtype=bool)[0]).astype(np.int64)
IMAGES = SOURCE.integers(0, 255, size=(30, 6, 12)).astype(np.uint8)
COUNTS = SOURCE.multinomial(2, [0.3, 0.3, 0.4], size=30)[:, :2]
CLASSIFIER = {"members": 2, "folds": 2, "epochs": 2, "hidden": (6,), "random_state": 0}
COUNTER = {"image_columns": 2, "channels": (3, 3), "hidden": (6,), "epochs": 2, "random_state": 0}


def classifier(**settings: Any) -> SDLGMClassifier:
    return SDLGMClassifier(**CLASSIFIER | settings).fit(X, Y)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    classifier(inputs="bins", threshold="per_label").save(tmp_path / "m")
    return tmp_path / "m"


def check_round_trip(model: Any, folder: Path, inputs: Any, targets: Any) -> None:
    before = torch.random.get_rng_state()
    sha = model.save(folder)
    loaded = type(model).load(folder)
    assert torch.equal(torch.random.get_rng_state(), before)  # no global state was used
    for method in ("predict_proba", "predict"):
        ours, its = getattr(model, method)(inputs), getattr(loaded, method)(inputs)
        assert type(ours) is type(its)
        ours, its = (part.toarray() if sp.issparse(part) else part for part in (ours, its))
        assert ours.dtype == its.dtype
        np.testing.assert_array_equal(ours, its)
    assert loaded.get_params() == model.get_params()
    assert loaded.history_ == model.history_
    assert loaded.save(folder.with_name("again")) == sha
    again = loaded.fit(inputs, targets).predict_proba(inputs)
    np.testing.assert_array_equal(again, model.predict_proba(inputs))


@pytest.mark.parametrize(
    "settings",
    [
        {"variant": "generative", "threshold": 0.3},
        {"variant": "conditional", "inputs": "quantile", "threshold": "macro"},
        {"inputs": "bins", "threshold": "per_label", "hidden": ()},
        {"inputs": "none", "patience": 1, "label_likelihood": "relaxed", "hidden": (5, 4)},
    ],
)
def test_a_classifier_is_restored(settings: dict[str, Any], tmp_path: Path) -> None:
    check_round_trip(classifier(**settings), tmp_path / "m", X, Y)


def test_sparse_rows_labels_and_weights_are_restored(tmp_path: Path) -> None:
    rows, labels = sp.csr_array(np.where(X > 0, X, 0)), sp.csr_array(Y)
    model = SDLGMClassifier(**CLASSIFIER, class_weight=[1.0, 2.0, 0.5]).fit(rows, labels)
    check_round_trip(model, tmp_path / "m", rows, labels)


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "mlp", "test_orders": 2},
        {"encoder": "mlp", "tied": False, "budget": 3},
        {"encoder": "conv", "test_shift": 1},
        {"encoder": "columns"},
    ],
)
def test_a_counter_is_restored(settings: dict[str, Any], tmp_path: Path) -> None:
    model = SDLGMCounter(**COUNTER | settings).fit(IMAGES, COUNTS)
    check_round_trip(model, tmp_path / "m", IMAGES, COUNTS)


def test_an_array_among_the_parameters_keeps_its_type(tmp_path: Path) -> None:
    weights = np.array([1.0, 2.0, 0.5])
    classifier(class_weight=weights, learning_rate=np.float32(1e-3)).save(tmp_path)
    params = load(tmp_path).get_params()
    np.testing.assert_array_equal(params["class_weight"], weights)
    assert type(params["learning_rate"]) is np.float32


def test_predictions_are_bit_identical_in_a_new_process(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from sdlgm.estimators import load;"
        "np.save('out.npy', load(sys.argv[1]).predict_proba(np.load(sys.argv[2])))"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    np.save(tmp_path / "x.npy", X)
    subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "x.npy")],
        cwd=elsewhere,
        check=True,
    )
    expected = load(folder).predict_proba(X)
    np.testing.assert_array_equal(np.load(elsewhere / "out.npy"), expected)


def test_files_hold_no_pickle(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["estimator.json", "estimator.safetensors"]
    content = (folder / "estimator.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    json.loads(content[8 : 8 + length])  # safetensors: a JSON head, then numbers


@pytest.mark.parametrize("name", ["estimator.json", "estimator.safetensors"])
@pytest.mark.parametrize("place", np.linspace(0, 0.9999, 12))
def test_a_flipped_byte_is_detected(folder: Path, name: str, place: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(
        ModelFileError,
        match="damaged|not (JSON|written by sdlgm|a SDLGM)|does not belong|newer|describes no",
    ):
        SDLGMClassifier.load(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [("estimator.json", "not JSON"), ("estimator.safetensors", "damaged or cut short")],
)
@pytest.mark.parametrize("keep", [0, 7, 300])
def test_a_truncated_file_is_detected(folder: Path, name: str, message: str, keep: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])
    with pytest.raises(ModelFileError, match=message):
        load(folder)


def test_a_file_of_another_model_is_detected(folder: Path, tmp_path: Path) -> None:
    classifier().save(tmp_path / "other")
    (tmp_path / "other" / "estimator.safetensors").replace(folder / "estimator.safetensors")
    with pytest.raises(ModelFileError, match="does not belong"):
        load(folder)
    (folder / "estimator.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"estimator.safetensors does not exist"):
        load(folder)


def rewrite(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    """Write both files anew with other content, and the hash that belongs to it."""
    path = folder / "estimator.safetensors"
    tensors, about, _ = read_tensors(path)
    change(about, tensors)
    sha = write_tensors(path, tensors, about)
    (folder / "estimator.json").write_text(json.dumps({**about, "sha256": sha}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, t: t.pop("network.gate_head.bias"), r"missing \['network.gate_head.bias'\]"),
        (lambda a, t: t.pop("fitted.threshold_"), "'fitted.threshold_' is missing"),
        (lambda a, t: t.update(more=torch.ones(1)), r"extra \['more'\]"),
        (
            lambda a, t: t.update({"network.gate_head.bias": torch.ones(3)}),
            r"gate_head.bias is torch.float32 \(3,\), not torch.float32 \(2, 1, 1\)",
        ),
        (
            lambda a, t: t.update({"network.gate_head.bias": torch.ones(2, 1, 1).double()}),
            "gate_head.bias is torch.float64",
        ),
        (
            lambda a, t: t.update({"fitted.threshold_": torch.ones(2)}),
            r"'fitted.threshold_' is float32 \(2,\), not float64 \(3,\)",
        ),
        (lambda a, t: a.update(format_version=3), "version 3, newer than the 2 .* Update sdlgm"),
        (lambda a, t: a.update(format="something"), "describes no estimator of sdlgm"),
        (lambda a, t: a.update(format_version=True), "describes no estimator of sdlgm"),
        (lambda a, t: a["params"].update(layers=3), r"has no parameters \['layers'\]"),
        (lambda a, t: a["fitted"].update(predict=3), "'predict' is not a fitted attribute"),
        (lambda a, t: a["fitted"].update(__class__="x"), "'__class__' is not a fitted attribute"),
        (lambda a, t: a["fitted"].update(n_labels_={"code": "x"}), "not a value that sdlgm saves"),
        (lambda a, t: a["network"]["dict"].pop("config"), "does not describe a network"),
        (lambda a, t: a["network"]["dict"]["scaling"]["dict"].pop("bin_scale"), "scaling"),
        (lambda a, t: a.pop("params"), "does not list its params"),
    ],
)
def test_inconsistent_files_are_refused_with_the_reason(
    folder: Path, change: Any, message: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ModelFileError, match=message):
        load(folder)


def test_a_parameter_that_the_file_lacks_keeps_its_default(folder: Path) -> None:
    rewrite(folder, lambda about, tensors: about["params"].pop("weight_decay"))
    assert load(folder).weight_decay == SDLGMClassifier().weight_decay


def test_a_wrong_class_says_which_to_use(folder: Path) -> None:
    with pytest.raises(ModelFileError, match=r"not a SDLGMCounter. Load it with SDLGMClassifier"):
        SDLGMCounter.load(folder)
    rewrite(folder, lambda about, tensors: about.update({"class": "os.system"}))
    with pytest.raises(ModelFileError, match="'os.system', which this version .* does not know"):
        load(folder)
    with pytest.raises(ModelFileError, match=r"does not know that class"):
        SDLGMClassifier.load(folder)


def test_folders_without_an_estimator_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no saved estimator .* Write one"):
        load(tmp_path / "nowhere")
    save_model(tmp_path / "model", tiny_model())
    with pytest.raises(ModelFileError, match=r"use SDLGMTransformer\.load or sdlgm\.load"):
        SDLGMClassifier.load(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"It holds an estimator: load it with sdlgm\.load"):
        load_model(folder)


@pytest.mark.parametrize("kind", [SDLGMClassifier, SDLGMCounter, SDLGMTransformer])
def test_an_unfitted_estimator_is_not_saved(kind: type[Any], tmp_path: Path) -> None:
    with pytest.raises(NotFittedError, match="not fitted yet: call fit before save") as caught:
        kind().save(tmp_path / "m")
    assert isinstance(caught.value, SDLGMError)
    assert not (tmp_path / "m").exists()


def test_an_estimator_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    counter = SDLGMCounter(**COUNTER).fit(IMAGES, COUNTS)
    with pytest.raises(ModelFileError, match="parameters are not those it was fitted with"):
        counter.set_params(hidden=(7,)).save(tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"params.hidden.0 cannot be saved: it is a function"):
        counter.set_params(hidden=(check_round_trip,)).save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_files_are_replaced_only_with_overwrite(folder: Path, tmp_path: Path) -> None:
    counter = SDLGMCounter(**COUNTER).fit(IMAGES, COUNTS)
    with pytest.raises(ConfigError, match="overwrite=True"):
        counter.save(folder)
    assert isinstance(load(folder), SDLGMClassifier)
    counter.save(folder, overwrite=True)
    assert isinstance(load(folder), SDLGMCounter)
    (folder / "config.yaml").write_text("data: digits")
    with pytest.raises(ConfigError, match="holds a run"):
        counter.save(folder, overwrite=True)


def test_an_interrupted_replacement_leaves_the_old_estimator(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr("sdlgm.storage.write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            classifier().save(folder, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert os.listdir(folder.parent) == [folder.name]  # noqa: PTH208


def test_files_of_two_estimators_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    classifier().save(tmp_path / "other")
    shutil.copy(tmp_path / "other/estimator.json", folder)
    with pytest.raises(ModelFileError, match="writing them was interrupted"):
        load(folder)


def test_a_killed_replacement_leaves_the_old_estimator_or_the_new(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one", "two", "out")]
    for seed, place in enumerate(places[:2]):
        SDLGMTransformer(4, budget=2, groups=1, epochs=1, random_state=seed).fit(X).save(place)
    wanted = [{path.name: path.read_bytes() for path in place.iterdir()} for place in places[:2]]
    chance = random.Random(0)
    for trial in range(12):
        kill_while_saving(*map(str, places), after=chance.uniform(0, 0.1))
        found = {path.name: path.read_bytes() for path in places[2].rglob("*") if path.is_file()}
        assert found in wanted, (trial, sorted(found))
    load(places[0]).save(places[2], overwrite=True)  # sweeps what was left
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "out", "two"]


def test_other_files_of_the_folder_stay(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    folder.chmod(0o750)
    transformer = SDLGMTransformer(4, budget=2, groups=1, epochs=1, random_state=0).fit(X)
    transformer.save(folder, overwrite=True)
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "estimator.json", "estimator.safetensors", "model.safetensors", "notes.txt",
    }  # fmt: skip
    classifier().save(folder, overwrite=True)  # removes the model of the transformer
    assert {path.name for path in folder.iterdir()} == {
        "estimator.json", "estimator.safetensors", "notes.txt",
    }  # fmt: skip
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    classifier().save(folder, overwrite=True)  # the folder is exchanged
    assert folder.stat().st_mode & 0o777 == 0o750


def test_an_estimator_can_be_saved_in_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    there = folder.stat().st_ino
    classifier().save(".", overwrite=True)
    assert folder.stat().st_ino == there
    assert isinstance(load("."), SDLGMClassifier)


def transformer(rows: np.ndarray = X, **settings: Any) -> SDLGMTransformer:
    small = {"encoder_hidden": (6,), "sparsity_hidden": (4,), "epochs": 20, "random_state": 0}
    return SDLGMTransformer(6, 3, **small | settings).fit(rows)


def test_a_transformer_is_restored(tmp_path: Path) -> None:
    model = transformer(max_active=2)
    model.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert isinstance(loaded, SDLGMTransformer)
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    np.testing.assert_array_equal(loaded.sample(3), model.sample(3))
    np.testing.assert_array_equal(loaded.feature_usage_, model.feature_usage_)
    assert loaded.score(X) == model.score(X)
    assert loaded.get_params() == model.get_params()
    assert loaded.history_ == model.history_
    assert loaded.partial_fit(X).n_iter_ == 21
    np.testing.assert_array_equal(loaded.fit(X).transform(X), model.transform(X))
    # Its folder is also that of a model.
    assert load_model(tmp_path / "m").config == model.model_.config


def test_column_names_and_the_output_container_are_kept(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = transformer(frame).set_output(transform="pandas")
    model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(load(tmp_path / "m").transform(frame), model.transform(frame))
    with pytest.raises(DataError, match="feature names"):
        load(tmp_path / "m").transform(frame.rename(columns={"a": "z"}))


def test_a_run_can_be_loaded_as_a_transformer(run: Run) -> None:
    loaded = SDLGMTransformer.load(run.folder)
    x = run.dataset.test.grey()
    with torch.no_grad():
        expected = run.model.posterior(x).mode
    np.testing.assert_array_equal(loaded.transform(x.numpy()), expected)
    assert (loaded.n_components, loaded.budget, loaded.groups) == (12, 4, 2)
    assert (loaded.n_iter_, loaded.random_state) == (800, 0)
    with pytest.raises(ConfigError, match="holds a run"):
        loaded.save(run.folder, overwrite=True)


def test_the_files_of_a_transformer_belong_together(tmp_path: Path) -> None:
    transformer().save(tmp_path / "m")
    save_model(tmp_path / "m", transformer(random_state=1).model_)
    with pytest.raises(ModelFileError, match=r"model.safetensors does not belong to .*estimator"):
        load(tmp_path / "m")
    (tmp_path / "m" / "config.json").unlink()
    with pytest.raises(ModelFileError, match="holds no finished model"):
        load(tmp_path / "m")
    content = bytearray((tmp_path / "m" / "estimator.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "m" / "estimator.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged"):
        load(tmp_path / "m")


def test_an_estimator_whose_model_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    made = transformer(random_state=1)
    made.model_.decoder = torch.nn.Sequential(*made.model_.decoder, torch.nn.Tanh())
    with pytest.raises(ModelFileError, match="The model cannot be saved: its decoder"):
        made.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_files_of_other_programs_are_not_replaced_by_an_estimator(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text('{"model_type": "bert"}')
    for made in (transformer(random_state=1), classifier()):
        with pytest.raises(ConfigError, match=f"{name} was not written by sdlgm"):
            made.save(tmp_path, overwrite=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ['{"model_type": "bert"}']
    with pytest.raises(ConfigError, match="The folder is empty"):
        classifier().save("")
