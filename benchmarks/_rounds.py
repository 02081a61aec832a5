"""What benchmarks of contenders that take turns share: clocks, medians and ratios, the file."""

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
"""Seconds of each contender in each round."""


def add_profile(parser: argparse.ArgumentParser, profiles: Mapping[str, object]) -> None:
    """Add ``--profile``."""
    parser.add_argument(
        "--profile", choices=sorted(profiles), default="full", help="smoke: only that it runs."
    )


def in_turns(
    contenders: Mapping[str, Callable[[], Any]], rounds: int, warmup: int
) -> tuple[Clocks, Clocks]:
    """Call each contender once a round, A B C A B C ...; return wall and processor seconds."""
    wall: Clocks = {name: [] for name in contenders}
    cpu: Clocks = {name: [] for name in contenders}
    for number in range(warmup + rounds):
        for name, contender in contenders.items():
            clocks = time.perf_counter(), time.process_time()
            contender()
            if number >= warmup:
                wall[name].append(time.perf_counter() - clocks[0])
                cpu[name].append(time.process_time() - clocks[1])
    return wall, cpu


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median and quartiles."""
    return {
        "median": statistics.median(values),
        "quartiles": statistics.quantiles(values, n=4)[::2],
    }


def ratio(clocks: Clocks, name: str, rival: str) -> dict[str, Any]:
    """Return median and quartiles of a contender's time over a rival's of the same round."""
    return spread([a / b for a, b in zip(clocks[name], clocks[rival], strict=True)])


def report(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Print what was found, and write the file that was asked for."""
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, found)
    print(json.dumps(found, indent=2))
