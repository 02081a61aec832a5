"""The commands that look at a run or write parts of it: evaluate, report, info and export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from sdlgm.cli.estimator_info import estimator_lines
from sdlgm.cli.output import say, show, show_metrics
from sdlgm.cli.parser import Command, Parser, add_accelerator, add_split, add_table_options
from sdlgm.errors import ConfigError
from sdlgm.folders import holds_estimator, holds_metrics, holds_model

if TYPE_CHECKING:
    from sdlgm.data import FolderRows, Samples
    from sdlgm.training import Run

__all__ = ["EVALUATE", "EXPORT", "INFO", "REPORT"]


def _evaluate_parser() -> Parser:
    parser = Parser(
        "evaluate RUN [options]",
        description="Measure the bounds of a trained model on data: nats per sample, lower is "
        "better. relaxed_objective is the paper's number and not a bound.",
        epilog="""examples:
  sdlgm evaluate runs/digits
  sdlgm evaluate runs/digits --importance-samples 1000 --json > metrics.json
  sdlgm evaluate runs/digits --refine-steps 40
  sdlgm evaluate runs/metrics --data new.parquet
  sdlgm evaluate runs/metrics --data lake/       # all rows of all files""",
    )
    parser.add_argument("run", help="Folder of the run.")
    parser.add_argument(
        "--data",
        default=None,
        help="Other data than the run's own: a built-in set, a file, or a folder or (quoted) "
        "pattern of files, all of whose rows are read in bounded memory.",
    )
    add_split(parser, "test; all of another file")
    add_table_options(parser)
    parser.add_argument(
        "--importance_samples", type=int, default=100, help="Codes per sample in the nll_bound."
    )
    parser.add_argument(
        "--refine_steps",
        type=int,
        default=0,
        help="Gradient steps that fit each sample's posterior, from the encoder's output, before "
        "the bounds are measured.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of drawn bits and codes.")
    add_accelerator(parser)
    parser.add_argument(
        "--json", action="store_true", help="Print one JSON object and nothing else."
    )
    return parser


def _evaluate(options: Namespace) -> None:
    from sdlgm.environment import device_of, placed
    from sdlgm.inference import evaluate
    from sdlgm.progress import progress_bar
    from sdlgm.training import Run

    run = Run.open(options.run)
    model, rows = run.model, _rows_to_measure(run, options)
    model = placed(model, device_of(options.accelerator))
    with progress_bar("evaluating", len(rows)) as update:
        measured = evaluate(
            model,
            rows,
            importance_samples=options.importance_samples,
            refine_steps=options.refine_steps,
            seed=options.seed,
            progress=lambda done: update(done, {}),
        )
    metrics = measured.to_dict()
    if options.json:
        print(json.dumps(metrics, indent=2))
    else:
        show_metrics(metrics, f"{run.folder} on {rows.name}")


def _rows_to_measure(run: Run, options: Namespace) -> Samples | FolderRows:
    """Load rows into memory, or all rows of a folder as they are used."""
    from sdlgm.data import BUILT_IN, is_folder

    data = run.config.data.data if options.data is None else options.data
    table = {"columns": options.columns, "keep": options.keep, "header": options.header}
    whole = options.split == "all" or (options.split is None and options.data is not None)
    if whole and data not in BUILT_IN and is_folder(data):
        return run.stream_rows(options.data, **table)
    return run.load_rows(options.data, options.split, **table).rows


def _report_parser() -> Parser:
    parser = Parser(
        "report RUN [options]",
        description="Write report.html, one self-contained page of pictures and numbers: about a "
        "run, or about what a saved SDLGMClassifier gets right of each label.",
        epilog="""examples:
  sdlgm report runs/digits
  sdlgm report tags --data held-out.csv   # of SDLGMClassifier.save("tags")""",
    )
    parser.add_argument("run", help="Folder of the run, or of a saved classifier.")
    parser.add_argument(
        "--out", type=str, default=None, help="File to write. Default: RUN/report.html."
    )
    parser.add_argument(
        "--data",
        default=None,
        help="Data to draw. Default: the test rows of the run's own data. For a classifier: a "
        ".csv or .parquet file of other rows than those of fit, with a column for each input and "
        "one of 0 and 1 for each label, by their names in fit.",
    )
    add_accelerator(parser)
    return parser


def _report(options: Namespace) -> None:
    from sdlgm.report import write_report
    from sdlgm.training import Run

    folder = Path(options.run)
    if holds_estimator(folder) and not holds_model(folder):
        page = _report_of_labels(folder, options)
    else:
        page = write_report(
            Run.open(options.run),
            options.out,
            options.data,
            accelerator=options.accelerator,
            progress=True,
        )
    say(f"{page} is ready; open it in a browser.")


def _report_of_labels(folder: Path, options: Namespace) -> Path:
    from sdlgm.report import write_saved_label_report

    if options.data is None:
        raise ConfigError(
            f"{folder} holds a saved estimator and no rows: name a table of rows with labels by "
            "--data."
        )
    return write_saved_label_report(
        folder, options.data, options.out, accelerator=options.accelerator
    )


def _info_parser() -> Parser:
    parser = Parser(
        "info RUN",
        description="Describe a run: its data, shape, state and metrics; or a saved estimator: its "
        "columns, labels, bounds, threshold and size.",
        epilog="""examples:
  sdlgm info runs/digits
  sdlgm info tags                         # of SDLGMClassifier.save("tags")""",
    )
    parser.add_argument("run", help="Folder of the run, or of a saved estimator.")
    return parser


def _info(options: Namespace) -> None:
    from sdlgm.models import model_sha256
    from sdlgm.training import Run

    if holds_estimator(Path(options.run)):
        for name, text in estimator_lines(Path(options.run)):
            show(f"{name:<10} {text}")
        return
    run = Run.open(options.run)
    data, model, training = run.config.data, run.config.model, run.config.training
    if not run.has_settings:
        _info_of_model(run)
        return
    show(f"run        {run.folder}")
    show(f"data       {data.data}, binarisation {data.binarisation}")
    show(f"code       K = {model.features}, budget L0 = {model.budget}, {model.groups} groups")
    show(f"objective  {training.objective}, {training.estimator}, {training.iterations} iterations")
    if not holds_metrics(run.folder):
        done = max((line["step"] for line in run.log), default=0)
        show(f"state      stopped after about {done} iterations; sdlgm resume {run.folder}")
        return
    weights = sum(p.numel() for p in run.model.parameters())
    show(f"state      complete, {weights:,} weights, hash {model_sha256(run.model)[:12]}")
    show_metrics(run.metrics, "held-out metrics")


def _info_of_model(run: Run) -> None:
    """Describe a model without the settings of its run, as from the Hub."""
    from sdlgm.models import model_sha256

    model = run.model
    config, weights = model.config, sum(p.numel() for p in model.parameters())
    show(f"model      {run.folder}, without the settings of its training")
    show(f"inputs     {model.n_inputs}, likelihood {config.likelihood}")
    show(f"code       K = {config.features}, budget L0 = {config.budget}, {config.groups} groups")
    show(f"weights    {weights:,}, hash {model_sha256(model)[:12]}")
    if holds_metrics(run.folder):
        show_metrics(run.metrics, "held-out metrics")


def _export_parser() -> Parser:
    parser = Parser(
        "export RUN --out FILE [options]",
        description="Write the encoder or the decoder of a run, or a saved classifier, as one ONNX "
        "file, for machines without torch. Needs the extra onnx.",
        epilog="""examples:
  sdlgm export runs/digits --out encoder.onnx
  sdlgm export runs/digits --out encoder-int8.onnx --quantize int8
  sdlgm export runs/digits --out sampler.onnx --code sample
  sdlgm export runs/digits --out decoder.onnx --part decoder
  sdlgm export tags --out tags.onnx --part classifier    # of SDLGMClassifier.save("tags")""",
    )
    parser.add_argument("run", help="Folder of the run, or of a saved estimator.")
    parser.add_argument("--format", choices=("onnx",), default="onnx", help="Format of the file.")
    parser.add_argument("--out", required=True, help="File to write.")
    parser.add_argument(
        "--part",
        choices=("encoder", "decoder", "classifier"),
        default="encoder",
        help="Half of a model, or a whole saved classifier.",
    )
    parser.add_argument(
        "--code",
        choices=("mode", "sample"),
        default="mode",
        help="For the encoder: take the most probable code, or draw one from uniform numbers that "
        "are a second input.",
    )
    parser.add_argument(
        "--quantize", choices=("int8",), default=None, help="8-bit weights. Default: 32 bits."
    )
    return parser


def _export(options: Namespace) -> None:
    from sdlgm.export import export_run

    path = export_run(
        options.run,
        options.out,
        part=options.part,
        code=options.code,
        quantize=options.quantize,
        progress=True,
    )
    say(f"{path}: {options.part}, {path.stat().st_size:,} bytes.")


EVALUATE = Command(_evaluate_parser, _evaluate, "Measure the bounds of a model.")
REPORT = Command(_report_parser, _report, "Draw a run on one HTML page.")
INFO = Command(_info_parser, _info, "Describe a run or a saved estimator.")
EXPORT = Command(_export_parser, _export, "Write a part of a model as ONNX.")
