"""Seconds per training step of structured codes over one without structure; sizes of their files.

Models of MNIST's shape take turns, one step each per round on random bits, and each step is divided
by that of a product over groups in the same round. With ``--run``, the codes of a run's test rows
are also written to containers: under the model's prior, and by their frequencies as codes without
structure are.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from paper.machine import machine

from benchmarks._rounds import add_profile, in_turns, ratio, report, spread
from sdlgm.codec import coding_prior, describe, read_codes, write_codes
from sdlgm.config import ModelConfig, TrainingConfig
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.training import Run
from sdlgm.training.step import Trainer

__all__ = ["add_arguments", "run"]

VARIANTS: dict[str, dict[str, Any]] = {
    "product": {"prior": "learned_gates"},
    "mixture": {"prior": "mixture"},
    "masked": {"prior": "masked"},
    "two_levels": {"levels": 2, "prior": "autoregressive"},
    "two_levels_factorised_prior": {"levels": 2, "prior": "learned_gates"},
    "four_levels": {"levels": 4, "prior": "autoregressive"},
    "four_levels_masked_prior": {"levels": 4, "prior": "masked"},
    "four_levels_wide": {
        "levels": 4,
        "prior": "autoregressive",
        "level_hidden": (512, 512, 512),
        "prior_hidden": (512, 512, 512),
    },
}
GOALS = {"masked": "at most 1.25", "two_levels": "at most 1.4"}
SMALL = {"features": 24, "budget": 8, "encoder_hidden": (16,)}
"""Networks of the smoke profile."""
PROFILES = {"full": (40, 784, {}), "smoke": (2, 20, SMALL)}
"""Rounds, inputs, and settings of the networks."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)
    parser.add_argument("--run", type=Path, default=None, help="Run whose files to measure.")


def run(options: argparse.Namespace) -> None:
    """Measure, print the numbers, and write the results file."""
    torch.set_num_threads(1)
    rounds, inputs, settings = PROFILES[options.profile]
    x = (torch.rand(100, inputs, generator=torch.Generator().manual_seed(0)) < 0.15).float()
    statistics = DataStatistics(torch.full((inputs,), 0.15), torch.ones(inputs), 2)

    def step(variant: dict[str, Any]) -> Callable[[], Any]:
        config = ModelConfig(**{**settings, **variant})
        trainer = Trainer(SDLGM(config, statistics), TrainingConfig())
        return lambda: trainer.step(x, 5_000)

    wall, cpu = in_turns({name: step(each) for name, each in VARIANTS.items()}, rounds, 3)
    found = {
        "benchmark": "structured",
        "profile": options.profile,
        "machine": machine(),
        "goals": GOALS,
        "timed": {
            name: {
                "seconds": spread(wall[name]),
                "ratio": ratio(wall, name, "product"),
                "cpu_ratio": ratio(cpu, name, "product"),
            }
            for name in VARIANTS
        },
    }
    for name in GOALS:
        found[f"ratio_{name}"] = found["timed"][name]["cpu_ratio"]["median"]
    if options.run is not None:
        found["files"] = files(Run.open(options.run))
    report(options, found)


def files(opened: Run) -> dict[str, Any]:
    """Write the codes of a run's test rows in both ways; return bits and codes a second."""
    model, rows = opened.model, opened.dataset.test
    found: dict[str, Any] = {"run": opened.folder.name, "codes": len(rows)}
    for code in ("sample", "mode"):
        codes = model.encode(rows, code)
        with torch.no_grad():
            ideal = -torch.cat([model.prior().log_prob(part) for part in codes.split(1000)])
        found[code] = {"prior": float(ideal.double().mean()) / math.log(2)}
        for name, prior in (("frequencies", None), ("structured", coding_prior(model))):
            with tempfile.TemporaryDirectory() as folder:
                path, about = Path(folder) / "codes.sdz", describe(model)
                start = time.perf_counter()
                write_codes(path, codes.split(1000), about, prior=prior)
                written = time.perf_counter()
                back = torch.cat(list(read_codes(path, about, prior=prior)[1]))
                read = time.perf_counter()
                if not torch.equal(back, codes):
                    raise RuntimeError(f"{name}: the codes that were read are others.")
                found[code][name] = {
                    "bits_per_code": 8 * path.stat().st_size / len(codes),
                    "written_per_second": len(codes) / (written - start),
                    "read_per_second": len(codes) / (read - written),
                }
    return found
