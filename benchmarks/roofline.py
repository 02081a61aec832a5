"""Seconds per training step relative to its matrix products, and the shares of all other parts.

The products are ``torch.mm`` calls into allocated arrays with the step's shapes and dtype. Steps,
products and all other parts take turns in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict, dataclass
from typing import Any

import torch
from paper.machine import machine
from paper.timing.experiment import BATCH, INPUTS

from benchmarks._rounds import add_profile, in_turns, ratio, report, spread
from benchmarks._step_parts import PRODUCTS, Call, Step
from sdlgm.config import preset

__all__ = ["add_arguments", "run"]


@dataclass(frozen=True)
class Size:
    """The size of the benchmark."""

    rounds: int
    warmup: int
    hidden: tuple[int, ...]
    sparsity: tuple[int, ...]


PROFILES = {
    "full": Size(rounds=200, warmup=20, hidden=(512, 384, 256), sparsity=(256, 64)),
    "smoke": Size(3, 1, (32, 16), (8,)),
}
MODELS: dict[str, dict[str, Any]] = {
    "one group, shared trunk": {"groups": 1, "shared_trunk": True},
    "default": {},
}
"""The model of the goal, and the default."""
GOAL = 1.35


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)
    parser.add_argument("--rounds", type=int, default=None, help="Rounds. Default: the profile's.")
    parser.add_argument("--table", action="store_true", help="Also print the parts as a table.")


def run(options: argparse.Namespace) -> None:
    """Measure, print the numbers, and write the results file."""
    torch.set_num_threads(1)
    size = PROFILES[options.profile]
    rounds = options.rounds or size.rounds
    models = {name: _measure(settings, size, rounds) for name, settings in MODELS.items()}
    first = next(iter(models.values()))
    found = {
        "benchmark": "roofline",
        "ratio_step": first["over_products"]["median"],
        "ratio_step_cpu": first["over_products_cpu"]["median"],
        "goal": GOAL,
        "models": models,
        "settings": {
            **asdict(size), "rounds": rounds, "profile": options.profile, "batch": BATCH,
            "inputs": INPUTS, "dtype": "float32", "threads": 1, "models": MODELS,
        },
        "machine": machine(),
    }  # fmt: skip
    report(options, found)
    if options.table:
        print(_table(models), file=sys.stderr)


def _measure(settings: dict[str, Any], size: Size, rounds: int) -> dict[str, Any]:
    config = preset("plain", encoder_hidden=size.hidden, sparsity_hidden=size.sparsity, **settings)[
        0
    ]
    step = Step(config, BATCH, INPUTS)
    parts = dict(step.parts())
    products = [part for name, part in parts.items() if name.startswith(PRODUCTS)]

    def all_products() -> None:
        for part in products:
            part()

    calls: dict[str, Call] = {"step": step.step, PRODUCTS: all_products, **parts}
    wall, cpu = in_turns(calls, rounds, size.warmup)
    seconds = {name: statistics.median(clock) for name, clock in cpu.items()}
    whole = seconds["step"]
    shares = {name: seconds[name] / whole for name in parts}
    return {
        "over_products": ratio(wall, "step", PRODUCTS),
        "over_products_cpu": ratio(cpu, "step", PRODUCTS),
        "cpu_milliseconds": {
            name: {k: _thousand(v) for k, v in spread(clock).items()} for name, clock in cpu.items()
        },
        "shares": shares | {"rest": 1 - sum(shares.values())},
    }


def _thousand(value: Any) -> Any:
    return [1e3 * v for v in value] if isinstance(value, list) else 1e3 * value


def _table(models: dict[str, dict[str, Any]]) -> str:
    """Return milliseconds of processor time and shares of the step as a Markdown table."""
    names = list(models)
    head = " | ".join(f"{name}, ms | share" for name in names)
    lines = [f"| part | {head} |", "|---" + "|---:" * 2 * len(names) + "|"]
    steps = [found["cpu_milliseconds"]["step"]["median"] for found in models.values()]
    for part in ("step", *next(iter(models.values()))["shares"]):
        values = []
        for found, whole in zip(models.values(), steps, strict=True):
            share = found["shares"].get(part, 1.0)
            values.append(f"{whole * share:.2f} | {100 * share:.1f} %")
        lines.append(f"| {part} | {' | '.join(values)} |")
    return "\n".join(lines)
