"""Checkpoints with the right digest that do not fit the training are refused before they load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import SMALL
from sdlgm.config import TrainingConfig
from sdlgm.errors import ModelFileError
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.storage import read_tensors, write_tensors
from sdlgm.training.checkpoint import FILE, load_checkpoint, save_checkpoint
from sdlgm.training.state import Best, LoopState
from sdlgm.training.step import Trainer

Change = Callable[[dict[str, Tensor], dict[str, Any]], Any]


def training() -> Trainer:
    """A training after one step."""
    statistics = DataStatistics(torch.full((5,), 0.4), torch.full((5,), 0.5), 2)
    trainer = Trainer(SDLGM(SMALL, statistics), TrainingConfig(iterations=20))
    for parameter in trainer.objective.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.adam.step()
    return trainer


def saved(folder: Path, change: Change = lambda tensors, note: None) -> Trainer:
    """Save a checkpoint, change and sign it; return another training to load it into."""
    trainer = training()
    weights = {name: each.clone() for name, each in trainer.objective.model.state_dict().items()}
    state = LoopState(20, step=1, best=Best(5.0, 1, 0, weights))
    save_checkpoint(folder, trainer.objective, trainer.adam, state, "fingerprint")
    tensors, note, _ = read_tensors(folder / FILE)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors, note)
    write_tensors(folder / FILE, tensors, note)
    return training()


def test_a_sound_checkpoint_loads(tmp_path: Path) -> None:
    trainer, state = saved(tmp_path), LoopState(20)
    load_checkpoint(tmp_path, trainer.objective, trainer.adam, state, "fingerprint")
    assert (state.step, state.best.value) == (1, 5.0)


def _progress(**changes: Any) -> Change:
    return lambda tensors, note: note["progress"].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # The fused kernel of Adam reads beyond the end of a moment that is too short.
        (lambda t, n: t.update({"optimizer.0.exp_avg": torch.zeros(1)}), r"exp_avg is .* \(1,\)"),
        (
            lambda t, n: t.update({"optimizer.1.exp_avg_sq": t["optimizer.1.exp_avg_sq"].double()}),
            "exp_avg_sq is torch.float64",
        ),
        (lambda t, n: t.update({"optimizer.0.step": torch.zeros(3)}), r"step is .* \(3,\)"),
        (lambda t, n: t.pop("optimizer.2.exp_avg"), "missing .*optimizer.2.exp_avg"),
        (lambda t, n: t.update({"optimizer.999.step": torch.zeros(())}), "parameter 999"),
        (lambda t, n: t.update({"optimizer.-1.step": torch.zeros(())}), "optimizer.-1.step"),
        (lambda t, n: t.update({"optimizer.0.more": torch.zeros(())}), "extra .*optimizer.0.more"),
        (lambda t, n: t["optimizer.0.exp_avg"].fill_(torch.nan), "not finite"),
        (lambda t, n: t["optimizer.0.exp_avg_sq"].fill_(-1), "negative"),
        (lambda t, n: t["objective.model.output_head.bias"].fill_(torch.nan), "output_head.bias"),
        (lambda t, n: t["best.output_head.bias"].fill_(torch.inf), "output_head.bias"),
        (lambda t, n: t.pop("best.output_head.bias"), "missing .*output_head.bias"),
        (lambda t, n: t.update(strange=torch.zeros(1)), "strange"),
        (_progress(step=10**12), "progress"),
        (_progress(step=-1), "progress"),
        (_progress(step="1"), "progress"),
        (_progress(best_value="x"), "progress"),
        (_progress(seconds=None), "progress"),
        (_progress(stopped=1), "progress"),
        (lambda t, n: n.pop("progress"), "progress"),
        (lambda t, n: n.pop("fingerprint"), "other data or settings"),
        (lambda t, n: n.update(format_version=[3]), "format version"),
    ],
)
def test_forged_checkpoints_are_refused(change: Change, message: str, tmp_path: Path) -> None:
    trainer = saved(tmp_path, change)
    before = {name: each.clone() for name, each in trainer.objective.state_dict().items()}
    with pytest.raises(ModelFileError, match=message):
        load_checkpoint(tmp_path, trainer.objective, trainer.adam, LoopState(20), "fingerprint")
    after = trainer.objective.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
