"""Models whose files are signed with the right digest, but ask for too much or are not sound."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import tiny_model
from sdlgm.config import ModelConfig
from sdlgm.errors import ConfigError, ModelFileError, SDLGMError
from sdlgm.models import load_model, save_model
from sdlgm.storage import read_tensors, write_described


def forge(folder: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]) -> Path:
    """Save a tiny model, change its description and tensors, and sign them."""
    save_model(folder, tiny_model())
    tensors, about, _ = read_tensors(folder / "model.safetensors")
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(about, tensors)
    write_described(folder / "model.safetensors", folder / "config.json", tensors, about)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_hidden": [30_000, 30_000]}, "does not fit its model"),
        ({"encoder_hidden": [2**40]}, "is torch.float32"),
        ({"encoder_hidden": [2**62, 2**62]}, "is damaged or holds what it should not"),
        ({"encoder_hidden": [1] * 200_000}, "may have up to 1,000 layers"),
        ({"budget": 10**9, "features": 10**6, "groups": 1}, "budget may be up to 16,777,216"),
        ({"features": 10**12, "budget": 10**12, "groups": 7}, "features may be up to 4,194,304"),
        ({"features": 2**22, "budget": 2**22}, "is torch.float32"),
    ],
)
def test_settings_larger_than_the_tensors_are_refused_at_once(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = forge(tmp_path, lambda about, tensors: about["config"].update(changes))
    began = time.process_time()
    with pytest.raises(SDLGMError, match=message):
        load_model(folder)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("value", [10**12, -1, 0, 2.0, "5", None, True, [5]])
@pytest.mark.parametrize("name", ["n_inputs", "levels"])
def test_numbers_of_inputs_and_levels_are_checked(name: str, value: Any, tmp_path: Path) -> None:
    folder = forge(tmp_path, lambda about, tensors: about.update({name: value}))
    with pytest.raises(ModelFileError, match=r"n_inputs|is torch.float32"):
        load_model(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_refused_with_their_name(
    value: float, tmp_path: Path
) -> None:
    folder = forge(tmp_path, lambda about, tensors: tensors["output_head.bias"][:2].fill_(value))
    with pytest.raises(ModelFileError, match=r"output_head.bias holds 2 numbers that are not fin"):
        load_model(folder)


def test_open_gates_are_infinite_and_load(tmp_path: Path) -> None:
    save_model(tmp_path, tiny_model(gates="open"))
    assert load_model(tmp_path).prior_gate_logits.isinf().all()


def test_groups_that_fit_are_found_without_a_long_loop() -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"Groups that do: 1, 2, 4, .* 2097152, 4194304\."):
        ModelConfig(features=2**22, budget=2**22, groups=3)
    assert time.process_time() - began < 1
