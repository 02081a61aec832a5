"""The numbers of the README's table: four trainings on MNIST, each by one command.

    python -m paper.studies.core_numbers            # train what is missing, then write the table
    python -m paper.studies.core_numbers --only default paper-relaxed
    python -m paper.studies.core_numbers --table    # only write the table

Each training takes five to ten minutes on one core, each evaluation (1,000 importance samples on
10,000 digits) about ten. A training that was stopped continues from its last checkpoint. Writes
docs/results/core_mnist.json and core_mnist.md, and the pictures in docs/images.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from paper import results
from sdlgm.report import write_report
from sdlgm.storage import write_json
from sdlgm.training import Run

ROOT = Path(__file__).resolve().parents[2]
RUNS, RESULTS, IMAGES = ROOT / "runs" / "core", ROOT / "docs" / "results", ROOT / "docs" / "images"
COMMON = "sdlgm fit mnist --preset plain --out {run} --iterations 10000 --batch-size 100 --seed 0"
PLAIN = "--groups 1 --activation relu --normalisation none --prior fixed"
SETTINGS = {
    "plain-one-group": ("discrete bound, the paper's plain networks, one group", PLAIN),
    "one-group": ("discrete bound, LayerNorm and GELU, one group", "--groups 1"),
    "default": ("discrete bound, LayerNorm and GELU, 40 groups", ""),
    "paper-relaxed": ("the paper's relaxed objective and networks", f"--objective paper {PLAIN}"),
}
MEASURE = "sdlgm evaluate {run} --data mnist --split test --importance-samples 1000 --json"


def command(template: str, run: Path, extra: str = "") -> str:
    """Return a command as a user would type it."""
    return f"{template.format(run=run.relative_to(ROOT))} {extra}".strip()


def call(text: str) -> str:
    """Run a command of sdlgm and return its standard output."""
    print(f"$ {text}", file=sys.stderr, flush=True)
    words = [str(Path(sys.executable).parent / "sdlgm"), *shlex.split(text)[1:]]
    done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.stdout


def produce(name: str) -> None:
    """Train and evaluate one setting if it is not finished."""
    run = RUNS / name
    if not (run / "metrics.json").exists():
        if (run / "config.yaml").exists():
            call(command("sdlgm resume {run}", run))
        else:
            call(command(COMMON, run, SETTINGS[name][1]))
    if not (run / "measured.json").exists():
        started = time.monotonic()
        measured = json.loads(call(command(MEASURE, run)))
        write_json(run / "measured.json", {**measured, "seconds": time.monotonic() - started})


def row(name: str, metric: str, value: float, **more: Any) -> dict[str, Any]:
    """Return one row of the results file."""
    return results.row(
        SETTINGS[name][0],
        [value],
        [0],
        dataset="mnist",
        family="one group" if "one group" in SETTINGS[name][0] else name,
        protocol="dynamic binarisation, test split, 10,000 iterations, batch 100",
        metric=metric,
        **more,
    )


def write_table() -> None:
    """Write the results of all finished settings as JSON and Markdown."""
    rows, lines = [], []
    for name, (title, extra) in SETTINGS.items():
        run = RUNS / name
        if not (run / "measured.json").exists():
            continue
        measured = json.loads((run / "measured.json").read_text())
        trained = json.loads((run / "metrics.json").read_text())
        minutes = trained["training_seconds"] / 60
        temperatures = [trained[f"{part}_temperature"] for part in ("gate", "feature")]
        shown = command(COMMON, run, extra)
        more = {"minutes": round(minutes, 1), "command": shown}
        for metric in ("negative_elbo", "relaxed_objective", "active_features_mean"):
            rows.append(row(name, metric, measured[metric], **more))
        rows.append(row(name, "active_features_max", measured["active_features_max"], **more))
        samples = measured["importance_samples"]
        rows.append(
            row(name, "nll_bound", measured["nll_bound"], importance_samples=samples, **more)
        )
        for part, value in zip(("gate", "feature"), temperatures, strict=True):
            rows.append(row(name, f"{part}_temperature", value, **more))
        lines.append(
            f"| {title} | {measured['relaxed_objective']:.1f} "
            f"| **{measured['negative_elbo']:.1f}** "
            f"| {measured['nll_bound']:.1f} | {measured['active_features_mean']:.1f} "
            f"| {measured['active_features_max']} "
            f"| {temperatures[0]:.2f} / {temperatures[1]:.2f} | {minutes:.1f} |"
        )
    columns = (
        "trained on", "relaxed objective (no bound)", "negative ELBO (bound)",
        "NLL bound, M = 1,000", "active features, mean", "largest", "temperature gate / feature",
        "minutes",
    )  # fmt: skip
    head = f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}\n"
    path = RESULTS / "core_mnist.json"
    shown = "python -m paper.studies.core_numbers"
    results.write_tables(path, "core_mnist", shown, rows, head + "\n".join(lines))
    print((RESULTS / "core_mnist.md").read_text())


def write_pictures() -> None:
    """Extract the reconstructions from the reports of the two runs in the README."""
    for name in ("default", "paper-relaxed"):
        if (RUNS / name / "metrics.json").exists():
            page = write_report(Run.open(RUNS / name)).read_text()
            found = re.search(r'data:image/png;base64,([^"]+)"', page)
            if found:
                IMAGES.mkdir(parents=True, exist_ok=True)
                (IMAGES / f"codes-{name}.png").write_bytes(base64.b64decode(found[1]))


def main() -> None:
    """Read the command line; train and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument(
        "--table", action="store_true", help="only write the table of finished runs"
    )
    options = parser.parse_args()
    for name in [] if options.table else options.only:
        produce(name)
    write_table()
    write_pictures()


if __name__ == "__main__":
    main()
