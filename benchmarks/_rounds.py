"""Timing of calls that take turns: clocks, medians, ratios and the results file."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sdlgm.storage import write_json

__all__ = ["Clocks", "add_profile", "in_turns", "ratio", "report", "spread"]

Clocks = dict[str, list[float]]
"""Seconds of each call in each round."""


def add_profile(parser: argparse.ArgumentParser, profiles: Mapping[str, object]) -> None:
    """Add ``--profile``."""
    parser.add_argument(
        "--profile",
        choices=sorted(profiles),
        default="full",
        help="smoke only shows that everything runs.",
    )


def in_turns(
    calls: Mapping[str, Callable[[], Any]], rounds: int, warmup: int
) -> tuple[Clocks, Clocks]:
    """Make each call once per round, A B C A B C ...; return wall and processor seconds."""
    wall: Clocks = {name: [] for name in calls}
    cpu: Clocks = {name: [] for name in calls}
    for number in range(warmup + rounds):
        for name, call in calls.items():
            clocks = time.perf_counter(), time.process_time()
            call()
            if number >= warmup:
                wall[name].append(time.perf_counter() - clocks[0])
                cpu[name].append(time.process_time() - clocks[1])
    return wall, cpu


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the median and the quartiles; of one value, the value itself."""
    values = values if len(values) > 1 else [*values, *values]
    return {
        "median": statistics.median(values),
        "quartiles": statistics.quantiles(values, n=4)[::2],
    }


def ratio(clocks: Clocks, name: str, baseline: str) -> dict[str, Any]:
    """Return median and quartiles of the ratio of two calls' seconds in the same round."""
    return spread([a / b for a, b in zip(clocks[name], clocks[baseline], strict=True)])


def report(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Print the results, and write them to the file ``--json`` if it is given."""
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, found)
    print(json.dumps(found, indent=2))
