"""What several tests make: tiny codes and models, all of whose codes can be listed."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sdlgm.config import DataConfig, ModelConfig, TrainingConfig
from sdlgm.data import read_table
from sdlgm.distributions import Grouped, grouped_gated_multinomial
from sdlgm.errors import SDLGMWarning
from sdlgm.models import SDLGM, save_model
from sdlgm.nn import DataStatistics
from sdlgm.training import Interrupted, Run, RunConfig, fit
from sdlgm.training.model_training import ModelTask
from sdlgm.training.runs import recorded

PLAIN = {"residual": False, "shared_trunk": False, "joint_gates": False, "prior": "learned"}
"""Networks without residual layers and shared trunk, for all likelihoods."""
SMALL = ModelConfig(
    features=12, budget=4, groups=2, encoder_hidden=(16, 8), sparsity_hidden=(8,), **PLAIN
)


def random_code(
    generator: torch.Generator,
    *,
    features: int = 6,
    budget: int = 4,
    groups: int = 2,
    batch: tuple[int, ...] = (),
    spread: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Grouped:
    """A code with random logits that require gradients."""
    gates = torch.randn(*batch, groups, generator=generator, dtype=dtype) * spread
    logits = torch.randn(*batch, features, generator=generator, dtype=dtype) * spread
    return grouped_gated_multinomial(
        budget, gates.requires_grad_(), logits.requires_grad_(), validate_args=True
    )


def tiny_model(inputs: int = 5, **settings: object) -> SDLGM:
    """An untrained model whose codes can all be listed."""
    config = ModelConfig(
        **{"features": 3, "budget": 3, "groups": 1, "encoder_hidden": (8,),
           "sparsity_hidden": (4,), **PLAIN, **settings}
    )  # fmt: skip
    statistics = DataStatistics(torch.full((inputs,), 0.4), torch.full((inputs,), 0.5), 3)
    return SDLGM(config, statistics, torch.Generator().manual_seed(5))


def stopped_run(folder: Path, training: TrainingConfig, when: int) -> Path:
    """The folder of a run on the digits that Ctrl-C stopped after ``when`` + 1 steps."""
    step = ModelTask.step

    def stop(task: ModelTask, number: int) -> torch.Tensor:
        if number == when:
            signal.raise_signal(signal.SIGINT)
        return step(task, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(ModelTask, "step", stop)
        fit("digits", SMALL, training, out=folder, progress=False)
    return folder


def untrained_run(folder: Path, data: DataConfig | Path | str, **settings: object) -> Run:
    """A run on a file whose model was not trained, for what does not depend on weights."""
    data = recorded(data)
    data = dataclasses.replace(data, binarisation=data.binarisation or "none")
    table = read_table(data.data, data.header).select(data.columns, data.keep)
    rows = table.rows()
    model = tiny_model(rows.n_inputs, **settings)
    RunConfig(data, model.config, TrainingConfig()).to_yaml(folder / "config.yaml")
    table.columns().with_ranges(rows).write(folder)
    save_model(folder, model)
    return Run.open(folder)


def refuse_import(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let every import of a package fail, as where it is not installed."""
    real = builtins.__import__

    def refuse(name: str, *rest: object, **more: object) -> object:
        if name.split(".")[0] == package:
            raise ImportError(name=name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)


@contextlib.contextmanager
def no_warning() -> Iterator[None]:
    """A block in which a warning of ours is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", SDLGMWarning)
        yield


def linear_model(**settings: object) -> SDLGM:
    """A model with a linear decoder, a Gaussian likelihood and one slot per group."""
    settings = {"features": 12, "budget": 4, "groups": 4} | settings
    return tiny_model(likelihood="gaussian", encoder_hidden=(), **settings)
