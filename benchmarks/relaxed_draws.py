"""Time and memory of relaxed samples: slots stored, recomputed in backward, and a plain version.

Memory is read from ``/proc``, so the benchmark needs Linux.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from paper.machine import machine

from benchmarks._rounds import add_profile, in_turns, ratio, report, spread
from sdlgm.distributions import RelaxedGatedMultinomial, _relaxed_slots

__all__ = ["add_arguments", "run"]

BATCH = 100
WAYS = {"stored": 2**40, "recomputed": 0, "plain": 0}
"""Variants, and the largest number of values of slots that each stores."""


@dataclass(frozen=True)
class Size:
    """The size of the benchmark."""

    rounds: int
    shapes: tuple[tuple[int, int], ...]
    """Pairs of features K and budget L0."""
    draws: tuple[str, ...]


PROFILES = {
    "full": Size(15, ((200, 40), (2_000, 100)), ("rsample", "rsample_absence")),
    "smoke": Size(2, ((200, 40),), ("rsample",)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)


def run(options: argparse.Namespace) -> None:
    """Measure, print the ratios, and write the results file."""
    torch.set_num_threads(1)
    size = PROFILES[options.profile]
    found: dict[str, Any] = {"benchmark": "relaxed_draws", "draws": {}}
    for draw in size.draws:
        for features, budget in size.shapes:
            steps = {way: _step(way, draw, features, budget) for way in WAYS}
            wall, cpu = in_turns(steps, size.rounds, 1)
            found["draws"][f"{draw}, K = {features}, L0 = {budget}"] = {
                way: {
                    "cpu_milliseconds": spread([1e3 * t for t in cpu[way]]),
                    "cpu_ratio_to_plain": ratio(cpu, way, "plain"),
                    "ratio_to_plain": ratio(wall, way, "plain"),
                    "peak_megabytes": _peak(way, draw, features, budget),
                }
                for way in WAYS
            }
    found["settings"] = {
        "profile": options.profile, "rounds": size.rounds, "threads": 1, "batch": BATCH
    }  # fmt: skip
    found["machine"] = machine()
    report(options, found)


def _step(way: str, draw: str, features: int, budget: int) -> Callable[[], None]:
    """Return a call that draws a batch and computes its gradient."""
    source = torch.Generator().manual_seed(0)
    gates = torch.randn(BATCH, generator=source).requires_grad_()
    logits = torch.randn(BATCH, features, generator=source).requires_grad_()
    temperature = torch.tensor(1.0).requires_grad_()

    def step() -> None:
        _relaxed_slots.MAX_SAVED = WAYS[way]
        q = RelaxedGatedMultinomial(
            budget, gates, logits, temperature, temperature, validate_args=False
        )
        if way != "plain":
            drawn = getattr(q, draw)(generator=source)
        else:
            opened, slots = q.rsample_slots(generator=source)
            parts = opened.unsqueeze(-1) * slots
            limit = 1 - torch.finfo(parts.dtype).eps
            drawn = parts if draw == "rsample" else torch.log1p(-parts.clamp(max=limit))
            drawn = drawn.sum(-2)
        drawn.sum().backward()

    return step


def _peak(way: str, draw: str, features: int, budget: int) -> float:
    """Return the megabytes that a step adds to the peak memory of a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_increase, (way, draw, features, budget))


def _increase(way: str, draw: str, features: int, budget: int) -> float:
    torch.set_num_threads(1)
    _step(way, draw, 10, 4)()
    before = _peak_memory()
    _step(way, draw, features, budget)()
    return _peak_memory() - before


def _peak_memory() -> float:
    """Return the peak memory of this process in megabytes."""
    # The peak of getrusage() includes that of the parent process.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
