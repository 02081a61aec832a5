"""Seconds per training step with torch.compile, relative to eager mode."""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from paper.machine import machine
from torch import Tensor

from benchmarks._rounds import add_profile, in_turns, ratio, report, spread
from sdlgm.config import preset
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.random import generator
from sdlgm.training.step import Trainer

__all__ = ["add_arguments", "run"]

INPUTS, BATCH, ON_PROBABILITY = 784, 100, 0.13


@dataclass(frozen=True)
class Size:
    """The size of the benchmark."""

    rounds: int
    warmup: int
    kinds: tuple[str, ...]
    hidden: tuple[int, ...]
    backend: str
    """Backend of torch.compile: "eager" traces without compiling."""


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "shared trunk": ({"shared_trunk": True}, {}),
    "relaxed": (
        {"groups": 1, "prior": "fixed", "activation": "relu", "normalisation": "none"},
        {"objective": "paper"},
    ),
}
PROFILES = {
    "full": Size(100, 10, tuple(KINDS), (512, 384, 256), "inductor"),
    "smoke": Size(2, 1, ("default",), (16,), "eager"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)


def run(options: argparse.Namespace) -> None:
    """Measure, print the ratios, and write the results file."""
    torch.set_num_threads(1)
    size = PROFILES[options.profile]
    kinds = {kind: _measure(kind, size) for kind in size.kinds}
    found = {
        "benchmark": "compiled",
        **{f"ratio_{kind.replace(' ', '_')}": one["cpu_ratio"] for kind, one in kinds.items()},
        "kinds": kinds,
        "settings": {
            "profile": options.profile,
            "rounds": size.rounds,
            "threads": 1,
            "backend": size.backend,
        },
        "machine": machine(),
    }
    report(options, found)


def _measure(kind: str, size: Size) -> dict[str, Any]:
    torch._dynamo.reset()
    source = generator(0, "bits")
    x = torch.bernoulli(torch.full((BATCH, INPUTS), ON_PROBABILITY), generator=source)
    steps = {"eager": _step(kind, size, x)}
    steps["compiled"] = _step(kind, size, x, compiled=True)
    start = time.perf_counter()
    for _ in range(4):  # parts are traced again when a number changes
        steps["compiled"]()
    first = time.perf_counter() - start
    wall, cpu = in_turns(steps, size.rounds, size.warmup)
    return {
        "first_four_steps_seconds": first,
        "milliseconds": {name: spread([1e3 * t for t in wall[name]]) for name in steps},
        "ratio": ratio(wall, "compiled", "eager"),
        "cpu_ratio": ratio(cpu, "compiled", "eager"),
    }


def _step(kind: str, size: Size, x: Tensor, *, compiled: bool = False) -> Callable[[], Tensor]:
    shape, settings = KINDS[kind]
    statistics = DataStatistics(torch.full((INPUTS,), ON_PROBABILITY), torch.ones(INPUTS), 2)
    model = SDLGM(preset("plain", encoder_hidden=size.hidden, **shape)[0], statistics)
    # The weight of the KL is a constant of the compiled graph, so there is no warm-up.
    trainer = Trainer(model, preset("plain", kl_warmup=0.0, accelerator="cpu", **settings)[1])
    if compiled:
        trainer._wrapped = torch.compile(trainer.objective, backend=size.backend)  # type: ignore[assignment]
    numbers = itertools.count()
    return lambda: trainer.step(x, next(numbers))
