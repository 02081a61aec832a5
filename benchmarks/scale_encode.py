"""Rows per second and peak memory of encoding a Parquet data set, locally and on Ray Data.

Writes synthetic telemetry to a temporary folder, trains a model on a part of it, encodes all of it
in new processes, and compares the outputs byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sdlgm.config import ModelConfig, TrainingConfig
from sdlgm.storage import write_json
from sdlgm.training import fit

__all__ = ["add_arguments", "run"]

COLUMNS, HOSTS = 64, 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--rows", type=int, default=2_000_000, help="Total number of rows.")
    parser.add_argument("--files", type=int, default=20, help="Number of files.")
    parser.add_argument("--iterations", type=int, default=300, help="Iterations of the training.")
    parser.add_argument(
        "--folder", type=Path, default=None, help="Folder in which the temporary folder is made."
    )


def run(options: argparse.Namespace) -> None:
    """Measure, print the numbers, and write the results file."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        found = _measure(Path(name), options.rows, options.files, options.iterations)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.json, found)
    print(json.dumps(found, indent=2))


def _measure(folder: Path, rows: int, files: int, iterations: int) -> dict[str, Any]:
    lake, model = folder / "lake", folder / "run"
    lake.mkdir()
    say("making the data")
    for part in range(files):
        pq.write_table(_telemetry(rows // files, part), lake / f"part-{part:04}.parquet")
    names = [f"m{column}" for column in range(COLUMNS)]
    table = pq.read_table(lake / "part-0000.parquet", columns=names).slice(0, 20_000)
    pq.write_table(table, folder / "train.parquet")
    fit(
        str(folder / "train.parquet"),
        ModelConfig(features=128, budget=16, likelihood="gaussian"),
        TrainingConfig(iterations=iterations, accelerator="cpu"),
        out=model,
        importance_samples=2,
    )
    size = sum(path.stat().st_size for path in lake.iterdir())
    found: dict[str, Any] = {
        "benchmark": "scale_encode",
        "rows": rows // files * files,
        "columns": COLUMNS,
        "files": files,
        "megabytes_in": round(size / 1e6, 1),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
    }
    # The local engine with one thread of torch, as Ray's actors have, and with all cores.
    for name, engine, threads in (
        ("local_1_thread", "local", "1"),
        ("ray", "ray", "1"),
        ("local", "local", str(os.cpu_count())),
    ):
        say(f"encoding: {name}")
        found[name] = _encode(model, lake, folder / name, engine, threads)
    outputs = [sorted((folder / name).iterdir()) for name in ("local_1_thread", "ray", "local")]
    found["files_equal_ray"] = _equal(outputs[0], outputs[1])
    found["files_equal_2_threads"] = _equal(outputs[0], outputs[2])
    found["megabytes_out"] = round(sum(p.stat().st_size for p in outputs[0]) / 1e6, 1)
    for name in ("ray", "local"):
        for what in ("rows_per_second", "steady_rows_per_second", "peak_mb"):
            ratio = found[name][what] / found["local_1_thread"][what]
            found[f"ratio_{name}_{what}"] = round(ratio, 3)
    return found


def _telemetry(rows: int, part: int) -> pa.Table:
    """Return metrics of hosts: 12 intermittent loads, mixed into 64 columns with noise."""
    mixing = np.random.default_rng(0).normal(size=(12, COLUMNS)).astype(np.float32)
    source = np.random.default_rng([1, part])
    loads = (source.random((rows, 12)) < 0.25) * source.gamma(2.0, 0.5, (rows, 12))
    values = loads.astype(np.float32) @ mixing
    values += 0.3 * source.standard_normal((rows, COLUMNS), dtype=np.float32)
    columns: dict[str, Any] = {"host": [f"host-{row % HOSTS}" for row in range(rows)]}
    columns["time"] = np.arange(rows, dtype=np.int64) + part * rows
    columns |= {f"m{column}": values[:, column] for column in range(COLUMNS)}
    return pa.table(columns)


def _encode(model: Path, lake: Path, out: Path, engine: str, threads: str) -> dict[str, Any]:
    """Encode in a new process; measure the memory of it and of all processes that it starts."""
    code = (
        "import json, sys; from sdlgm.scale import encode_dataset\n"
        "r = encode_dataset(*sys.argv[1:4], engine=sys.argv[4], keep=['host', 'time'])\n"
        "print(json.dumps(r._asdict()))"
    )
    load, started = os.getloadavg()[0], time.monotonic()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, str(model), str(lake), str(out), engine],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads},
    )
    peak: dict[str, float] = {"all": 0.0, "python": 0.0}
    while process.poll() is None:
        memory = _memory(process.pid)
        for name, held in memory.items():
            peak[name] = max(peak[name], held)
        time.sleep(0.2)
    seconds = time.monotonic() - started
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"The encoding on {engine} failed.")
    report = json.loads(output)
    # From the end of the first file to the end of the last, which excludes the start-up.
    ends = sorted((path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in out.iterdir())
    steady = sum(rows for _, rows in ends[1:]) / (ends[-1][0] - ends[0][0])
    return {
        "rows": report["encoded_rows"],
        "rows_per_second": round(report["encoded_rows"] / seconds),
        "steady_rows_per_second": round(steady),
        "seconds": round(seconds, 1),
        "peak_mb": round(peak["all"]),
        "peak_mb_python": round(peak["python"]),
        "load_before": round(load, 1),
        "load_after": round(os.getloadavg()[0], 1),
    }


def _memory(root: int) -> dict[str, float]:
    """Return the memory of a process and its descendants in MB (PSS divides shared pages)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {"all": 0.0, "python": 0.0}
    for process in parents:
        above, steps = process, 0
        while above not in (root, 0, 1) and steps < 50:
            above, steps = parents.get(above, 0), steps + 1
        if above != root:
            continue
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            command = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        held = next((int(line.split()[1]) / 1000 for line in lines if line[:4] == "Pss:"), 0.0)
        found["all"] += held
        found["python"] += held if process == root or b"ray::" in command else 0.0
    return found


def _equal(ours: list[Path], theirs: list[Path]) -> int:
    """Return the number of files that are equal byte by byte."""
    same = (
        a.name == b.name and a.read_bytes() == b.read_bytes()
        for a, b in zip(ours, theirs, strict=True)
    )
    return sum(same)


def say(text: str) -> None:
    """Print a line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)
