"""Training a model: it learns, stops, resumes exactly, and says where it went wrong."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import pytest
import torch

from helpers import linear_model, tiny_model
from sdlgm.config import TrainingConfig
from sdlgm.data import Rows
from sdlgm.errors import DataError, ModelFileError, TrainingError
from sdlgm.gradients import estimators
from sdlgm.inference.evaluation import evaluate
from sdlgm.models import SDLGM
from sdlgm.training import Interrupted, read_log, train
from sdlgm.training.step import kl_weight, rate_schedule, temperature


@pytest.fixture
def rows(generator: torch.Generator) -> Rows:
    """Two kinds of patterns with a little noise."""
    kind = torch.rand(300, 1, generator=generator) < 0.5
    pattern = torch.where(kind, torch.tensor([1.0, 1, 1, 0, 0]), torch.tensor([0.0, 0, 0, 1, 1]))
    flip = torch.rand(300, 5, generator=generator) < 0.05
    return Rows(torch.where(flip, 1 - pattern, pattern))


def weights(model: SDLGM) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_only_matrices_decay_as_in_adamw(rows: Rows) -> None:
    def moved(decay: float) -> dict[str, torch.Tensor]:
        model = tiny_model()
        before = {name: tensor.clone() for name, tensor in model.named_parameters()}
        train(
            model,
            rows,
            TrainingConfig(iterations=1, weight_decay=decay, learning_rate=0.01),
        )
        return {name: tensor - before[name] for name, tensor in model.named_parameters()}

    start, plain, decayed = tiny_model().state_dict(), moved(0.0), moved(2.0)
    for name, by in decayed.items():
        share = 0.01 * 2.0 if by.ndim > 1 else 0.0
        torch.testing.assert_close(by, plain[name] - share * start[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("objective", ["elbo", "paper"])
def test_training_lowers_its_objective(objective: str, rows: Rows) -> None:
    model = tiny_model()
    number = {"elbo": "negative_elbo", "paper": "relaxed_objective"}[objective]
    before = getattr(evaluate(model, rows, importance_samples=5), number)
    result = train(
        model,
        rows,
        TrainingConfig(iterations=300, learning_rate=0.01, objective=objective),  # type: ignore[arg-type]
    )
    after = getattr(evaluate(model, rows, importance_samples=5), number)
    assert after < before - 0.5
    assert result.step == 300
    assert [line["step"] for line in result.history] == [100, 200, 300]
    assert not model.training


def test_trainings_with_the_same_seed_are_equal(rows: Rows) -> None:
    config = TrainingConfig(iterations=60)
    models = [tiny_model() for _ in range(3)]
    before = torch.get_rng_state()
    train(models[0], rows, config)
    train(models[1], rows, config)
    train(models[2], rows, TrainingConfig(iterations=60, seed=1))
    assert equal(weights(models[0]), weights(models[1]))
    assert not equal(weights(models[0]), weights(models[2]))
    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_objective_of_the_paper_learns_temperatures(rows: Rows) -> None:
    for objective, moved in (("elbo", False), ("paper", True)):
        model = tiny_model()
        train(model, rows, TrainingConfig(iterations=20, objective=objective))  # type: ignore[arg-type]
        assert (model.log_feature_temperature.item() != 0) == moved
        assert (model.log_gate_temperature.item() != 0) == moved


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", [1, 37, 99])
def test_an_interrupted_training_resumes_to_the_same_weights(
    number: int, when: int, rows: Rows, tmp_path: Path
) -> None:
    """With early stopping, so that the best weights and the count of misses are restored too."""
    config = TrainingConfig(
        iterations=120, evaluate_every=10, patience=9, validation_fraction=0.1, learning_rate=0.02
    )
    held = rows.subset(torch.arange(40))
    whole = tiny_model()
    train(whole, rows, config, validation=held)

    def stop(step: int, numbers: object) -> None:
        if step == when:
            signal.raise_signal(number)

    with pytest.raises(
        Interrupted, match=rf"Stopped at step {when + 1} of 120. Continue with: sdlgm"
    ):
        train(tiny_model(), rows, config, validation=held, folder=tmp_path, on_step=stop)
    resumed = tiny_model()
    train(resumed, rows, config, validation=held, folder=tmp_path, resume=True)
    assert equal(weights(whole), weights(resumed))
    steps = [line["step"] for line in read_log(tmp_path / "log.jsonl") if line["event"] == "train"]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("when", [1, 25])
def test_search_and_refitting_resume_to_the_same_weights(when: int, tmp_path: Path) -> None:
    x = Rows(torch.randn(200, 5, generator=torch.Generator().manual_seed(0)))
    config = TrainingConfig(iterations=40, turns=5, checkpoint_every=10, rate=3.0)
    whole = linear_model()
    turns = [line["turn"] for line in train(whole, x, config).history if line["event"] == "turn"]
    assert turns == [1, 2, 3, 4, 5]
    assert float(whole.rate_weight) != 1

    def stop(step: int, numbers: object) -> None:
        if step == when:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="Continue with: sdlgm"):
        train(linear_model(), x, config, folder=tmp_path, on_step=stop)
    resumed = linear_model()
    train(resumed, x, config, folder=tmp_path, resume=True)
    assert equal(weights(whole), weights(resumed))


def test_early_stopping_keeps_the_best_weights(rows: Rows) -> None:
    config = TrainingConfig(
        iterations=4000, evaluate_every=20, patience=3, validation_fraction=0.1,
        learning_rate=0.02, kl_warmup=0.0,
    )  # fmt: skip
    few = rows.subset(torch.arange(12))
    held = rows.subset(torch.arange(12, 200))
    model = tiny_model()
    result = train(model, few, config, validation=held)
    values = {
        line["step"]: line["negative_elbo"]
        for line in result.history
        if line["event"] == "validation"
    }
    assert result.step < 4000
    assert result.best_step == min(values, key=values.__getitem__)
    assert result.step == result.best_step + 3 * 20


def test_a_term_that_is_not_finite_is_named_with_its_step(rows: Rows, tmp_path: Path) -> None:
    model = tiny_model(likelihood="gaussian")
    big = Rows(torch.randn(50, 5) * 1e30)
    with pytest.raises(
        TrainingError, match=r"The term reconstruction is (inf|nan) at step 1\..*--learning-rate"
    ):
        train(model, big, TrainingConfig(iterations=200))

    model = tiny_model()

    def poison(step: int, numbers: object) -> None:
        if step == 130:
            with torch.no_grad():
                model.gate_head.bias.fill_(float("nan"))

    with pytest.raises(
        TrainingError, match=r"The term .* is nan at step 131\..*last good checkpoint"
    ):
        train(
            model, rows, TrainingConfig(iterations=400, checkpoint_every=120),
            folder=tmp_path, on_step=poison,
        )  # fmt: skip
    fresh = tiny_model()
    train(
        fresh,
        rows,
        TrainingConfig(iterations=400, checkpoint_every=120),
        folder=tmp_path,
        resume=True,
    )
    assert all(t.isfinite().all() for t in weights(fresh))


def test_a_checkpoint_of_other_data_or_settings_is_refused(rows: Rows, tmp_path: Path) -> None:
    train(tiny_model(), rows, TrainingConfig(iterations=10, checkpoint_every=5), folder=tmp_path)
    for data, config in (
        (rows, TrainingConfig(iterations=11, checkpoint_every=5)),
        (rows.subset(torch.arange(299)), TrainingConfig(iterations=10, checkpoint_every=5)),
    ):
        with pytest.raises(ModelFileError, match="other data or settings"):
            train(tiny_model(), data, config, folder=tmp_path, resume=True)


def test_a_truncated_checkpoint_is_named(rows: Rows, tmp_path: Path) -> None:
    config = TrainingConfig(iterations=10)
    train(tiny_model(), rows, config, folder=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="damaged or cut short"):
        train(tiny_model(), rows, config, folder=tmp_path, resume=True)


def test_the_kl_weight_rises_and_the_rate_falls() -> None:
    config = TrainingConfig(iterations=100, kl_warmup=0.2, schedule="cosine", learning_rate=1.0)
    assert [kl_weight(config, s) for s in (0, 10, 20, 90)] == [0, 0.5, 1, 1]
    assert kl_weight(TrainingConfig(kl_warmup=0.0), 0) == 1
    assert rate_schedule(config)(0) == 1
    assert rate_schedule(config)(50) == pytest.approx(0.5)
    assert rate_schedule(config)(99) < 0.001
    constant = TrainingConfig(schedule="constant", learning_rate=1e-3)
    assert rate_schedule(constant)(9999) == 1e-3


def test_clipping_and_lower_precision_keep_weights_finite(rows: Rows) -> None:
    for more in ({"gradient_clip": 0.1}, {"precision": "bf16-mixed"}):
        model = tiny_model()
        train(model, rows, TrainingConfig(iterations=5, **more))  # type: ignore[arg-type]
        assert all(t.isfinite().all() for t in weights(model))


def test_rows_that_do_not_fit_are_refused(rows: Rows) -> None:
    with pytest.raises(DataError, match="the training data has 4 columns"):
        train(tiny_model(), Rows(rows.values[:, :4]), TrainingConfig())
    with pytest.raises(DataError, match="needs validation rows"):
        train(tiny_model(), rows, TrainingConfig(patience=1, validation_fraction=0.1))


@pytest.mark.parametrize("estimator", estimators())
def test_every_estimator_trains_and_resumes_exactly(
    estimator: str, rows: Rows, tmp_path: Path
) -> None:
    """A checkpoint also holds what a gradient estimator learns besides the model."""
    config = TrainingConfig(
        iterations=40, estimator=estimator, temperature="annealed", checkpoint_every=20
    )
    whole, halves = tiny_model(), tiny_model()
    train(whole, rows, config)

    def stop(step: int, numbers: object) -> None:
        if step == 20:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        train(halves, rows, config, folder=tmp_path, on_step=stop)
    again = tiny_model()
    train(again, rows, config, folder=tmp_path, resume=True)
    assert equal(weights(whole), weights(again))
    assert not equal(weights(whole), weights(tiny_model()))


def test_temperatures_are_learned_annealed_or_fixed(rows: Rows) -> None:
    for course, expected in (("fixed", 1.5), ("annealed", 1.5 * math.exp(-0.01 * 99))):
        model = tiny_model(gate_temperature=1.5, feature_temperature=1.5)
        config = TrainingConfig(
            iterations=100, estimator="gumbel_softmax", temperature=course,  # type: ignore[arg-type]
            temperature_decay=0.01,
        )  # fmt: skip
        result = train(model, rows, config)
        assert model.gate_temperature.item() == pytest.approx(expected)
        assert result.history[-1]["feature_temperature"] == pytest.approx(expected)
    model = tiny_model(gate_temperature=1.5)
    train(model, rows, TrainingConfig(iterations=20, estimator="gumbel_softmax"))
    assert model.gate_temperature.item() != pytest.approx(1.5, abs=1e-3)
    assert temperature(1.0, 1e-4, 100_000) == 0.5
    assert temperature(0.3, 1e-4, 100) == 0.3
