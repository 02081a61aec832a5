"""Seconds per training step relative to a plain Gumbel-Softmax VAE with the same networks.

The measurement and the baselines are those of ``python -m paper timing``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from paper.timing.experiment import PROFILES, measure

from sdlgm.storage import write_json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument(
        "--profile",
        choices=sorted(PROFILES),
        default="full",
        help="smoke only shows that everything runs.",
    )
    parser.add_argument(
        "--rounds", type=int, default=None, help="Number of rounds. Default: that of the profile."
    )
    parser.add_argument("--threads", type=int, default=1, help="Threads of torch. Default: 1.")


def run(options: argparse.Namespace) -> None:
    """Measure, print the ratios, and write the results file."""
    size = PROFILES[options.profile]
    if options.rounds is not None:
        size = dataclasses.replace(size, rounds=options.rounds)
    measured = measure(
        size, threads=options.threads, say=lambda text: print(text, file=sys.stderr, flush=True)
    )
    found = {"benchmark": "step_time", **measured.summary()}
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, found)
    print(json.dumps({k: v for k, v in found.items() if k.startswith("ratio_")}, indent=2))
