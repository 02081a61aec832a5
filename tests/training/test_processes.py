"""Two processes train the same model as one: they share data, noise and batches."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from helpers import SMALL
from sdlgm.cli import main
from sdlgm.config import DataConfig, TrainingConfig
from sdlgm.distributions import grouped_gated_multinomial
from sdlgm.errors import ConfigError
from sdlgm.random import ShareGenerator
from sdlgm.training import Interrupted, Run, fit, read_log, resume, train

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="needs gloo"
)

SETTINGS = {
    "iterations": 60, "batch_size": 40, "validation_fraction": 0.1, "evaluate_every": 20,
    "patience": 9, "learning_rate": 5e-3,
}  # fmt: skip


def fitted(out: Path, devices: int, **more: object) -> Run:
    config = TrainingConfig(**{**SETTINGS, "devices": devices, **more})
    return fit(DataConfig("digits"), SMALL, config, out=out, importance_samples=5, progress=False)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(tmp_path_factory.mktemp("processes") / "two", 2)


def test_two_processes_train_the_same_model_as_one(two: Run, tmp_path: Path) -> None:
    one = fitted(tmp_path / "one", 1)
    for name, tensor in one.model.state_dict().items():
        other = two.model.state_dict()[name]
        torch.testing.assert_close(other, tensor, atol=2e-4, rtol=1e-3)
    for name in ("negative_elbo", "nll_bound", "relaxed_objective"):
        assert two.metrics[name] == pytest.approx(one.metrics[name], rel=1e-4)
    assert two.metrics["n_samples"] == one.metrics["n_samples"]
    for a, b in zip(one.log, two.log, strict=True):
        assert a["step"] == b["step"]
        for name in {"negative_elbo", "objective"} & set(a):
            assert b[name] == pytest.approx(a[name], rel=1e-4)


def test_shares_of_a_sample_make_up_the_sample_of_one_process(generator: torch.Generator) -> None:
    gates = torch.randn(6, 2, generator=generator)
    logits = torch.randn(6, 8, generator=generator)
    seeded = torch.Generator().manual_seed(3)
    for shape in ((), (4,)):
        whole = grouped_gated_multinomial(4, gates, logits)
        parts = [
            grouped_gated_multinomial(4, *pair).sample(shape, ShareGenerator.of(seeded, rank, 2))
            for rank, pair in enumerate(zip(gates.split(3), logits.split(3), strict=True))
        ]
        drawn = whole.sample(shape, torch.Generator().manual_seed(3))
        assert torch.equal(torch.cat(parts, dim=-2), drawn)


def test_processes_stop_together_and_resume_to_the_same_weights(two: Run, tmp_path: Path) -> None:
    """SIGTERM reaches the first process in the middle of training; both stop at the same step."""
    folder = tmp_path / "half"
    done = threading.Event()

    def stop() -> None:
        log = folder / "log.jsonl"
        while not done.is_set() and not (log.is_file() and log.read_text().count("\n") >= 1):
            done.wait(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=stop)
    watcher.start()
    try:
        with pytest.raises(Interrupted):
            fitted(folder, 2)
    finally:
        done.set()
        watcher.join()
    assert 20 <= max(line["step"] for line in read_log(folder / "log.jsonl")) < 60
    resumed = resume(folder, importance_samples=5, progress=False)
    for a, b in zip(
        two.model.state_dict().values(),
        resumed.model.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_settings_that_processes_cannot_share_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size = 100 must be a multiple of devices = 3"):
        TrainingConfig(devices=3)
    for more in ({"objective": "paper"}, {"estimator": "score_function"}):
        with pytest.raises(ConfigError, match="Use devices = 1, or reinmax"):
            fitted(tmp_path / "run", 2, **more)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="this is one process"):
        train(run.model, run.dataset.train, TrainingConfig(devices=2))


def test_what_is_read_is_said_once_by_the_first_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "lake"
    folder.mkdir()
    for name in "ab":
        np.save(folder / f"{name}.npy", np.random.default_rng(0).poisson(2, (40, 3)))
    options = ["--preset", "quick", "--iterations", "3", "--importance-samples", "2"]
    options += ["--likelihood", "poisson", "--max-rows", "60", "--devices", "2"]
    assert main(["fit", str(folder), "--out", str(tmp_path / "run"), *options]) == 0
    assert capfd.readouterr().err.count("60 of 80 rows are used") == 1
