"""Steps on a GPU, whose place a CPU takes where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from sdlgm.config import ModelConfig, TrainingConfig
from sdlgm.data import Rows, SparseRows
from sdlgm.models import SDLGM
from sdlgm.nn import data_statistics
from sdlgm.training import recorded
from sdlgm.training.model_training import ModelTask, train
from sdlgm.training.optimiser import set_learning_rate
from sdlgm.training.order import Batches, Order, WeightedOrder
from sdlgm.training.recorded import Replay, ResidentSteps, record, why_not_recorded
from sdlgm.training.step import Trainer

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("gpu", marks=needs_gpu)]

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "best": ({"shared_trunk": True, "residual": True, "prior": "learned"}, {"kl_warmup": 0.5}),
    "paper": ({"groups": 1, "prior": "fixed"}, {"objective": "paper"}),
    "annealed": ({"groups": 1}, {"estimator": "gumbel_softmax", "temperature": "annealed"}),
    "clipped": ({}, {"gradient_clip": 1.0}),
    "gaussian": ({"likelihood": "gaussian", "decoder_hidden": (16,)}, {"objective": "elbo"}),
    "linear": ({"likelihood": "gaussian"}, {}),
    "decayed": ({}, {"weight_decay": 0.1}),
    "several samples": ({}, {"estimator": "vimco"}),
    "several codes": ({"prior": "masked"}, {"draws": 3}),
    "levels": ({"levels": 2}, {"slot_cost": 0.1}),
    "autoregressive": ({"prior": "autoregressive"}, {}),
    "mixture": ({"prior": "mixture", "mixture_components": 4}, {"weight_decay": 0.1}),
}


def rows_of(kind: str) -> Rows:
    values = torch.rand(57, 20, generator=torch.Generator().manual_seed(3))
    return Rows(values, dynamic=kind not in ("gaussian", "linear"))


def trainer(kind: str, **more: Any) -> Trainer:
    shape, settings = KINDS[kind]
    small = {"features": 12, "budget": 4, "encoder_hidden": (16,), "sparsity_hidden": (8,)}
    model = SDLGM(ModelConfig(**{**small, **shape}), data_statistics(rows_of(kind).grey()))
    fixed = {"batch_size": 10, "iterations": 20, "seed": 1, "accelerator": "cpu"}
    return Trainer(model, TrainingConfig(**{**fixed, **settings, **more}))


class Recorder:
    """Repeats the recorded function itself, and counts the recordings."""

    def __init__(self) -> None:
        self.recordings = 0

    def __call__(self, body: Replay, generators: Sequence[torch.Generator]) -> Replay:
        assert len(generators) == 2
        self.recordings += 1
        return body


def order_of(weighted: bool, rows: Rows) -> Batches:
    if not weighted:
        return Order(len(rows), 10, 1)
    return WeightedOrder(torch.arange(len(rows)).double(), rows.values[:, 0], 10, 1)


def terms_of(task: Any, trainer: Trainer, steps: range) -> list[torch.Tensor]:
    found = []
    for step in steps:
        set_learning_rate(trainer.adam, 1e-2 / (step + 1))
        found.append(task(step))
    return found


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [tensor.detach().cpu().clone() for tensor in trainer.objective.state_dict().values()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_recorded_steps_are_those_of_the_plain_loop(kind: str, weighted: bool) -> None:
    rows = rows_of(kind)
    plain, resident = trainer(kind), trainer(kind)
    order, recorder = order_of(weighted, rows), Recorder()
    task = ModelTask(plain, rows, order)
    assert task.not_recorded == "the training does not run on a CUDA GPU"
    steps = ResidentSteps(resident, rows, order_of(weighted, rows), recorder)
    assert steps.prepare(0) is None
    one = terms_of(task.step, plain, range(8))
    two = terms_of(steps, resident, range(8))
    assert recorder.recordings == 1
    assert all(map(torch.equal, one, two))
    assert all(map(torch.equal, weights(plain), weights(resident)))


@pytest.mark.parametrize("kind", ["default", "annealed"])
def test_recording_changes_neither_model_nor_optimiser(kind: str) -> None:
    rows, one = rows_of(kind), trainer(kind)
    steps = ResidentSteps(one, rows, order_of(False, rows), Recorder())
    terms_of(steps, one, range(3))
    before = weights(one), [each.clone() for each in recorded._states(one.adam)]
    steps.prepare(3)
    after = weights(one), recorded._states(one.adam)
    for old, new in zip(before, after, strict=True):
        assert all(map(torch.equal, old, new))


def test_rows_are_sent_ahead_and_any_step_can_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "STEPS_AHEAD", 4)
    rows, one, two = rows_of("default"), trainer("default"), trainer("default")
    plain = ModelTask(one, rows, order_of(False, rows))
    steps = ResidentSteps(two, rows, order_of(False, rows), None)
    for step in (0, 1, 9, 3, 4, 15, 8):
        assert torch.equal(plain.step(step), steps(step))


def test_a_step_that_cannot_be_recorded_is_taken_anew_with_the_reason() -> None:
    def refuse(body: Replay, generators: Sequence[torch.Generator]) -> Replay:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    rows, one, two = rows_of("default"), trainer("default"), trainer("default")
    steps = ResidentSteps(one, rows, order_of(False, rows), refuse)
    reason = steps.prepare(0)
    assert reason is not None
    assert "operation not permitted when stream is capturing)" in reason
    plain = ModelTask(two, rows, order_of(False, rows))
    assert torch.equal(steps(0), plain.step(0))


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("linear", {}, "searches for codes"),
        ("default", {"estimator": "muprop"}, "control variate of 'muprop'"),
        ("default", {}, None),
    ],
)
def test_settings_that_are_not_recorded_have_a_reason(
    kind: str, settings: dict[str, Any], reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "why_not_resident", lambda trainer, rows: None)
    found = why_not_recorded(trainer(kind, **settings), rows_of(kind))
    assert found is None if reason is None else reason in str(found)


def test_data_beyond_a_quarter_of_the_memory_and_sparse_rows_stay_on_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import scipy.sparse as sp

    rows, one = rows_of("default"), trainer("default")

    class Cuda:
        device = torch.device("cuda")

    one.fabric = Cuda()  # type: ignore[assignment]
    size = rows.values.numel() * 4
    monkeypatch.setattr(recorded, "card_bytes", lambda device: 4 * size)
    assert recorded.why_not_resident(one, rows) is None
    monkeypatch.setattr(recorded, "card_bytes", lambda device: 4 * size - 4)
    assert "the data take" in str(recorded.why_not_resident(one, rows))
    sparse = SparseRows(sp.csr_array(rows.values.numpy()), dynamic=True)
    assert recorded.why_not_resident(one, sparse) == "the rows are sparse"


# --- on a GPU ------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "linear"])
def test_a_replayed_step_is_the_step(kind: str) -> None:
    rows = rows_of(kind)
    plain, replayed = (trainer(kind, accelerator="gpu") for _ in range(2))
    each = ResidentSteps(plain, rows, order_of(False, rows), None)
    steps = ResidentSteps(replayed, rows, order_of(False, rows), record)
    assert steps.prepare(0) is None
    one = terms_of(each, plain, range(8))
    two = terms_of(steps, replayed, range(8))
    for a, b in zip(one + weights(plain), two + weights(replayed), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@needs_gpu
def test_the_loop_on_a_gpu_records_its_step() -> None:
    task = ModelTask(trainer("default", accelerator="gpu"), rows_of("default"), Order(57, 10, 1))
    task.prepare(0)
    assert task.not_recorded is None


@needs_gpu
def test_an_operation_that_waits_for_the_gpu_is_not_recorded() -> None:
    one = trainer("default", accelerator="gpu")
    rows = rows_of("default")
    steps = ResidentSteps(one, rows, order_of(False, rows), record)
    take = steps._take

    def waits() -> torch.Tensor:
        terms = take()
        float(terms.sum())
        return terms

    steps._take = waits  # type: ignore[method-assign]
    assert "cannot be recorded" in str(steps.prepare(0))
    assert steps(0).isfinite().all()
    assert float(torch.rand(3, device="cuda").sum()) > 0


@pytest.mark.parametrize("accelerator", DEVICES)
@pytest.mark.parametrize("kind", ["default", "paper", "best"])
def test_interrupted_is_uninterrupted_to_the_bit(
    accelerator: str, kind: str, tmp_path: Any
) -> None:
    rows = rows_of(kind)
    shape, settings = KINDS[kind]
    small = {"features": 12, "budget": 4, "encoder_hidden": (16,), "sparsity_hidden": (8,)}

    def model() -> SDLGM:
        return SDLGM(ModelConfig(**{**small, **shape}), data_statistics(rows.grey()))

    fixed: dict[str, Any] = {
        "batch_size": 10, "iterations": 30, "accelerator": accelerator, "checkpoint_every": 7,
        "evaluate_every": 5,
    }  # fmt: skip
    config = TrainingConfig(**{**fixed, **settings})
    whole = model()
    train(whole, rows, config, folder=tmp_path / "whole", validation=rows)

    class Stop(Exception):  # noqa: N818
        pass

    def stop(step: int, numbers: dict[str, float]) -> None:
        if step == 17:
            raise Stop

    resumed = model()
    (tmp_path / "cut").mkdir()
    with pytest.raises(Stop):
        train(resumed, rows, config, folder=tmp_path / "cut", validation=rows, on_step=stop)
    resumed = model()
    train(resumed, rows, config, folder=tmp_path / "cut", validation=rows, resume=True)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a.cpu(), b.cpu())
