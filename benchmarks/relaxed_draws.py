"""Time and memory of the paper's relaxed draws: slots kept, drawn again, and written plainly.

Memory is read from ``/proc``: on Linux only.
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
from sdlgm.distributions import RelaxedGatedMultinomial, _slots

__all__ = ["add_arguments", "run"]

BATCH = 100
WAYS = {"kept": 2**40, "drawn again": 0, "plain": 0}
"""How, and the most numbers of slots that are kept."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    shapes: tuple[tuple[int, int], ...]
    """Features K and budgets L0."""
    draws: tuple[str, ...]


PROFILES = {
    "full": Size(15, ((200, 40), (2_000, 100)), ("rsample", "rsample_absence")),
    "smoke": Size(2, ((200, 40),), ("rsample",)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)


def run(options: argparse.Namespace) -> None:
    """Measure, print the ratios, and write the file that was asked for."""
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
    """One draw of a batch and its gradient."""
    source = torch.Generator().manual_seed(0)
    gates = torch.randn(BATCH, generator=source).requires_grad_()
    logits = torch.randn(BATCH, features, generator=source).requires_grad_()
    heat = torch.tensor(1.0).requires_grad_()

    def step() -> None:
        _slots.KEPT = WAYS[way]
        q = RelaxedGatedMultinomial(budget, gates, logits, heat, heat, validate_args=False)
        if way != "plain":
            drawn = getattr(q, draw)(generator=source)
        else:
            opened, slots = q.rsample_slots(generator=source)
            parts = opened.unsqueeze(-1) * slots
            most = 1 - torch.finfo(parts.dtype).eps
            drawn = parts if draw == "rsample" else torch.log1p(-parts.clamp(max=most))
            drawn = drawn.sum(-2)
        drawn.sum().backward()

    return step


def _peak(way: str, draw: str, features: int, budget: int) -> float:
    """Megabytes that one step adds to the largest memory of a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grown, (way, draw, features, budget))


def _grown(way: str, draw: str, features: int, budget: int) -> float:
    torch.set_num_threads(1)
    _step(way, draw, 10, 4)()
    before = _high_water()
    _step(way, draw, features, budget)()
    return _high_water() - before


def _high_water() -> float:
    """Return the largest memory so far, in megabytes."""
    # The one of getrusage() is at least that of the parent.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
