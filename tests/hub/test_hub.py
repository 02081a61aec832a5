"""Pushing and loading, with a folder as the Hub; calls must fit the real signatures."""

from __future__ import annotations

import fnmatch
import inspect
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import sdlgm
from helpers import refuse_import, tiny_model
from sdlgm.data import Columns
from sdlgm.errors import ConfigError, HubError, ModelFileError
from sdlgm.estimators import SDLGMClassifier
from sdlgm.hub import Card, download
from sdlgm.models import model_sha256, save_model
from sdlgm.training import Run

huggingface_hub = pytest.importorskip("huggingface_hub")

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
Y = np.maximum(X[:, :3] > 0, np.eye(3, dtype=bool)[0]).astype(np.int64)


class FolderHub:
    """A Hub in a folder; each call is first bound to the signature of the real client."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.calls = root, []
        for name in ("create_repo", "create_branch", "upload_folder"):
            self._replace(monkeypatch, huggingface_hub.HfApi, name)
        self._replace(monkeypatch, huggingface_hub, "snapshot_download")

    def _replace(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        signature = inspect.signature(getattr(owner, name))
        ours = getattr(self, name)

        def call(*arguments: Any, **named: Any) -> Any:
            bound = dict(signature.bind(*arguments, **named).arguments)
            bound.pop("self", None)
            self.calls.append((name, bound))
            return ours(**bound)

        monkeypatch.setattr(owner, name, call)

    def create_repo(self, repo_id: str, **_: Any) -> None:
        (self.root / repo_id / "main").mkdir(parents=True, exist_ok=True)

    def create_branch(self, repo_id: str, branch: str, **_: Any) -> None:
        (self.root / repo_id / branch).mkdir(parents=True, exist_ok=True)

    def upload_folder(
        self, repo_id: str, folder_path: str, allow_patterns: list[str],
        delete_patterns: list[str], revision: str | None = None, **_: Any,
    ) -> Any:  # fmt: skip
        target = self.root / repo_id / (revision or "main")
        for path in list(target.iterdir()):
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in delete_patterns):
                path.unlink()
        for path in Path(folder_path).iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, target)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    def snapshot_download(
        self, repo_id: str, allow_patterns: list[str], revision: str | None = None, **_: Any
    ) -> str:
        source, target = self.root / repo_id / (revision or "main"), self.root / "cache"
        if not source.is_dir():
            raise OSError(f"404 Client Error.\n\nRepository Not Found for {repo_id}")
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path in source.iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, target)
        return str(target)

    def names(self, repo_id: str, revision: str = "main") -> list[str]:
        return sorted(path.name for path in (self.root / repo_id / revision).iterdir())

    def card(self, repo_id: str) -> tuple[dict[str, Any], str]:
        text = (self.root / repo_id / "main" / "README.md").read_text()
        _, header, body = text.split("---\n", 2)
        return yaml.safe_load(header), body


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderHub:
    return FolderHub(tmp_path / "hub", monkeypatch)


@pytest.fixture(scope="module")
def classifier() -> SDLGMClassifier:
    settings = {"members": 2, "folds": 2, "epochs": 2, "hidden": (6,), "random_state": 0}
    return SDLGMClassifier(**settings).fit(X, Y)


def test_an_estimator_is_pushed_and_loaded(hub: FolderHub, classifier: SDLGMClassifier) -> None:
    url = sdlgm.push_to_hub(
        classifier, "me/labels", metrics={"micro_f1": 0.75}, units="share, higher is better",
        measured_on="ten rows of noise, seed 0", license="apache-2.0", private=True,
    )  # fmt: skip
    assert url == "https://hub/me/labels/commit/1"
    assert hub.names("me/labels") == ["README.md", "estimator.json", "estimator.safetensors"]
    assert dict(hub.calls)["create_repo"]["private"] is True
    loaded = sdlgm.load("me/labels")
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    header, body = hub.card("me/labels")
    assert header["library_name"] == "sdlgm"
    assert header["license"] == "apache-2.0"
    result = header["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == 0.75
    assert result["dataset"]["name"] == "ten rows of noise, seed 0"
    for part in ("| micro_f1 | 0.75 |", "higher is better", "| max_labels_ | ", "did not measure",
                 'model = sdlgm.load("me/labels")', "model.predict(X)"):  # fmt: skip
        assert part in body


def test_a_card_without_numbers_says_so(hub: FolderHub, classifier: SDLGMClassifier) -> None:
    sdlgm.push_to_hub(classifier, "me/labels")
    header, body = hub.card("me/labels")
    assert "model-index" not in header
    assert "No numbers were given." in body


def test_a_run_is_pushed_with_its_metrics(hub: FolderHub, run: Run) -> None:
    before = sorted(path.name for path in run.folder.iterdir())
    sdlgm.push_to_hub(run, "me/digits")
    assert sorted(path.name for path in run.folder.iterdir()) == before
    names = ["README.md", "columns.json", "config.json", "metrics.json", "model.safetensors"]
    assert hub.names("me/digits") == names
    loaded = sdlgm.load("me/digits")
    assert model_sha256(loaded) == model_sha256(run.model)
    assert torch.equal(loaded.encode(run.dataset.test), run.model.encode(run.dataset.test))
    header, body = hub.card("me/digits")
    (result,) = header["model-index"][0]["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    for name in ("negative_elbo", "nll_bound", "relaxed_objective"):
        assert values[name] == pytest.approx(run.metrics[name])
        assert f"| {name} | {run.metrics[name]:.6g} |" in body
    for part in ("**not a bound**", "nats per sample", "K = 12", "L0 = 4", "nll_bound of 10 codes",
                 "digits", "seed 0", "measured by sdlgm"):  # fmt: skip
        assert part in body


def test_the_names_of_the_columns_are_pushed_and_downloaded(
    hub: FolderHub, run: Run, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    Columns(tuple(f"x{place}" for place in range(64))).write(folder)
    sdlgm.push_to_hub(folder, "me/digits")
    assert "columns.json" in hub.names("me/digits")
    assert Run.open(download("me/digits")).columns == Run.open(folder).columns


def test_metrics_of_another_model_are_not_pushed(hub: FolderHub, run: Run, tmp_path: Path) -> None:
    other = shutil.copytree(run.folder, tmp_path / "other")
    save_model(other, tiny_model())
    with pytest.raises(ModelFileError, match="the model of another"):
        sdlgm.push_to_hub(Run.open(other), "me/digits")
    assert not hub.calls


def test_another_kind_of_model_replaces_all_files(
    hub: FolderHub, classifier: SDLGMClassifier, tmp_path: Path
) -> None:
    sdlgm.push_to_hub(classifier, "me/m")
    save_model(tmp_path / "model", tiny_model())
    sdlgm.push_to_hub(tmp_path / "model", "me/m")
    assert hub.names("me/m") == ["README.md", "config.json", "model.safetensors"]
    sdlgm.push_to_hub(tmp_path / "model", "me/m", revision="v2")
    assert hub.names("me/m", "v2") == ["README.md", "config.json", "model.safetensors"]
    assert sdlgm.load("me/m", revision="v2").n_inputs == 5


def test_only_known_files_are_downloaded(hub: FolderHub, classifier: SDLGMClassifier) -> None:
    sdlgm.push_to_hub(classifier, "me/m")
    for name in ("evil.py", "model.pkl", "more.safetensors", "config.yaml"):
        (hub.root / "me/m/main" / name).write_text("x")
    names = {path.name for path in download("me/m").iterdir()}
    assert names == {"README.md", "estimator.json", "estimator.safetensors"}


def test_damage_in_transfer_is_found(hub: FolderHub, classifier: SDLGMClassifier) -> None:
    sdlgm.push_to_hub(classifier, "me/m")
    path = hub.root / "me/m/main/estimator.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged"):
        sdlgm.load("me/m")


def test_errors_of_the_hub_are_reported(
    hub: FolderHub, classifier: SDLGMClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HubError, match=r"'me/none' is not a folder here .*'v9' .*404 Client Error"):
        sdlgm.load("me/none", revision="v9")

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no way out")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(HubError, match=r"could not be pushed .*no way out.* hf auth login"):
        sdlgm.push_to_hub(classifier, "me/m")


def test_the_real_client_refuses_an_invalid_name() -> None:
    with pytest.raises(HubError, match=r"'a/b/c' is not a folder here"):
        download("a/b/c")


@pytest.mark.parametrize("value", [float("nan"), "0.9", True, None])
def test_metrics_must_be_numbers(value: Any, hub: FolderHub, classifier: SDLGMClassifier) -> None:
    with pytest.raises(ConfigError, match=r"metrics\['f1'\] must be a finite number"):
        sdlgm.push_to_hub(classifier, "me/m", metrics={"f1": value})
    assert not hub.calls


def test_a_folder_needs_neither_network_nor_extra(
    classifier: SDLGMClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_import(monkeypatch, "huggingface_hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    classifier.save(tmp_path / "m")
    loaded = sdlgm.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    with pytest.raises(ConfigError, match="has no revision 'v1'"):
        sdlgm.load(tmp_path / "m", revision="v1")
    for call in (lambda: sdlgm.push_to_hub(classifier, "me/m"), lambda: download("me/m")):
        with pytest.raises(HubError, match=r'pip install "sdlgm\[hub\]"'):
            call()


def test_special_characters_do_not_break_a_table() -> None:
    card = Card("K", "It is.", "x", "0", facts={"a": "b|c\nd", "e": [1, 2], "f": ()})
    text = card.render("me/m")
    for line in ("| a | b\\|c d |", "| e | 1, 2 |", "| f | none |"):
        assert line in text


def test_a_run_takes_no_other_metrics(hub: FolderHub, run: Run) -> None:
    with pytest.raises(ConfigError, match="A run has its own metrics"):
        sdlgm.push_to_hub(run.folder, "me/digits", metrics={"f1": 0.5})
    assert not hub.calls
    sdlgm.push_to_hub(run.model, "me/digits", metrics={"f1": 0.5})
    assert "| f1 | 0.5 |" in hub.card("me/digits")[1]
