"""A GPU: steps as they are and recorded, the latent alone, `best` to a bound, encoding, memory.

A recorded step is replayed as a CUDA graph; on a CPU there is none, and everything else is timed.
All calls of one part take turns, in blocks that end when the device is done.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from paper.machine import machine
from paper.timing.experiment import BATCH, INPUTS, MODELS, ON_PROBABILITY, PLAIN
from paper.timing.models import GumbelSoftmaxVAE
from torch import Tensor

from benchmarks._card import PROFILES, Bench, Call, Size
from benchmarks._rounds import Clocks, add_profile, ratio, report, spread
from benchmarks.latent_cost import naive, naive_bytes, ours
from sdlgm.config import DataConfig, ModelConfig, TrainingConfig, preset
from sdlgm.data import Dataset, Rows, load_data
from sdlgm.environment import describe_device, device_of
from sdlgm.errors import DataError, SDLGMError
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics, data_statistics
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.random import generator
from sdlgm.storage import write_json
from sdlgm.training import fit
from sdlgm.training.loop import Callback, run_loop
from sdlgm.training.model_training import ModelTask
from sdlgm.training.order import Order
from sdlgm.training.state import LoopState
from sdlgm.training.step import Trainer

__all__ = ["PARTS", "add_arguments", "run"]

GOALS = {
    "best_recorded_ms": "at most 0.70: whole recorded step of `best`, batch 100",
    "default_over_gumbel_softmax": "at most 1.35, both recorded, batch 100",
    "relaxed_over_gumbel_softmax": "at most 1.44 (the paper's figure), both recorded, batch 100",
    "relaxed_over_gumbel_softmax_4096": "at most 2.5, batch 4,096",
    "latent_over_naive": "at most 1 for every K and L0",
    "latent_ms": "at most 1.2: K = 100,000, L0 = 50, batch 128",
    "seconds_to_target": "at most 20: `best` to 99.05, evaluations included",
    "fit_seconds": "at most 35: 30,000 iterations of `best` with the evaluation",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)
    parser.add_argument(
        "--quick", dest="profile", action="store_const", const="smoke", help="As --profile smoke."
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=220.0,
        help="Parts that would start later than this are left out, and listed. Default: 220.",
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="Default: all, in order."
    )
    parser.add_argument(
        "--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="Default: auto."
    )


def run(options: argparse.Namespace) -> None:
    """Measure, print the numbers, and write the results file, also after each part."""
    torch.manual_seed(0)  # the naive sampler and the baselines use torch's global generator
    device = device_of(options.accelerator)
    bench = Bench(PROFILES[options.profile], device, options.seconds)
    found: dict[str, Any] = {
        "benchmark": "gpu",
        "card": describe_device(device),
        "machine": machine() | {"cuda": torch.version.cuda},
        "goals": GOALS,
        "settings": {
            **asdict(bench.size), "profile": options.profile, "seconds": options.seconds,
            "bits": "random for steps", "logits": "standard normal for the latent, one group",
        },
    }  # fmt: skip
    found["left_out"] = list[str]()
    for name in options.parts:
        if bench.left() <= (bench.size.fit_seconds if name == "whole_fit" else 0):
            found["left_out"].append(name)
            continue
        bench.say(f"{name} ({bench.left():.0f} s left)")
        found[name] = _part(bench, name)
        found["reached"] = reached(found)
        found["seconds"] = round(options.seconds - bench.left(), 1)
        if options.json is not None:
            write_json(options.json, found)
    report(options, found)


def _part(bench: Bench, name: str) -> dict[str, Any]:
    """Run a part; if it fails, the others still run, as time on a card may be short."""
    started = time.perf_counter()
    try:
        found = PARTS[name](bench)
    except (RuntimeError, ValueError, SDLGMError) as error:
        bench.say(f"{name} failed: {error}")
        found = {"error": f"{type(error).__name__}: {error}"}
    return {**found, "seconds": round(time.perf_counter() - started, 2)}


def _milliseconds(seconds: Sequence[float]) -> dict[str, Any]:
    return spread([1e3 * each for each in seconds])


# --- steps --------------------------------------------------------------------------------------


PRODUCT: dict[str, Any] = {
    "levels": 1, "prior": "learned_gates", "slot_cost": 0.03, "draws": 1,
}  # fmt: skip
"""The preset best as it was when the goals were set: its prior was a product over groups."""


def _shapes(size: Size) -> dict[str, tuple[ModelConfig, TrainingConfig]]:
    """Return the settings of our contenders."""
    hidden: dict[str, Any] = {"encoder_hidden": size.hidden}
    relaxed = dataclasses.asdict(MODELS["relaxed"].model or ModelConfig()) | hidden
    return {
        "default": preset("plain", **hidden),
        "best": preset("best", **PRODUCT),
        "relaxed": preset("plain", **relaxed, objective="paper"),
        "bernoulli-200": preset("plain", features=200, budget=200, groups=200, **hidden),
    }


BASELINES: dict[str, dict[str, Any]] = {
    "gumbel-softmax": {"activation": "gelu", "normalisation": "layer"},
    "gumbel-softmax-plain": PLAIN,
}
"""Baselines of 20 x 10 categories, and their networks."""

RATIOS = {
    "default_over_gumbel_softmax": ("default", "gumbel-softmax"),
    "best_over_gumbel_softmax": ("best", "gumbel-softmax"),
    "bernoulli_over_gumbel_softmax": ("bernoulli-200", "gumbel-softmax"),
    "relaxed_over_gumbel_softmax": ("relaxed", "gumbel-softmax-plain"),
}


def steps(bench: Bench) -> dict[str, Any]:
    """Time a step of all contenders on a batch that is there, as it is and recorded.

    The whole step of ours, with its rows and bits, is timed as well.
    """
    return {str(batch): _steps_of(bench, batch) for batch in bench.size.batches}


def _steps_of(bench: Bench, batch: int) -> dict[str, Any]:
    bench.free()
    source = generator(0, "bits", device=bench.device)
    on = torch.full((batch, INPUTS), ON_PROBABILITY, device=bench.device)
    x = torch.bernoulli(on, generator=source)
    calls: dict[str, Call | None] = {}
    contenders: dict[str, dict[str, Any]] = {}
    for name, networks in BASELINES.items():
        model = GumbelSoftmaxVAE(INPUTS, bench.size.hidden, **networks).to(bench.device)
        for group in model.adam.param_groups:
            group["capturable"] = bench.on_gpu
        body = _step_of_baseline(model, x)
        contenders[name] = {"peak_megabytes": _second(bench, body)}
        calls |= {name: body, f"{name}, recorded": bench.recorded(body)}
    for name, (shape, training) in _shapes(bench.size).items():
        trainer, noise = _trainer(bench, shape, training)
        body = _step_of(trainer, x, noise)
        contenders[name] = {"peak_megabytes": _second(bench, body)}
        calls |= {name: body, f"{name}, recorded": bench.recorded(body, (noise,))}
        plain, whole = (_whole_step(bench, shape, training, batch, r) for r in (False, True))
        calls |= {f"{name}, whole": plain[0], f"{name}, whole, recorded": whole[0]}
        contenders[name]["why_not_recorded"] = whole[1]
    wall = bench.measure({name: call for name, call in calls.items() if call is not None})
    for name, seconds in wall.items():
        contender, _, how = name.partition(", ")
        contenders[contender][f"{how or 'as it is'} (ms)"] = _milliseconds(seconds)
    return {"contenders": contenders, "ratios": dict(_ratios(wall))}


def _ratios(wall: Clocks) -> Iterator[tuple[str, Any]]:
    for ratio_name, pair in RATIOS.items():
        for how in ("", ", recorded"):
            ours_, theirs = (f"{name}{how}" for name in pair)
            if ours_ in wall and theirs in wall:
                yield f"{ratio_name}{how}", ratio(wall, ours_, theirs)


def _second(bench: Bench, body: Call) -> float | None:
    """Return the peak memory of a second call; the first one makes the optimiser's state."""
    body()
    return bench.peak_megabytes(body)


def _step_of_baseline(model: GumbelSoftmaxVAE, x: Tensor) -> Call:
    return lambda: model.step(x, 0)


def _step_of(trainer: Trainer, x: Tensor, noise: torch.Generator) -> Call:
    return lambda: trainer.update(x, noise)


def _trainer(
    bench: Bench, shape: ModelConfig, training: TrainingConfig
) -> tuple[Trainer, torch.Generator]:
    """Return a trainer of an untrained model of random bits, and a source of noise."""
    statistics = DataStatistics(torch.full((INPUTS,), ON_PROBABILITY), torch.ones(INPUTS), 2)
    model = SDLGM(shape, statistics, generator(0, "weights"))
    training = dataclasses.replace(training, accelerator=bench.accelerator)
    trainer = Trainer(model, training)
    trainer.objective.set_schedules(0)
    return trainer, generator(0, "noise", device=bench.device)


def _whole_step(
    bench: Bench, shape: ModelConfig, training: TrainingConfig, batch: int, recorded: bool
) -> tuple[Call | None, str | None]:
    """Return a step that draws its rows and bits, and why it is not recorded, if it is not."""
    if recorded and not bench.on_gpu:
        return None, "there is no GPU"
    trainer, _ = _trainer(bench, shape, dataclasses.replace(training, batch_size=batch))
    rows, order = bench.rows, Order(len(bench.rows), batch, 0)
    if not recorded:
        task = ModelTask(trainer, rows, order, recorder=None)
    else:
        task = ModelTask(trainer, rows, order)
        task.prepare(0)
        if task.not_recorded:
            return None, task.not_recorded
    number = iter(range(sys.maxsize))
    return lambda: task.step(next(number)), None


# --- the latent alone ---------------------------------------------------------------------------


def latent(bench: Bench) -> dict[str, Any]:
    """Time draws of codes and their gradient beside the naive sampler, over K and L0."""
    cases = [
        _latent_case(bench, features, budget)
        for features in bench.size.features
        for budget in bench.size.budgets
    ]
    return {"cases": cases, "why_null": "the naive sampler does not fit the memory"}


def _latent_case(bench: Bench, features: int, budget: int) -> dict[str, Any]:
    bench.free()
    batch, source = bench.size.latent_batch, generator(0, "logits")
    gates = torch.randn(batch, 1, generator=source).to(bench.device).requires_grad_()
    logits = torch.randn(batch, features, generator=source).to(bench.device).requires_grad_()
    weights = torch.randn(features, generator=source).to(bench.device)
    noise = generator(0, "noise", device=bench.device)

    def of_ours() -> None:
        gates.grad = logits.grad = None
        ours(gates, logits, budget, weights, noise)

    def of_naive() -> None:
        gates.grad = logits.grad = None
        naive(gates, logits, budget, weights)

    bodies: dict[str, tuple[Call, tuple[torch.Generator, ...]]] = {"ours": (of_ours, (noise,))}
    if naive_bytes(batch, budget, features) < _memory(bench):
        bodies["naive"] = of_naive, ()
    calls: dict[str, Call] = {}
    found: dict[str, Any] = {"features": features, "budget": budget, "naive": None}
    for name, (body, sources) in bodies.items():
        body()
        found[name] = {"peak_megabytes": bench.peak_megabytes(body)}
        calls[name] = body
        replay = bench.recorded(body, sources)
        if replay is not None:
            calls[f"{name}, recorded"] = replay
    wall = bench.measure(calls)
    for name, seconds in wall.items():
        sampler, _, how = name.partition(", ")
        found[sampler][f"{how or 'as it is'} (ms)"] = _milliseconds(seconds)
    for how in ("", ", recorded"):
        if f"naive{how}" in wall:
            found[f"ours_over_naive{how}"] = ratio(wall, f"ours{how}", f"naive{how}")
    return found


def _memory(bench: Bench) -> float:
    """Return how many bytes the naive sampler may take: half of the card, or 1 GB of a CPU."""
    if not bench.on_gpu:
        return 1e9
    return torch.cuda.get_device_properties(bench.device).total_memory / 2


# --- `best` to a bound --------------------------------------------------------------------------


class _Follower(Callback):
    """Evaluates the bound of the test rows every so often; stops at the target or out of time."""

    def __init__(self, bench: Bench, model: SDLGM, test: Tensor) -> None:
        self.bench, self.model, self.test = bench, model, test
        self.values: list[tuple[int, float]] = []

    def reads(self, state: LoopState) -> bool:
        """Return whether an evaluation is due."""
        return state.at_last_step or state.step % self.bench.size.every == 0

    def after_step(self, state: LoopState) -> None:
        """Evaluate if it is due."""
        if not self.reads(state):
            return
        self.model.eval()
        noise = generator(0, "evaluation codes", device=self.bench.device)
        sums = [
            negative_elbo(self.model, x, generator=noise).total.double().sum()
            for x in self.test.split(5_000)
        ]
        self.model.train()
        value = float(torch.stack(sums).sum()) / len(self.test)
        self.values.append((state.step, value))
        state.stopped = value <= self.bench.size.target or self.bench.left() < 0


def to_bound(bench: Bench) -> dict[str, Any]:
    """Train `best` until the bound of the test rows reaches the target; evaluations included."""
    dataset = _dataset(bench.size)
    model, training = _best(bench)
    bits = generator(0, "evaluation bits")
    test = torch.cat([*dataset.test.batches(1_000, bits)]).to(bench.device)
    network = SDLGM(model, data_statistics(dataset.train.grey()), generator(0, "weights"))
    trainer = Trainer(network, training)
    order = Order(len(dataset.train), training.batch_size, training.seed)
    task = ModelTask(trainer, dataset.train, order)
    follower, state = _Follower(bench, network, test), LoopState(training.iterations)
    network.train()
    started = time.perf_counter()
    task.prepare(0)
    prepared = time.perf_counter() - started
    run_loop(task, state, [follower])
    bench.wait()
    seconds = time.perf_counter() - started
    reached_it = follower.values[-1][1] <= bench.size.target
    return {
        "data": dataset.name,
        "seconds_to_target": seconds if reached_it else None,
        "wall_seconds": seconds,
        "seconds_to_record": prepared,
        "why_not_recorded": task.not_recorded,
        "iterations": state.step,
        "negative_elbo": follower.values,
    }


def whole_fit(bench: Bench) -> dict[str, Any]:
    """Fit `best` as users do: data, log, checkpoints, and the evaluation at the end."""
    dataset = _dataset(bench.size)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fitted = fit(
            DataConfig(dataset.name), *_best(bench), out=Path(folder) / "run", progress=False,
            importance_samples=bench.size.importance_samples,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        return {"data": dataset.name, "fit_seconds": seconds, "metrics": fitted.metrics}


def _best(bench: Bench) -> tuple[ModelConfig, TrainingConfig]:
    options = {"iterations": bench.size.iterations, "accelerator": bench.accelerator}
    return preset("best", **PRODUCT, **options)


def _dataset(size: Size) -> Dataset:
    for name in size.data:
        try:
            return load_data(DataConfig(name), "bernoulli")
        except DataError:
            if name == size.data[-1]:
                raise
    raise ValueError("no data")


# --- encoding -----------------------------------------------------------------------------------


def encode(bench: Bench) -> dict[str, Any]:
    """Time `model.encode(rows, "mode")` and `model.decode`, from rows on the CPU to codes there."""
    dataset = _dataset(bench.size)
    rows = dataset.train.binarise("threshold", 0)
    model = SDLGM(_best(bench)[0], data_statistics(rows.grey())).to(bench.device).eval()
    codes = model.encode(rows)
    calls: dict[str, Call] = {}
    for size in bench.size.encode_batches:
        calls[f"encode, {size} rows at a time"] = _encoding(model, rows, size)
        calls[f"decode, {size} rows at a time"] = _decoding(model, codes, size)
    wall = bench.measure(calls)
    return {
        "rows": len(rows),
        "rows_per_second": {name: len(rows) / spread(wall[name])["median"] for name in calls},
        "peak_megabytes": {name: bench.peak_megabytes(call) for name, call in calls.items()},
    }


def _encoding(model: SDLGM, rows: Rows, size: int) -> Call:
    return lambda: model.encode(rows, "mode", batch_size=size)


def _decoding(model: SDLGM, codes: Tensor, size: int) -> Call:
    return lambda: model.decode(codes, batch_size=size)


# --- the goals ----------------------------------------------------------------------------------


def reached(found: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers that are compared with the goals; ``None`` where they were not measured.

    Recorded steps count where there are any.
    """
    step, wide = (found.get("steps", {}).get(str(batch), {}) for batch in (BATCH, 4096))
    values: dict[str, Any] = {
        "best_recorded_ms": _at(step, "contenders", "best", "whole, recorded (ms)", "median"),
        "default_over_gumbel_softmax": _ratio(step, "default_over_gumbel_softmax"),
        "relaxed_over_gumbel_softmax": _ratio(step, "relaxed_over_gumbel_softmax"),
        "relaxed_over_gumbel_softmax_4096": _ratio(wide, "relaxed_over_gumbel_softmax"),
        "seconds_to_target": found.get("to_bound", {}).get("seconds_to_target"),
        "fit_seconds": found.get("whole_fit", {}).get("fit_seconds"),
    }
    cases = found.get("latent", {}).get("cases", [])
    ratios = [_first(case, "ours_over_naive, recorded", "ours_over_naive") for case in cases]
    known = [each for each in ratios if each is not None]
    values["latent_over_naive"] = max(known) if known else None
    largest = [c["ours"] for c in cases if (c["features"], c["budget"]) == (100_000, 50)]
    values["latent_ms"] = _first(largest[0], "recorded (ms)", "as it is (ms)") if largest else None
    return {name: values[name] for name in GOALS}


def _ratio(part: Mapping[str, Any], name: str) -> float | None:
    return _first(part.get("ratios", {}), f"{name}, recorded", name)


def _first(part: Mapping[str, Any], *names: str) -> float | None:
    """Return the first of some medians that there is."""
    return next((_at(part, name, "median") for name in names if name in part), None)


def _at(value: Any, *path: str) -> float | None:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, float) and math.isfinite(value) else None


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "steps": steps,
    "to_bound": to_bound,
    "latent": latent,
    "encode": encode,
    "whole_fit": whole_fit,
}
"""The parts of the benchmark, in their order."""
