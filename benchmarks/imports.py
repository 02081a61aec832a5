"""Seconds to import the library and to show its help, relative to ``import torch``.

Each program runs in a new interpreter, and the time includes the start of Python. The programs take
turns, and each time is divided by that of ``import torch`` in the same round.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import dataclass

from paper.machine import machine

from benchmarks._rounds import Clocks, add_profile, ratio, report, spread

__all__ = ["NAMES", "add_arguments", "run"]

NAMES = ("import",)
"""Other names of this benchmark; a module cannot be named like a keyword."""

HELP = "from sdlgm.cli import run; run()"
PROGRAMS: dict[str, tuple[str, ...]] = {
    "python": ("pass",),
    "torch": ("import torch",),
    "torch and sklearn.base": ("import torch, sklearn.base",),
    "sdlgm": ("import sdlgm",),
    "GatedMultinomial": ("from sdlgm import GatedMultinomial",),
    "SDLGM": ("from sdlgm import SDLGM",),
    "fit": ("from sdlgm import fit",),
    "SDLGMClassifier": ("from sdlgm import SDLGMClassifier",),
    "all public names": ("from sdlgm import *",),
    "sdlgm --help": (HELP, "--help"),
    "sdlgm fit --help": (HELP, "fit", "--help"),
}
"""Programs and their arguments."""


@dataclass(frozen=True)
class Size:
    """The size of the benchmark."""

    rounds: int
    warmup: int


PROFILES = {"full": Size(rounds=21, warmup=2), "smoke": Size(rounds=1, warmup=0)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)


def run(options: argparse.Namespace) -> None:
    """Measure, print the ratios, and write the results file."""
    size = PROFILES[options.profile]
    wall: Clocks = {name: [] for name in PROGRAMS}
    cpu: Clocks = {name: [] for name in PROGRAMS}
    for number in range(size.warmup + size.rounds):
        for name, program in PROGRAMS.items():
            start, used = time.perf_counter(), _children()
            subprocess.run(  # noqa: S603 (the programs above)
                [sys.executable, "-c", *program], check=True, stdout=subprocess.DEVNULL
            )
            if number >= size.warmup:
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(_children() - used)
    found = {
        "benchmark": "imports",
        "ratio_import": ratio(wall, "sdlgm", "torch")["median"],
        "ratio_import_all": ratio(wall, "all public names", "torch")["median"],
        "ratio_help": ratio(wall, "sdlgm --help", "torch")["median"],
        "timed": {
            name: {
                "program": program,
                "seconds": spread(wall[name]),
                "cpu_seconds": spread(cpu[name]),
                "ratio_to_torch": ratio(wall, name, "torch"),
                "cpu_ratio_to_torch": ratio(cpu, name, "torch"),
            }
            for name, program in PROGRAMS.items()
        },
        "settings": {"profile": options.profile, "rounds": size.rounds, "warmup": size.warmup},
        "machine": machine(),
    }
    report(options, found)


def _children() -> float:
    """Return the processor seconds of the finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
