"""Time and peak memory of sample and gradient of the latent alone, beside the naive relaxation.

Both get the logits of gates and features of a batch and a loss that is linear in the codes, so that
neither has networks to share its cost with. All budgets of one number of features take turns; then
ours and the naive sampler of each.
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
"""Arrays of ``batch x L0 x K`` numbers that the naive sampler has at a time, about."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    batch: int
    budgets: tuple[int, ...]
    features: dict[int, int]
    """Numbers of features, and rounds."""
    extra: tuple[int, int]
    """One more pair of features and budget."""
    limit: int
    """Bytes that the naive sampler may take."""


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


def ours(gates: Tensor, features: Tensor, budget: int, weights: Tensor) -> None:
    """Draw codes and take the gradient as the library does by default, in one group."""
    noise = generator(0, "noise")
    estimate = get_estimator(str(TrainingConfig().estimator))(
        grouped_gated_multinomial(budget, gates, features, validate_args=False),
        lambda codes: codes @ weights,
        generator=noise,
    )
    estimate.surrogate.sum().backward()


def naive(gates: Tensor, features: Tensor, budget: int, weights: Tensor) -> None:
    """Relax every slot, as the paper's eqs. 8, 10 and 12 are written (at temperature 1)."""

    def gumbel(*shape: int) -> Tensor:
        return -torch.empty(shape).exponential_().log()

    shape = (len(features), budget)
    opened = torch.sigmoid(gates + gumbel(*shape) - gumbel(*shape))
    log_probs = torch.log_softmax(features, dim=-1).unsqueeze(1)
    slots = torch.softmax(log_probs + gumbel(*shape, features.shape[-1]), dim=-1)
    codes = (opened.unsqueeze(-1) * slots).sum(1)
    (codes @ weights).sum().backward()


SAMPLERS: dict[str, Callable[[Tensor, Tensor, int, Tensor], None]] = {"ours": ours, "naive": naive}


def case(sampler: str, features: int, budget: int, batch: int) -> Callable[[], None]:
    """Make the logits of one case; the result computes their gradients."""
    source = generator(0, "logits")
    gates = torch.randn(batch, 1, generator=source).requires_grad_()
    logits = torch.randn(batch, features, generator=source).requires_grad_()
    weights = torch.randn(features, generator=source)

    def step() -> None:
        gates.grad = logits.grad = None
        SAMPLERS[sampler](gates, logits, budget, weights)

    return step


def run(options: argparse.Namespace) -> None:
    """Measure, print the numbers, and write the file that was asked for."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the naive sampler draws from torch's global generator, as people do
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
                about = _about(wall[name], cpu[name])
                about["peak_megabytes"] = pool.apply(peak, ("ours", features, budget, size.batch))
                cases.append({"features": features, "budget": budget, "ours": about})
                cases[-1] |= _beside_naive(size, features, budget, rounds, steps[name], pool)
    found = {
        "benchmark": "latent_cost",
        **_summary(size, flat, cases),
        "goals": GOALS,
        "slopes": _slopes(size, cases),
        "cases": cases,
        "why_null": (
            f"the naive sampler has about {ARRAYS} arrays of batch x L0 x K floats at a time; "
            f"where they are more than {size.limit:,} bytes it is not run"
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
    """Bytes that the naive sampler takes, about."""
    return 4 * ARRAYS * batch * budget * features


def _beside_naive(
    size: Size, features: int, budget: int, rounds: int, step: Callable[[], None], pool: Any
) -> dict[str, Any]:
    """Time the naive sampler in turns with ours, where it fits."""
    if naive_bytes(size.batch, budget, features) > size.limit:
        return {"naive": None, "naive_over_ours_cpu": None}
    rival = case("naive", features, budget, size.batch)
    wall, cpu = in_turns({"ours": step, "naive": rival}, max(3, rounds // 3), warmup=1)
    about = _about(wall["naive"], cpu["naive"])
    about["peak_megabytes"] = pool.apply(peak, ("naive", features, budget, size.batch))
    return {"naive": about, "naive_over_ours_cpu": ratio(cpu, "naive", "ours")}


def _about(wall: Sequence[float], cpu: Sequence[float]) -> dict[str, Any]:
    return {"rounds": len(wall), "seconds": spread(wall), "cpu_seconds": spread(cpu)}


def _summary(size: Size, flat: dict[int, float], cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers that the goals are about (for the smoke profile: their like)."""
    by = {(c["features"], c["budget"]): c for c in cases}
    rival = by[min(size.features), 40 if 40 in size.budgets else size.budgets[-1]]
    one = size.budgets[0]
    return {
        "flat_in_budget": flat[sorted(size.features)[1]],
        "flat_in_budget_all": {str(k): v for k, v in flat.items()},
        "peak_megabytes": by[size.extra]["ours"]["peak_megabytes"],
        "times_faster_than_naive": rival["naive_over_ours_cpu"]["median"],
        "slope_in_features": _slope(
            [(k, by[k, one]["ours"]["cpu_seconds"]["median"]) for k in size.features]
        ),
    }


def _slopes(size: Size, cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return slopes of log processor time: in L0 at each K, and in K at each L0."""

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
    """Slope of a least-squares line through the logarithms; none through one point."""
    if len(points) < 2:
        return None
    x, y = np.log(np.asarray(points, dtype=float).T)
    return float(np.polyfit(x, y, 1)[0])


def _processes() -> Any:
    """Return a pool whose tasks run each in a process of its own, which has the imports already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.latent_cost"])
    return context.Pool(1, maxtasksperchild=1)


def peak(sampler: str, features: int, budget: int, batch: int) -> float | None:
    """Megabytes by which a case raises the peak of this process, its logits included.

    The baseline is what a tiny case leaves behind it. ``None`` where the system does not say (the
    peak of ``resource.getrusage`` will not do: it starts at that of the process that starts it).
    """
    torch.set_num_threads(1)
    case(sampler, 10, 2, 2)()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    before = _status("VmRSS")
    case(sampler, features, budget, batch)()
    after = _status("VmHWM")
    return None if before is None or after is None else after - before


def _status(name: str) -> float | None:
    """Return a number of megabytes (of a million bytes) from the system's table of this process."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(name + ":")]
    return 1.024e-3 * float(found[0]) if found else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
