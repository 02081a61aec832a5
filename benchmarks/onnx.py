"""An encoder as ONNX and in torch: identical codes, sizes, microseconds per sample."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from paper.machine import machine

from sdlgm.distributions import greedy
from sdlgm.export import compare_encoder, export_run, open_session
from sdlgm.models import model_sha256
from sdlgm.random import generator
from sdlgm.storage import write_json
from sdlgm.training import Run

__all__ = ["add_arguments", "run"]

BATCHES = {1: 2000, 256: 100}
"""Batch sizes, and rounds of each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--run", type=Path, required=True, help="Folder of a finished run.")
    parser.add_argument("--rounds", type=float, default=1.0, help="Factor on the number of rounds.")


def run(options: argparse.Namespace) -> None:
    """Measure, print the numbers, and write the results file."""
    torch.set_num_threads(1)
    opened = Run.open(options.run)
    rows = opened.dataset.test
    bits = torch.cat(list(rows.batches(1000, generator(0, "evaluation bits"))))
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "float": export_run(opened, Path(folder) / "float.onnx"),
            "int8": export_run(opened, Path(folder) / "int8.onnx", quantize="int8"),
            "decoder_float": export_run(opened, Path(folder) / "decoder.onnx", part="decoder"),
            "decoder_int8": export_run(
                opened, Path(folder) / "decoder8.onnx", part="decoder", quantize="int8"
            ),
        }
        sizes = {name: path.stat().st_size for name, path in files.items()}
        sizes["torch_safetensors"] = (opened.folder / "model.safetensors").stat().st_size
        parity: dict[str, Any] = {}
        for name, batch in (("float", 1000), ("int8", 1000), ("int8", 1)):
            print(f"parity: {name}, batch {batch}", file=sys.stderr, flush=True)
            part = compare_encoder(opened.model, files[name], bits, batch)
            parity[f"{name}_batch_{batch}"] = part._asdict()
        timing = {
            str(batch): _time(opened, files, bits, batch, max(3, round(rounds * options.rounds)))
            for batch, rounds in BATCHES.items()
        }
    found = {
        "benchmark": "onnx",
        "data": f"{opened.dataset.name}, test split, {len(bits)} rows, bits of evaluation seed 0",
        "model_sha256": model_sha256(opened.model),
        "bytes": sizes,
        "parity": parity,
        "microseconds_per_sample": timing,
        "threads": 1,
        "machine": machine(),
    }
    if options.json is not None:
        write_json(options.json, found)
    print(json.dumps(found, indent=2))


def _time(
    opened: Run, files: dict[str, Path], bits: torch.Tensor, batch: int, rounds: int
) -> dict[str, Any]:
    """Time all encoders in turns; in a round, they encode the same rows."""
    model = opened.model
    scale = 1.0 if not opened.dataset.test.dynamic else opened.dataset.test.maximum

    def with_torch(x: torch.Tensor) -> None:
        with torch.inference_mode():
            posterior = greedy(model.posterior(x / scale))
            _ = posterior.mode, posterior.presence_probs

    def with_onnx(name: str) -> Callable[[torch.Tensor], None]:
        session = open_session(files[name])
        return lambda x: session.run(None, {"x": x.numpy()})

    encoders = {"torch": with_torch, "float": with_onnx("float"), "int8": with_onnx("int8")}
    times: dict[str, list[float]] = {name: [] for name in encoders}
    warmup = max(2, rounds // 10)
    for number in range(warmup + rounds):
        start = number * batch % (len(bits) - batch + 1)
        x = (bits[start : start + batch] * scale).contiguous()
        for name, encoder in encoders.items():
            clock = time.perf_counter()
            encoder(x)
            if number >= warmup:
                times[name].append(1e6 * (time.perf_counter() - clock) / batch)
    found: dict[str, Any] = {"rounds": rounds}
    for name, values in times.items():
        found[name] = {"median": statistics.median(values)}
        found[name]["quartiles"] = statistics.quantiles(values, n=4)[::2]
        if name != "torch":  # relative to the time of torch in the same round
            ratios = [mine / torchs for mine, torchs in zip(values, times["torch"], strict=True)]
            found[name]["ratio_to_torch"] = statistics.median(ratios)
    return found
