"""Prefixes of codes: one model for several budgets beside a model for each.

One model is fitted with ``prefixes``, one without, and one for each smaller budget, all to the
same rows. The codes of the first two are cut to their first groups. Recall is that of decoded rows,
as in the benchmark ``vectors``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from paper.machine import machine
from threadpoolctl import threadpool_limits

from benchmarks._quantisers import STATES
from benchmarks._rounds import report
from benchmarks._vector_sets import SETS, Rows, VectorSet, explained, load_set, recalls
from sdlgm import SDLGMTransformer

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--set", choices=SETS, default="words")
    parser.add_argument("--bytes", type=int, default=8, help="Bytes of a whole code.")
    parser.add_argument("--prefixes", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--rows", type=int, help="Largest number of base rows: for a quick check.")
    parser.add_argument("--turns", type=int, help="Turns of search and refitting.")
    parser.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> None:
    """Fit the models, measure each at each budget, and write the results file."""
    torch.set_num_threads(1)
    prefixes = tuple(options.prefixes)
    found: dict[str, Any] = {"benchmark": "prefixes", "machine": machine(), "fit_cpu_seconds": {}}
    with threadpool_limits(1):
        data = load_set(options.set, options.rows, held_out=False)
        for name, n_bytes, trained in (
            ("with prefixes", options.bytes, prefixes),
            *((f"for {n_bytes} bytes", n_bytes, None) for n_bytes in prefixes),
            ("without prefixes", options.bytes, None),
        ):
            started = time.process_time()
            model = _fitted(data.train, n_bytes, trained, options)
            found["fit_cpu_seconds"][name] = time.process_time() - started
            codes = model.transform(data.base)
            sizes = (n_bytes,) if n_bytes < options.bytes else (*prefixes, n_bytes)
            found[name] = {size: _measured(model, codes, size, data) for size in sizes}
            print(name, found["fit_cpu_seconds"][name], found[name], flush=True)
    report(options, found)


def _fitted(
    rows: Rows, n_bytes: int, prefixes: tuple[int, ...] | None, options: argparse.Namespace
) -> SDLGMTransformer:
    """Fit codes of a number of bytes; a slot takes one."""
    model = SDLGMTransformer(
        (STATES - 1) * n_bytes,
        n_bytes,
        prefixes=prefixes,
        scaling="common",
        turns=options.turns,
        sparse_output=True,
        random_state=options.seed,
        accelerator="cpu",
    )
    return model.fit(rows)


def _measured(
    model: SDLGMTransformer, codes: sp.csr_array, groups: int, data: VectorSet
) -> dict[str, Any]:
    """Return what the first groups of codes explain and find, also where none was trained for."""
    cut = codes[:, : (STATES - 1) * groups]
    cut.resize(codes.shape)
    decoded = model.inverse_transform(cut).astype(np.float32)
    return {
        "explained_variance": explained(data.base, decoded),
        "recall": recalls(decoded, data.queries, data.neighbours()),
    }
