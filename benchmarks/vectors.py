"""Bytes a row against recall and error: faiss, a sparse autoencoder and our codes.

All methods are fitted to the same rows, encode the same rows and have codes of the same number of
bytes. A search ranks the decoded rows of each method in the same three ways; the truth is the exact
Euclidean order. Finished cells are kept in the file ``--out``: a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from paper.machine import machine
from threadpoolctl import threadpool_limits

from benchmarks._quantisers import METHODS, NotPossibleError, Ours, Quantiser, fit, needs_faiss
from benchmarks._rounds import in_turns, ratio, report, spread
from benchmarks._vector_plot import plot
from benchmarks._vector_sets import RANKINGS, SETS, Rows, VectorSet, explained, load_set, recalls
from sdlgm.config import CodeMethod
from sdlgm.storage import read_json, write_json

__all__ = ["add_arguments", "run"]

BLOCK = 50_000
CODES = tuple(code for code in ("search", "mode") if code in get_args(CodeMethod))
ROUNDS = {1: 200, 256: 15, 8192: 3}
"""Batch sizes of ``--encode``, and rounds of each."""
NOTES = {
    "bytes_fixed": "bytes of a code in which each symbol takes its fixed number of bits",
    "bytes_entropy": "sum of the order-0 entropies of the codebooks, without the tables",
    "explained_variance": "share of the variance of the encoded rows",
    "recall": "10@n: share of the 10 nearest rows (exact, Euclidean) among the n found",
    "used_share": "share of the features, entries of codebooks or latents that are in a code",
    "seconds": "wall clock; cpu_seconds is the processor's time, which others on it do not change",
    "over_rq": "the cell's number divided by that of rq with the same set, bytes and seed",
    "images": "faiss encodes the 64 leading principal components, which count as fitting",
    "sae": "an active latent takes its index and a value of 8 bits; 256 latents up to 6 bytes, "
    "4,096 above",
    "rabitq": "signs of 8 * (bytes - 8) rotated principal components, and two float32 numbers",
}


@dataclass(frozen=True)
class Cell:
    """One method with one size on one set."""

    data: str
    n_bytes: int
    method: str
    seed: int
    held_out: bool
    rows: int | None
    epochs: int | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["words", "mnist"])
    parser.add_argument("--bytes", nargs="+", type=int, default=[4, 6, 8, 16])
    parser.add_argument(
        "--methods",
        nargs="*",
        choices=METHODS,
        default=list(METHODS),
        help="None measure the encoders alone.",
    )
    parser.add_argument("--rows", type=int, help="Largest number of base rows: for a quick check.")
    parser.add_argument("--epochs", type=int, help="Passes over the rows of sae and ours.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="Fit to one half of the base rows, encode and search in the other half.",
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=600,
        help="Processor seconds after which a cell is left out.",
    )
    parser.add_argument(
        "--encode",
        action="store_true",
        help="Also measure rows per second of our encoders in batches of 1, 256 and 8,192.",
    )
    parser.add_argument(
        "--budget-check",
        type=int,
        nargs="?",
        const=10**6,
        metavar="N",
        help="Also encode N random and noisy rows and count those over the budget.",
    )
    parser.add_argument("--plot", type=Path, help="PNG file for the curves of recall.")
    parser.add_argument(
        "--ranking", choices=RANKINGS, default="cosine", help="Ranking of the curves."
    )


def run(options: argparse.Namespace) -> None:
    """Measure what is missing, print the numbers, and write the results file."""
    needs_faiss(options.methods + (["rq"] if options.encode else []))
    found = _earlier(options.json, {"cells": [], "encoders": {}})
    found |= {"benchmark": "vectors", "notes": NOTES, "machine": machine()}
    found["settings"] = {"threads": 1, "limit_seconds": options.limit, "versions": _versions()}
    for cell in _cells(options, options.methods):
        if not _measured(found["cells"], cell, options.limit):
            _add_cell(found, cell, options)
    if options.encode or options.budget_check:
        for cell in _cells(options, ["ours"]):
            _add_encoders(found, cell, options)
    found |= _earlier(options.json, found)
    _compare(found["cells"])
    if options.plot is not None:
        keys = {"seed": options.seed, "held_out": options.held_out, "rows": options.rows}
        drawn = [cell for cell in found["cells"] if keys.items() <= cell.items()]
        plot(drawn, options.ranking, options.plot)
    report(options, found)


def _add_cell(found: dict[str, Any], cell: Cell, options: argparse.Namespace) -> None:
    _say(f"{cell.data}, {cell.n_bytes} bytes: {cell.method}")
    result = dataclasses.asdict(cell) | _in_process(cell, options.limit)
    _say(_line(result))
    found |= _earlier(options.json, found)  # another run may have added cells
    found["cells"] = [c for c in found["cells"] if not _is(c, cell)] + [result]
    _keep(options.json, found)


def _add_encoders(found: dict[str, Any], cell: Cell, options: argparse.Namespace) -> None:
    """Measure the encoders of a cell, unless the file has what is asked for."""
    wanted = {"rates"} if options.encode else set()
    wanted |= {"budget_check"} if options.budget_check else set()
    key = f"{cell.data}, {cell.n_bytes} bytes, seed {cell.seed}"
    earlier = found["encoders"].get(key, {})
    if wanted <= earlier.keys():
        return
    _say(f"{key}: encoders")
    found["encoders"][key] = earlier | _encoders(cell, options)
    _keep(options.json, found)


def _earlier(path: Path | None, otherwise: dict[str, Any]) -> dict[str, Any]:
    """Return the cells and encoders in the file, if there is one."""
    if path is None or not path.exists():
        return otherwise
    found = read_json(path)
    return {name: found[name] for name in ("cells", "encoders")}


def _keep(path: Path | None, found: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)


def _cells(options: argparse.Namespace, methods: Sequence[str]) -> list[Cell]:
    """Return the cells asked for, in the order of the methods."""
    return [
        Cell(data, n_bytes, method, options.seed, options.held_out, options.rows, options.epochs)
        for method in methods
        for data in options.sets
        for n_bytes in options.bytes
    ]


def _is(result: dict[str, Any], cell: Cell) -> bool:
    return dataclasses.asdict(cell).items() <= result.items()


def _measured(cells: list[dict[str, Any]], cell: Cell, limit: int) -> bool:
    """Return whether there is a result of a cell; one with a lower limit of time is none."""
    return any(_is(found, cell) and found.get("limit", limit) >= limit for found in cells)


# --- one cell, in a process of its own --------------------------------------------------------


def _in_process(cell: Cell, limit: int) -> dict[str, Any]:
    """Measure a cell in a new process, which ends when it has used ``limit`` seconds."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(cell, limit, sender), daemon=True)
    process.start()
    sender.close()
    with contextlib.suppress(EOFError):
        result: dict[str, Any] = receiver.recv()
        process.join()
        return result
    process.join()
    if process.exitcode is not None and process.exitcode < 0:
        text = f"it took more than {limit} processor seconds, or was ended"
        return {"left_out": text, "limit": limit}
    raise RuntimeError(f"{cell} failed; the message is above.")


def _child(cell: Cell, limit: int, sender: Connection) -> None:
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
    torch.set_num_threads(1)
    with threadpool_limits(1):
        sender.send(_measure(cell))


def _measure(cell: Cell) -> dict[str, Any]:
    """Fit, encode, decode and search."""
    data = load_set(cell.data, cell.rows, cell.held_out)
    try:
        quantiser, fitting = _timed(
            lambda: fit(cell.method, data.train, cell.n_bytes, cell.seed, cell.epochs)
        )
    except NotPossibleError as error:
        return {"left_out": str(error)}
    codes, encoding = _timed(lambda: quantiser.encode(data.base))
    decoded = quantiser.decode(codes)
    return {
        "bytes_fixed": quantiser.bits(codes) / 8,
        **_usage(quantiser, codes),
        "explained_variance": explained(data.base, decoded),
        "squared_error": float(np.square(data.base - decoded).mean(dtype=np.float64)),
        "recall": recalls(decoded, data.queries, data.neighbours()),
        "fit": fitting,
        "encode": encoding | {"rows_per_second": len(data.base) / encoding["seconds"]},
        "train_rows": len(data.train),
        "base_rows": len(data.base),
        "queries": len(data.queries),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _timed(call: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    seconds = time.perf_counter() - wall
    return result, {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}


def _usage(quantiser: Quantiser, codes: Any) -> dict[str, float | int]:
    """Return entropy, used entries, and for our codes the rows over the budget."""
    columns = quantiser.symbols(codes).T
    found: dict[str, float | int] = {"bytes_entropy": sum(map(_entropy, columns)) / 8}
    found["used_share"] = quantiser.used(codes)
    if isinstance(quantiser, Ours):
        found["rows_over_budget"] = quantiser.over_budget(codes)
    return found


def _entropy(symbols: NDArray[Any]) -> float:
    """Return the order-0 entropy of symbols in bits."""
    share = np.unique(symbols, return_counts=True)[1] / len(symbols)
    return abs(float((share * np.log2(share)).sum()))


# --- encoders ---------------------------------------------------------------------------------


def _encoders(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """Fit our code once, time its encoders, and count rows over the budget."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"seed": cell.seed, "rows": cell.rows}
    with threadpool_limits(1):
        data = load_set(cell.data, cell.rows, cell.held_out)
        ours = Ours(data.train, cell.n_bytes, cell.seed, cell.epochs)
        if options.encode:
            baseline = fit("rq", data.train, cell.n_bytes, cell.seed, None)
            found["rates"] = _rates(ours, baseline, data)
        if options.budget_check:
            found["budget_check"] = {
                code: _over_budget(ours, code, data.base, options.budget_check, cell.seed)
                for code in CODES
            }
    return found


def _encoded(ours: Ours, code: str, rows: Rows) -> Any:
    ours.model.set_params(code=code)
    return ours.encode(rows)


def _rates(ours: Ours, baseline: Quantiser, data: VectorSet) -> dict[str, Any]:
    """Return rows per second of our encoders and of residual quantisation, in turns."""
    calls: dict[str, Callable[[Rows], Any]] = {"rq": baseline.encode}
    for code in CODES:
        calls[code] = functools.partial(_encoded, ours, code)
    found = {}
    for batch, rounds in ROUNDS.items():
        rows = data.base[:batch]
        turns = {name: functools.partial(call, rows) for name, call in calls.items()}
        wall, _ = in_turns(turns, rounds, 1)
        found[str(batch)] = {
            name: {
                "rows_per_second": len(rows) / spread(wall[name])["median"],
                "times_slower_than_rq": ratio(wall, name, "rq"),
            }
            for name in calls
        }
    return found


def _over_budget(ours: Ours, code: str, base: Rows, number: int, seed: int) -> dict[str, int]:
    """Encode random rows and base rows with noise, half of each; count rows over the budget."""
    noise = np.random.default_rng(seed)
    deviation = base.std()
    found = {"rows": 0, "rows_over_budget": 0}
    for start in range(0, number, BLOCK):
        size = min(BLOCK, number - start)
        rows = noise.standard_normal((size, base.shape[1]), dtype=np.float32) * deviation
        rows[::2] += base[noise.integers(len(base), size=len(rows[::2]))]
        found["rows"] += size
        found["rows_over_budget"] += ours.over_budget(_encoded(ours, code, rows))
    return found


# --- comparison -------------------------------------------------------------------------------


def _compare(cells: list[dict[str, Any]]) -> None:
    """Add to each cell the ratios of its numbers to those of residual quantisation."""
    names = [field.name for field in dataclasses.fields(Cell)]
    for cell in cells:
        key = {name: cell[name] for name in names} | {"method": "rq", "epochs": None}
        keys = (key, key | {"epochs": cell["epochs"]})
        baseline = next((c for c in cells if any(k.items() <= c.items() for k in keys)), None)
        if baseline is None or "left_out" in cell or "left_out" in baseline:
            continue
        cell["over_rq"] = {
            "recall": {
                ranking: {
                    name: value / max(baseline["recall"][ranking][name], 1e-12)
                    for name, value in cell["recall"][ranking].items()
                }
                for ranking in RANKINGS
            },
            "fit_cpu_seconds": cell["fit"]["cpu_seconds"] / baseline["fit"]["cpu_seconds"],
            "fit_seconds": cell["fit"]["seconds"] / baseline["fit"]["seconds"],
            "bytes_entropy": cell["bytes_entropy"] / baseline["bytes_entropy"],
        }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in ("faiss-cpu", "wordllama", "sdlgm"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _line(cell: dict[str, Any]) -> str:
    if "left_out" in cell:
        return f"  left out: {cell['left_out']}"
    recall = ", ".join(
        f"{name} {values['10@10']:.3f}/{values['10@100']:.3f}"
        for name, values in cell["recall"].items()
    )
    return (
        f"  {cell['bytes_entropy']:.2f} of {cell['bytes_fixed']:.2f} bytes, explained "
        f"{cell['explained_variance']:.3f}, {recall}, fit {cell['fit']['seconds']:.0f} s "
        f"(processor {cell['fit']['cpu_seconds']:.0f} s)"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
