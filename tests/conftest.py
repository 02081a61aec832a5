"""What several tests share: seeded generators, a tiny trained run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # in the processes that tests start, too

import pytest
import torch

from helpers import SMALL
from sdlgm.config import DataConfig, TrainingConfig
from sdlgm.training import Run, fit

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is skipped without a GPU, so that ``pytest -m gpu`` runs all of it."""
    for item in items:
        if any(mark.kwargs.get("reason") == "needs a GPU" for mark in item.iter_markers("skipif")):
            item.add_marker("gpu")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1234)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short training on the digits of scikit-learn. Do not write into its folder."""
    return fit(
        DataConfig("digits"),
        SMALL,
        TrainingConfig(iterations=800, batch_size=50, learning_rate=5e-3),
        out=tmp_path_factory.mktemp("run") / "digits",
        importance_samples=10,
        progress=False,
    )


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
