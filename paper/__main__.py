"""Run an experiment: ``python -m paper table1 --jobs 2`` from a checkout."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Sequence

from paper.running import say_on_stderr
from sdlgm.errors import SDLGMError

EXPERIMENTS = {
    "bound": "the discrete bound on MNIST, with the presets default and best",
    "counts": "counting digits, Table III",
    "figures": "reconstructions and a map of the codes, figures 3 and 4",
    "guarantees": "do promised recall, precision and false positives of label sets hold?",
    "labels": "classifiers of label sets on ten sets, by repeated cross-validation",
    "structured": "structured codes on MNIST: bounds by length, seed and sparsity",
    "table1": "bounds of discrete latents, Table I",
    "table2": "multi-label classification, Table II and figure 5",
    "telemetry": "windows of server metrics: bytes, errors and anomalies",
    "timing": "seconds per training step",
}
"""Names of the experiments and what each of them measures."""
OPTIONS = ("seeds", "only", "protocol", "jobs", "images")
"""Options that some experiments take and others do not."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one experiment; return the exit status (0 done, 1 error, 130 interrupted).

    Wrong usage exits with status 2, as argparse does.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    reproduce = importlib.import_module(f"paper.{options.name}.experiment").reproduce
    accepted = inspect.signature(reproduce).parameters
    given = {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
    for name in given:
        if name not in accepted:
            parser.error(f"{options.name} takes no --{name}.")
    out = options.out or f"runs/{options.name}"
    try:
        path = reproduce(out, profile=options.profile, say=say_on_stderr, **given)
    except SDLGMError as error:
        say_on_stderr(f"paper: {error}")
        return 1
    except KeyboardInterrupt:
        say_on_stderr("paper: interrupted; run the command again to continue.")
        return 130
    kinds = [path.with_suffix(kind) for kind in (".json", ".md", ".html")]
    say_on_stderr(f"Ready: {', '.join(str(path) for path in kinds if path.is_file())}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paper",
        description="Run an experiment and write its numbers (JSON), tables (Markdown) and page "
        "(HTML). Run the command again to continue an experiment that was stopped.",
        epilog="experiments:\n" + "\n".join(f"  {n:10} {what}" for n, what in EXPERIMENTS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=EXPERIMENTS, metavar="NAME", help="See the list below.")
    parser.add_argument(
        "--profile",
        default="full",
        help="full (the paper's size) or smoke (seconds, to see that everything runs); telemetry "
        "also has short. Default: full.",
    )
    parser.add_argument("--seeds", type=int, help="Number of seeds. Default: the profile's.")
    parser.add_argument("--only", nargs="+", help="Methods or data sets to run. Default: all.")
    parser.add_argument(
        "--protocol",
        choices=("jang", "paper"),
        help="For table1: the protocol of Jang et al. 2017 (the default), or the paper's own.",
    )
    parser.add_argument("--jobs", type=int, help="Number of processes, with one thread each.")
    parser.add_argument("--images", help="For telemetry: folder of the images. Default: OUT.")
    parser.add_argument("--out", help="Folder of the results. Default: runs/NAME.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
