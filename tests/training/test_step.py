"""A training step never waits for the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sdlgm.config import ModelConfig, TrainingConfig
from sdlgm.errors import ConfigError
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.training.step import Trainer

WAITING = {
    # The host reads a number, or a size that depends on numbers.
    "_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "nonzero_static",
    "argwhere", "masked_select", "bincount", "unique_consecutive", "unique_dim", "_unique",
    "_unique2",
    # A tensor is made from Python numbers and then copied to the device.
    "lift_fresh",
}  # fmt: skip
"""ATen operations for which the host waits for a GPU."""

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "shared trunk": ({"shared_trunk": True}, {}),
    "one group": ({"groups": 1}, {}),
    "paper": ({"groups": 1, "prior": "fixed"}, {"objective": "paper"}),
    "annealed": ({"groups": 1}, {"estimator": "gumbel_softmax", "temperature": "annealed"}),
    "clipped": ({}, {"gradient_clip": 1.0}),
    "several codes": ({}, {"draws": 3}),
    "gaussian": ({"likelihood": "gaussian"}, {"objective": "elbo"}),
    "categorical": ({"likelihood": "categorical"}, {}),
}


class Waits(TorchDispatchMode):
    """Records operations for which the host would wait if they ran on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = function._schema.name.removeprefix("aten::")
        masks = name == "index" and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if name in WAITING or masks:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def trainer(kind: str, **more: Any) -> Trainer:
    shape, settings = KINDS[kind]
    statistics = DataStatistics(torch.full((20,), 0.4), torch.ones(20), 2)
    small = {"features": 12, "budget": 4, "encoder_hidden": (16,), "sparsity_hidden": (8,)}
    model = SDLGM(ModelConfig(**{**small, **shape}), statistics)
    return Trainer(model, TrainingConfig(batch_size=10, **settings, **more))


@pytest.fixture
def x(generator: torch.Generator) -> torch.Tensor:
    return torch.bernoulli(torch.full((10, 20), 0.4), generator=generator)


@pytest.mark.parametrize("kind", KINDS)
def test_the_host_never_waits_for_the_device(kind: str, x: torch.Tensor) -> None:
    found = trainer(kind)
    found.step(x, 0)  # makes the optimiser's state
    with Waits() as waits:
        found.step(x, 1)
    assert waits.found == []


def test_operations_that_wait_are_detected(x: torch.Tensor) -> None:
    with Waits() as waits:
        float(x.sum())
        x[x > 0]
        x.nonzero()
        torch.tensor([1.0])
    assert waits.found == ["_local_scalar_dense", "index", "nonzero", "lift_fresh"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_on_a_gpu_does_not_synchronise(kind: str, x: torch.Tensor) -> None:
    found = trainer(kind, accelerator="gpu")
    found.step(x, 0)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        terms = found.step(x, 1)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert terms.isfinite().all()


def test_gradients_that_are_not_finite_show_in_the_terms(x: torch.Tensor) -> None:
    """Clipping does not check them, since it would have to wait for the device."""
    found = trainer("clipped")
    with torch.no_grad():
        next(found.objective.model.encoder.parameters()).fill_(torch.nan)
    assert not found.step(x, 0).isfinite().all()


def test_control_variates_refuse_several_codes() -> None:
    model = SDLGM(ModelConfig(4, 2), DataStatistics(torch.zeros(3), torch.ones(3), 2))
    with pytest.raises(ConfigError, match="whose control variate compares"):
        Trainer(model, TrainingConfig(estimator="muprop", draws=2, accelerator="cpu"))
