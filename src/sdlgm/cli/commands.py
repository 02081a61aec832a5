"""The commands: for each the options it takes and what it does."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import Any

from jsonargparse import Namespace

from sdlgm.cli.files import (
    compress,
    compress_parser,
    decode,
    decode_parser,
    decompress,
    decompress_parser,
    encode,
    encode_parser,
    export,
    export_parser,
)
from sdlgm.cli.parser import Parser, add_split
from sdlgm.cli.show import say, show_metrics
from sdlgm.config import PRESETS, DataConfig, ModelConfig, TrainingConfig
from sdlgm.errors import SDLGMError

__all__ = ["COMMANDS"]


def _fit_parser() -> Parser:
    parser = Parser(
        "fit DATA --out RUN [options]",
        description="Train a model and leave a run: a folder with its settings, log, weights and "
        "held-out numbers.",
        epilog="""examples:
  sdlgm fit mnist-5k --out runs/digits
  sdlgm fit mnist --preset best --out runs/best
  sdlgm fit mnist --preset paper --out runs/paper
  sdlgm fit metrics.parquet --out runs/metrics --likelihood gaussian --features 64 --budget 8
  sdlgm fit --config runs/digits/config.yaml --seed 1 --out runs/again

Ctrl-C writes a checkpoint; sdlgm resume RUN goes on from it.""",
    )
    parser.add_argument(
        "--config", action="config", help="YAML file with any of the settings below."
    )
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="default",
        help="Settings to start from; other options override them. best: the lowest discrete bound "
        "of bits, 30,000 iterations; paper: the objective and networks of Xu et al. 2021; plain: "
        "networks without residual layers; quick: small networks for small tables.",
    )
    parser.add_argument(
        "data",
        nargs="?",
        default=argparse.SUPPRESS,  # so that a configuration file can name it
        help="A built-in data set (digits, mnist-5k, mnist, fashion-mnist), or a .csv, .parquet or "
        ".npy file with one sample a row.",
    )
    parser.add_argument("--out", type=str, default=None, help="Folder of the run.")
    parser.add_argument(  # a key of every config.yaml, which --config may name
        "--format_version", type=int, default=None, help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace a run that is there already."
    )
    parser.add_argument(
        "--importance_samples",
        type=int,
        default=100,
        help="Codes a sample in the nll_bound that is measured at the end.",
    )
    parser.add_class_arguments(DataConfig, skip={"data"})
    parser.add_class_arguments(ModelConfig)
    parser.add_class_arguments(TrainingConfig)
    return parser


def _fit(options: Namespace) -> None:
    from sdlgm.training import fit

    for name in ("data", "out"):
        if options.get(name) is None:
            raise SDLGMError(f"Say what {name} is: sdlgm fit DATA --out RUN (or in --config).")
    run = fit(
        _take(options, DataConfig),
        _take(options, ModelConfig),
        _take(options, TrainingConfig),
        out=options.out,
        overwrite=options.overwrite,
        importance_samples=options.importance_samples,
    )
    show_metrics(run.metrics, f"{run.folder}: held-out numbers")


def _resume_parser() -> Parser:
    parser = Parser(
        "resume RUN [options]",
        description="Go on with a run that was stopped; the outcome is the same as without a stop.",
        epilog="example:\n  sdlgm resume runs/digits",
    )
    parser.add_argument("run", help="Folder of the run.")
    parser.add_argument(
        "--importance_samples",
        type=int,
        default=100,
        help="Codes a sample in the nll_bound that is measured at the end.",
    )
    return parser


def _resume(options: Namespace) -> None:
    from sdlgm.training import resume

    run = resume(options.run, importance_samples=options.importance_samples)
    show_metrics(run.metrics, f"{run.folder}: held-out numbers")


def _evaluate_parser() -> Parser:
    parser = Parser(
        "evaluate RUN [options]",
        description="Measure the bounds of a trained model on data: nats per sample, lower is "
        "better. relaxed_objective is the paper's number and no bound.",
        epilog="""examples:
  sdlgm evaluate runs/digits
  sdlgm evaluate runs/digits --importance-samples 1000 --json > numbers.json
  sdlgm evaluate runs/digits --refine-steps 40
  sdlgm evaluate runs/metrics --data new.parquet --split all""",
    )
    parser.add_argument("run", help="Folder of the run.")
    parser.add_argument("--data", default=None, help="Other data than the run's own.")
    add_split(parser, "test")
    parser.add_argument(
        "--importance_samples", type=int, default=100, help="Codes a sample in the nll_bound."
    )
    parser.add_argument(
        "--refine_steps",
        type=int,
        default=0,
        help="Gradient steps that fit each sample's posterior, from where the encoder puts it, "
        "before its bounds are taken.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Source of bits and codes.")
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object and nothing else."
    )
    return parser


def _evaluate(options: Namespace) -> None:
    from sdlgm.inference.evaluation import evaluate
    from sdlgm.progress import progress_bar
    from sdlgm.training import Run

    run = Run.open(options.run)
    model, dataset = run.model, run.load_rows(options.data)
    rows = dataset.rows(options.split)
    with progress_bar("evaluating", len(rows)) as update:
        measured = evaluate(
            model,
            rows,
            importance_samples=options.importance_samples,
            refine_steps=options.refine_steps,
            seed=options.seed,
            progress=lambda done: update(done, {}),
        )
    numbers = dataclasses.asdict(measured)
    if options.json:
        print(json.dumps(numbers, indent=2))
    else:
        show_metrics(numbers, f"{run.folder} on {dataset.name} ({options.split})")


def _report_parser() -> Parser:
    parser = Parser(
        "report RUN [options]",
        description="Write report.html, one self-contained page of pictures and numbers.",
        epilog="example:\n  sdlgm report runs/digits",
    )
    parser.add_argument("run", help="Folder of the run.")
    parser.add_argument(
        "--out", type=str, default=None, help="File to write. Default: RUN/report.html."
    )
    return parser


def _report(options: Namespace) -> None:
    from sdlgm.report import write_report
    from sdlgm.training import Run

    say(f"{write_report(Run.open(options.run), options.out)} is ready; open it in a browser.")


def _info_parser() -> Parser:
    parser = Parser(
        "info RUN",
        description="Say what a run is: its data, shape, state and numbers.",
        epilog="example:\n  sdlgm info runs/digits",
    )
    parser.add_argument("run", help="Folder of the run.")
    return parser


def _info(options: Namespace) -> None:
    from sdlgm.models import model_sha256
    from sdlgm.training import Run

    run = Run.open(options.run)
    data, model, training = run.config.data, run.config.model, run.config.training
    steps = training.iterations
    complete = (run.folder / "metrics.json").exists()
    print(f"run        {run.folder}")
    print(f"data       {data.data}, binarisation {data.binarisation}")
    print(f"code       K = {model.features}, budget L0 = {model.budget}, {model.groups} groups")
    print(f"objective  {training.objective}, {training.estimator}, {steps} iterations")
    if not complete:
        done = max((line["step"] for line in run.log), default=0)
        print(f"state      stopped after about {done} iterations; go on: sdlgm resume {run.folder}")
        return
    weights = sum(p.numel() for p in run.model.parameters())
    print(f"state      complete, {weights:,} weights, hash {model_sha256(run.model)[:12]}")
    show_metrics(run.metrics, "held-out numbers")


COMMANDS: dict[str, tuple[Callable[[], Parser], Callable[[Namespace], None], str]] = {
    "fit": (_fit_parser, _fit, "Train a model."),
    "resume": (_resume_parser, _resume, "Go on with a run that was stopped."),
    "evaluate": (_evaluate_parser, _evaluate, "Measure the bounds of a model."),
    "encode": (encode_parser, encode, "Turn data into codes."),
    "decode": (decode_parser, decode, "Turn codes into data."),
    "export": (export_parser, export, "Write a part of a model as ONNX."),
    "compress": (compress_parser, compress, "Compress data without loss."),
    "decompress": (decompress_parser, decompress, "Give compressed data back."),
    "report": (_report_parser, _report, "Draw a run on one HTML page."),
    "info": (_info_parser, _info, "Say what a run is."),
}


def _take(options: Namespace, config: type) -> Any:
    """Collect the fields of one configuration."""
    return config(**{field.name: options[field.name] for field in dataclasses.fields(config)})
