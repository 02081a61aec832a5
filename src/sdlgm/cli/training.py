"""The commands that train: ``fit`` and ``resume``."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from jsonargparse import Namespace

from sdlgm.cli.output import show_metrics
from sdlgm.cli.parser import Command, Parser, add_accelerator, add_table_options
from sdlgm.config import PRESETS, DataConfig, ModelConfig, TrainingConfig
from sdlgm.errors import SDLGMError

__all__ = ["FIT", "RESUME"]

COMMON = (
    "data", "out", "preset", "config", "overwrite", "likelihood", "features", "budget",
    "iterations", "batch_size", "objective", "seed", "accelerator", "quiet",
)  # fmt: skip
"""Options that the short help of ``fit`` shows."""


def _fit_parser() -> Parser:
    parser = Parser(
        "fit DATA --out RUN [options]",
        description="Train a model and write a run: a folder with its settings, log, weights and "
        "held-out metrics.",
        epilog="""examples:
  sdlgm fit mnist-5k --out runs/digits
  sdlgm fit mnist --preset best --out runs/best
  sdlgm fit metrics.parquet --out runs/metrics --likelihood gaussian --features 64 --budget 8
  sdlgm fit lake/ --out runs/lake --preset quick         # a folder of Parquet files
  sdlgm fit --config runs/digits/config.yaml --seed 1 --out runs/second

Ctrl-C writes a checkpoint; sdlgm resume RUN continues from it.""",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these settings.")
    parser.add_argument(  # a key of every config.yaml, which --config may name
        "--format_version", type=int, default=None, help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="default",
        help="Settings to start from; other options override them. best: the lowest bound of bits, "
        "50,000 iterations, two codes a sample; paper: objective and networks of Xu et al. 2021; "
        "plain: networks without residual layers; quick: small networks for small tables.",
    )
    parser.add_argument(
        "data",
        nargs="?",
        default=argparse.SUPPRESS,  # so that a configuration file can name it
        help="A built-in data set (digits, mnist-5k, mnist, mnist-static, fashion-mnist, nab), or "
        "a .csv, .parquet or .npy file with one sample per row, or a folder or (quoted) pattern "
        "of such files. If the rows of a folder do not fit into memory, a random sample of "
        "--max-rows is used.",
    )
    parser.add_argument("--out", type=str, default=None, help="Folder of the run.")
    parser.add_argument("--overwrite", action="store_true", help="Replace a run that exists.")
    _add_importance_samples(parser)
    add_table_options(parser, fit=True)
    parser.add_class_arguments(DataConfig, skip={"data", "columns", "keep", "header"})
    parser.add_class_arguments(ModelConfig)
    parser.add_class_arguments(TrainingConfig)
    parser.shorten_help(COMMON)
    return parser


def _fit(options: Namespace) -> None:
    from sdlgm.training import fit

    for name in ("data", "out"):
        if options.get(name) is None:
            raise SDLGMError(f"Name the {name}: sdlgm fit DATA --out RUN (or in --config).")
    run = fit(
        _take(options, DataConfig),
        _take(options, ModelConfig),
        _take(options, TrainingConfig),
        out=options.out,
        overwrite=options.overwrite,
        importance_samples=options.importance_samples,
    )
    if not options.quiet:
        show_metrics(run.metrics, f"{run.folder}: held-out metrics")


def _resume_parser() -> Parser:
    parser = Parser(
        "resume RUN [options]",
        description="Continue a run that was stopped. The result is the same as without a stop.",
        epilog="example:\n  sdlgm resume runs/digits",
    )
    parser.add_argument("run", help="Folder of the run.")
    add_accelerator(
        parser,
        None,
        "Device to continue on. On another kind than the run was started on, the result is not "
        "bit-equal to that without a stop. Default: the kind that it was started on.",
    )
    _add_importance_samples(parser)
    return parser


def _resume(options: Namespace) -> None:
    from sdlgm.training import resume

    run = resume(
        options.run,
        accelerator=options.accelerator,
        importance_samples=options.importance_samples,
    )
    if not options.quiet:
        show_metrics(run.metrics, f"{run.folder}: held-out metrics")


def _add_importance_samples(parser: Parser) -> None:
    parser.add_argument(
        "--importance_samples",
        type=int,
        default=100,
        help="Codes per sample in the nll_bound that is measured at the end.",
    )


def _take(options: Namespace, config: type) -> Any:
    """Collect the fields of one configuration."""
    return config(**{field.name: options[field.name] for field in dataclasses.fields(config)})


FIT = Command(_fit_parser, _fit, "Train a model.")
RESUME = Command(_resume_parser, _resume, "Continue a run that was stopped.")
