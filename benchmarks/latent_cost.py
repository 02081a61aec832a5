"""Time and peak memory of sampling codes and their gradient, compared with a naive relaxation.

Both samplers get the logits of a batch and a loss that is linear in the codes; no networks are
involved. All budgets of one number of features take turns, then both samplers for each budget.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paper.machine import machine
from torch import Tensor

from benchmarks._rounds import add_profile, in_turns, ratio, report, spread
from sdlgm.config import TrainingConfig
from sdlgm.distributions import grouped_gated_multinomial
from sdlgm.gradients import get_estimator
from sdlgm.random import generator

__all__ = ["add_arguments", "peak", "run"]

ARRAYS = 5
"""Approximate number of arrays of ``batch x L0 x K`` numbers that the naive sampler needs."""


@dataclass(frozen=True)
class Size:
    """The size of the benchmark."""

    batch: int
    budgets: tuple[int, ...]
    features: dict[int, int]
    """Numbers of features, and rounds of each."""
    extra: tuple[int, int]
    """An additional pair of features and budget."""
    limit: int
    """Maximum bytes of the naive sampler."""


PROFILES = {
    "full": Size(
        batch=128,
        budgets=(1, 10, 40, 100, 1000),
        features={200: 51, 2000: 31, 20_000: 9, 100_000: 7},
        extra=(100_000, 50),
        limit=2_000_000_000,
    ),
    "smoke": Size(4, (1, 8), {10: 3, 40: 2}, (40, 4), limit=20_000),
}
GOALS = {
    "flat_in_budget": "at most 1.5: L0 = 1,000 over L0 = 1 at K = 2,000 (processor time)",
    "slope_in_features": "1: log time over log K from the smallest to the largest K",
    "peak_megabytes": "under 1,000: K = 100,000, L0 = 50, batch 128",
    "times_faster_than_naive": "at least 10: K = 200, L0 = 40 (processor time)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)


def ours(
    gates: Tensor,
    features: Tensor,
    budget: int,
    weights: Tensor,
    noise: torch.Generator | None = None,
) -> None:
    """Draw codes in one group and compute the gradient with the default estimator."""
    noise = generator(0, "noise") if noise is None else noise
    estimate = get_estimator(str(TrainingConfig().estimator))(
        grouped_gated_multinomial(budget, gates, features, validate_args=False),
        lambda codes: codes @ weights,
        generator=noise,
    )
    estimate.surrogate.sum().backward()


def naive(gates: Tensor, features: Tensor, budget: int, weights: Tensor) -> None:
    """Relax every slot by eqs. 8, 10 and 12 of the paper, at temperature 1."""

    def gumbel(*shape: int) -> Tensor:
        return -torch.empty(shape, device=features.device).exponential_().log()

    shape = (len(features), budget)
    opened = torch.sigmoid(gates + gumbel(*shape) - gumbel(*shape))
    log_probs = torch.log_softmax(features, dim=-1).unsqueeze(1)
    slots = torch.softmax(log_probs + gumbel(*shape, features.shape[-1]), dim=-1)
    codes = (opened.unsqueeze(-1) * slots).sum(1)
    (codes @ weights).sum().backward()


SAMPLERS: dict[str, Callable[[Tensor, Tensor, int, Tensor], None]] = {"ours": ours, "naive": naive}


def case(sampler: str, features: int, budget: int, batch: int) -> Callable[[], None]:
    """Return a call that computes the gradients of random logits."""
    source = generator(0, "logits")
    gates = torch.randn(batch, 1, generator=source).requires_grad_()
    logits = torch.randn(batch, features, generator=source).requires_grad_()
    weights = torch.randn(features, generator=source)

    def step() -> None:
        gates.grad = logits.grad = None
        SAMPLERS[sampler](gates, logits, budget, weights)

    return step


def run(options: argparse.Namespace) -> None:
    """Measure, print the numbers, and write the results file."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the naive sampler uses torch's global generator
    size = PROFILES[options.profile]
    cases: list[dict[str, Any]] = []
    flat: dict[int, float] = {}
    with _processes() as pool:
        for features, rounds in size.features.items():
            extra = {size.extra[1]} if size.extra[0] == features else set()
            budgets = sorted({*size.budgets, *extra})
            steps = {str(b): case("ours", features, b, size.batch) for b in budgets}
            _say(f"K = {features}: {rounds} rounds of {len(steps)} budgets, then the naive sampler")
            wall, cpu = in_turns(steps, rounds, warmup=2)
            first, last = str(budgets[0]), str(budgets[-1])
            flat[features] = ratio(cpu, last, first)["median"]
            for budget in budgets:
                name = str(budget)
                costs = _costs(wall[name], cpu[name])
                costs["peak_megabytes"] = pool.apply(peak, ("ours", features, budget, size.batch))
                cases.append({"features": features, "budget": budget, "ours": costs})
                cases[-1] |= _compared_with_naive(size, features, budget, rounds, steps[name], pool)
    found = {
        "benchmark": "latent_cost",
        **_summary(size, flat, cases),
        "goals": GOALS,
        "slopes": _slopes(size, cases),
        "cases": cases,
        "why_null": (
            f"the naive sampler needs about {ARRAYS} arrays of batch x L0 x K floats; it does not "
            f"run where they exceed {size.limit:,} bytes"
        ),
        "settings": {
            "profile": options.profile,
            "threads": 1,
            "logits": "standard normal, seed 0",
            **asdict(size),
        },
        "machine": machine(),
    }
    report(options, found)


def naive_bytes(batch: int, budget: int, features: int) -> int:
    """Return the approximate number of bytes of the naive sampler."""
    return 4 * ARRAYS * batch * budget * features


def _compared_with_naive(
    size: Size, features: int, budget: int, rounds: int, step: Callable[[], None], pool: Any
) -> dict[str, Any]:
    """Time both samplers in turns, if the memory of the naive one is within the limit."""
    if naive_bytes(size.batch, budget, features) > size.limit:
        return {"naive": None, "naive_over_ours_cpu": None}
    baseline = case("naive", features, budget, size.batch)
    wall, cpu = in_turns({"ours": step, "naive": baseline}, max(3, rounds // 3), warmup=1)
    costs = _costs(wall["naive"], cpu["naive"])
    costs["peak_megabytes"] = pool.apply(peak, ("naive", features, budget, size.batch))
    return {"naive": costs, "naive_over_ours_cpu": ratio(cpu, "naive", "ours")}


def _costs(wall: Sequence[float], cpu: Sequence[float]) -> dict[str, Any]:
    return {"rounds": len(wall), "seconds": spread(wall), "cpu_seconds": spread(cpu)}


def _summary(size: Size, flat: dict[int, float], cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers that are compared with the goals."""
    by = {(c["features"], c["budget"]): c for c in cases}
    small = by[min(size.features), 40 if 40 in size.budgets else size.budgets[-1]]
    one = size.budgets[0]
    return {
        "flat_in_budget": flat[sorted(size.features)[1]],
        "flat_in_budget_all": {str(k): v for k, v in flat.items()},
        "peak_megabytes": by[size.extra]["ours"]["peak_megabytes"],
        "times_faster_than_naive": small["naive_over_ours_cpu"]["median"],
        "slope_in_features": _slope(
            [(k, by[k, one]["ours"]["cpu_seconds"]["median"]) for k in size.features]
        ),
    }


def _slopes(size: Size, cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the slopes of log processor time in L0 for each K, and in K for each L0."""

    def fit(sampler: str, along: str, **fixed: int) -> float | None:
        return _slope(
            [
                (c[along], c[sampler]["cpu_seconds"]["median"])
                for c in cases
                if c[sampler] and all(c[k] == v for k, v in fixed.items())
            ]
        )

    return {
        sampler: {
            "in_budget": {str(k): fit(sampler, "budget", features=k) for k in size.features},
            "in_features": {str(b): fit(sampler, "features", budget=b) for b in size.budgets},
        }
        for sampler in SAMPLERS
    }


def _slope(points: list[tuple[int, float]]) -> float | None:
    """Return the slope of a least-squares line through the logarithms; ``None`` for one point."""
    if len(points) < 2:
        return None
    x, y = np.log(np.asarray(points, dtype=float).T)
    return float(np.polyfit(x, y, 1)[0])


def _processes() -> Any:
    """Return a pool that runs each task in a new process with the modules imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.latent_cost"])
    return context.Pool(1, maxtasksperchild=1)


def peak(sampler: str, features: int, budget: int, batch: int) -> float | None:
    """Return the increase of the peak memory of this process by a case, in megabytes.

    It is measured from the memory after a tiny case. ``None`` if the system does not report it.
    (``resource.getrusage`` cannot be used: its peak includes that of the parent process.)
    """
    torch.set_num_threads(1)
    case(sampler, 10, 2, 2)()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak
    before = _status("VmRSS")
    case(sampler, features, budget, batch)()
    after = _status("VmHWM")
    return None if before is None or after is None else after - before


def _status(name: str) -> float | None:
    """Return an entry of ``/proc/self/status`` in megabytes (10^6 bytes)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(name + ":")]
    return 1.024e-3 * float(found[0]) if found else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
