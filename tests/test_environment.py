"""What the caller's program has set does not change a result."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sdlgm
from helpers import SMALL
from sdlgm.baselines import LinearLabels, PoissonCounter
from sdlgm.config import DataConfig, TrainingConfig
from sdlgm.environment import neutral, without_variables
from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer
from sdlgm.inference import refine_posterior, refit_prior
from sdlgm.random import generator
from sdlgm.training import Run
from sdlgm.training.step import make_fabric


@contextlib.contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def half() -> Iterator[None]:
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def meta() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def fewer_digits() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "float64 by default": double,
    "bfloat16 by default": half,
    "another device by default": meta,
    "a block on another device": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "deterministic algorithms": deterministic,
    "products of fewer digits": fewer_digits,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "numpy raises": lambda: np.errstate(all="raise"),
}


def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


def labels() -> np.ndarray:
    return np.stack([rows()[:, 0] > 0, rows()[:, 1] > 0, rows()[:, 2] > -2], 1).astype(int)


CLASSIFIER: dict[str, Any] = {
    "hidden": (8,), "members": 2, "folds": 2, "epochs": 2, "random_state": 0, "inputs": "bins",
}  # fmt: skip
TRANSFORMER: dict[str, Any] = {
    "n_components": 12, "budget": 4, "epochs": 2, "batch_size": 20, "random_state": 0,
    "encoder_hidden": (8,), "sparsity_hidden": (4,),
}  # fmt: skip
COUNTER: dict[str, Any] = {"hidden": (8,), "epochs": 2, "batch_size": 20, "random_state": 0}


def fit_a_run(folder: Path, run: Run) -> list[Any]:
    made = sdlgm.fit(
        DataConfig("digits"),
        SMALL,
        TrainingConfig(iterations=20, batch_size=10, validation_fraction=0.1, evaluate_every=10),
        out=folder / "run",
        importance_samples=2,
        progress=False,
    )
    weights = list(made.model.state_dict().values())
    return [*weights, *(made.metrics[k] for k in ("negative_elbo", "nll_bound"))]


def use_a_run(folder: Path, run: Run) -> list[Any]:
    model = sdlgm.load(run.folder)
    sdlgm.save_model(folder / "model", model)
    saved = folder / "model" / "model.safetensors"
    test = run.dataset.test
    codes = model.encode(test)
    refit_prior(model, codes)
    measured = sdlgm.evaluate(model, test, importance_samples=2, refine_steps=1)
    noise = generator(0, "noise")
    refined = refine_posterior(model, codes.new_ones(3, 64), 2, generator=noise)
    return [codes, model.decode(codes), model.encode(test, "sample"), measured.nll_bound,
            refined.base.gate_logits, saved.read_bytes()]  # fmt: skip


def use_a_transformer(folder: Path, run: Run) -> list[Any]:
    model = SDLGMTransformer(**TRANSFORMER).fit(rows()).partial_fit(rows())
    codes = model.transform(rows())
    model.save(folder / "transformer")
    loaded = sdlgm.load(folder / "transformer")
    found = [codes, model.inverse_transform(codes), model.score(rows()), model.sample(3)]
    return [*found, loaded.transform(rows())]


def use_a_classifier(folder: Path, run: Run) -> list[Any]:
    model = SDLGMClassifier("conditional", **CLASSIFIER).fit(rows(), labels())
    model.save(folder / "classifier")
    loaded = SDLGMClassifier.load(folder / "classifier")
    return [model.predict_proba(rows()), model.predict(rows()), loaded.predict_count_proba(rows()),
            model.top_k(rows(), 2)[1], model.decision_function(rows())]  # fmt: skip


def use_counters(folder: Path, run: Run) -> list[Any]:
    model = SDLGMCounter(**COUNTER).fit(rows(), labels())
    model.save(folder / "counter")
    loaded = SDLGMCounter.load(folder / "counter")
    other = PoissonCounter(**COUNTER).fit(torch.from_numpy(rows()), labels())
    linear = LinearLabels().fit(rows(), labels())
    return [model.predict_mean(rows()), loaded.predict_total(rows()), model.predict(rows()),
            model.predict_proba(rows()), other.predict_mean(rows()),
            linear.predict_proba(rows())]  # fmt: skip


USES = [fit_a_run, use_a_run, use_a_transformer, use_a_classifier, use_counters]


def bits(values: list[Any]) -> list[bytes]:
    found = []
    for value in values:
        value = value.numpy() if isinstance(value, torch.Tensor) else value
        found.append(value if isinstance(value, bytes) else np.asarray(value).tobytes())
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, run: Run) -> dict[str, list[bytes]]:
    return {use.__name__: bits(use(tmp_path_factory.mktemp("plain"), run)) for use in USES}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("state", STATES)
def test_the_state_of_torch_does_not_change_a_bit(
    state: str,
    use: Callable[[Path, Run], list[Any]],
    expected: dict[str, list[bytes]],
    tmp_path: Path,
    run: Run,
) -> None:
    with STATES[state]():
        found = use(tmp_path, Run(run.folder, run.config))
    assert bits(found) == expected[use.__name__]


def test_the_state_of_the_caller_returns_also_after_an_error() -> None:
    with double(), torch.inference_mode(), torch.device("meta"):
        with pytest.raises(sdlgm.errors.ConfigError):
            SDLGMTransformer(budget="x").fit(rows())
        with contextlib.suppress(KeyError), neutral():
            assert torch.is_grad_enabled()
            assert torch.zeros(1).device.type == "cpu"
            raise KeyError
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_default_device().type == "meta"
        assert torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()


BATCH_SYSTEMS = {
    "SLURM": {
        "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "3", "SLURM_LOCALID": "3",
        "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_ID": "7", "SLURM_NODELIST": "a[1-2]",
    },
    "LSF": {
        "LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "/nowhere", "JSM_NAMESPACE_LOCAL_RANK": "1",
        "JSM_NAMESPACE_SIZE": "4", "JSM_NAMESPACE_RANK": "1",
    },
    "torchrun": {
        "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "GROUP_RANK": "0", "MASTER_ADDR": "x",
        "MASTER_PORT": "1", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "a",
    },
    "Lightning": {
        "LT_DEVICES": "2", "LT_ACCELERATOR": "cuda", "LT_STRATEGY": "ddp", "LT_NUM_NODES": "2",
        "LT_PRECISION": "bf16-true", "LT_CLI_USED": "1",
    },
}  # fmt: skip


@pytest.mark.parametrize("system", BATCH_SYSTEMS)
def test_variables_of_a_batch_system_do_not_change_a_training(
    system: str,
    expected: dict[str, list[bytes]],
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in BATCH_SYSTEMS[system].items():
        monkeypatch.setenv(name, value)
    assert bits(fit_a_run(tmp_path, run)) == expected["fit_a_run"]
    assert bits(use_a_transformer(tmp_path, run)) == expected["use_a_transformer"]
    assert {name: os.environ[name] for name in BATCH_SYSTEMS[system]} == BATCH_SYSTEMS[system]


def test_hidden_variables_return() -> None:
    os.environ["SDLGM_TEST_A"] = "1"
    with without_variables("SDLGM_TEST_"):
        assert "SDLGM_TEST_A" not in os.environ
    assert os.environ.pop("SDLGM_TEST_A") == "1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_device_is_a_sentence() -> None:
    with pytest.raises(sdlgm.errors.ConfigError, match="accelerator = 'gpu' with devices = 1"):
        make_fabric(TrainingConfig(accelerator="gpu"))
