"""Codes of telemetry windows: training, refitting, and bytes and errors of the codes."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from paper.telemetry import methods
from paper.telemetry.methods import Windows
from sdlgm import SDLGM, ModelConfig, TrainingConfig
from sdlgm.codec import describe, read_codes, write_codes
from sdlgm.data import Rows
from sdlgm.inference import refit_decoder, refit_prior, search_codes
from sdlgm.nn import data_statistics
from sdlgm.nn.likelihoods import Gaussian
from sdlgm.random import generator
from sdlgm.training.model_training import train

__all__ = ["BATCH", "code_numbers", "file_sizes", "rows_of", "trained"]

BATCH = 100
TURNS, SWEEPS = (12, 6), 4
"""Rounds of refitting at the first and at each later weight; sweeps of the final search."""
IMPORTANCE, RIDGE = 0.5, 10.0
"""Exponent of a window's variance as its weight in the decoder's fit, and penalty of the fit."""


def rows_of(values: NDArray[np.float64]) -> Rows:
    """Return windows as rows of a data set."""
    return Rows(torch.from_numpy(values).float())


def trained(
    rows: Rows,
    budget: int,
    seed: int,
    iterations: int,
    features: int,
    hidden: tuple[int, ...] = (128,),
) -> SDLGM:
    """Return a model with one slot per group and a mirrored decoder, trained by the ELBO."""
    config = ModelConfig(
        features=features,
        budget=budget,
        likelihood="gaussian",
        encoder_hidden=hidden,
        decoder_hidden=hidden[::-1],
        sparsity_hidden=(64,),
        shared_trunk=True,
    )
    model = SDLGM(config, data_statistics(rows.values), generator(seed, "weights"))
    settings = TrainingConfig(
        iterations=iterations,
        batch_size=BATCH,
        learning_rate=2e-3,
        seed=seed,
        objective="elbo",
        accelerator="cpu",
    )
    with torch.enable_grad():
        train(model, rows, settings)
    return model


@torch.no_grad()
def code_numbers(
    train_windows: Windows,
    past: Windows,
    test: Windows,
    *,
    budget: int,
    seed: int,
    iterations: int,
    features: int,
    weights: tuple[float, ...],
) -> dict[str, Any]:
    """Train a model; measure the codes of its posterior and those of the refitted model.

    For each weight of the squared error, from the largest to the smallest, the codes of the
    training windows, the decoder and the prior are fitted in turns. The codes of the test windows
    are then searched for, starting from empty codes.

    Parameters
    ----------
    train_windows
        Overlapping training windows.
    past, test
        Training and test windows without overlap. The coder adapts to the first.
    budget, seed, iterations, features
        Of the model and its training.
    weights
        Nats per unit of squared error.
    """
    rows = rows_of(train_windows.shapes)
    model = trained(rows, budget, seed, iterations, features, ())
    past_rows, test_rows = (rows_of(part.shapes).values for part in (past, test))
    modes = model.posterior(test_rows).mode
    side = float(test.side_bits(past).mean()) / 8
    found: dict[str, Any] = {
        "mode_error": _error(model, modes, test),
        "mode_bytes": _prior_bits(model, modes) / 8 + side,
        "side_bytes": side,
        "parameters": sum(p.numel() for p in model.parameters()),
        "points": [],
    }
    codes = model.posterior(rows.values).mode
    unit = _share_scale(model)
    importance = torch.from_numpy(train_windows.scale[:, 0] ** (2 * IMPORTANCE)).float()
    for number, weight in enumerate(weights):
        train_weight, past_weight, test_weight = (
            torch.from_numpy(2 * unit**2 * weight * part.scale[:, 0] ** 2).float()
            for part in (train_windows, past, test)
        )
        for turn in range(TURNS[number > 0]):
            if number or turn:
                codes = search_codes(model, rows.values, codes, weight=train_weight, sweeps=1)
            refit_decoder(model, rows.values, codes, weight=importance, ridge=RIDGE)
            refit_prior(model, codes)
        past_codes, test_codes = (
            search_codes(
                model, part, torch.zeros(len(part), features), weight=weighted, sweeps=SWEEPS
            )
            for part, weighted in ((past_rows, past_weight), (test_rows, test_weight))
        )
        bits = methods.adaptive_bits(
            _symbols(past_codes, budget),
            _symbols(test_codes, budget),
            (past.classes, test.classes),
            flat=True,
        )
        point = {
            "trade": weight,
            "error": _error(model, test_codes, test),
            "prior_bytes": _prior_bits(model, test_codes) / 8 + side,
            "bytes": float(bits.mean()) / 8 + side,
            "active": float((test_codes > 0).sum(-1).float().mean()),
        }
        found["points"].append({**point, **_file_bytes(model, test_codes, test)})
    return found


def _error(model: SDLGM, codes: torch.Tensor, test: Windows) -> float:
    """Return the normalised RMSE of the windows decoded from codes."""
    return methods.rmse(test.values, test.mean + test.scale * model.decode(codes).numpy())


def _prior_bits(model: SDLGM, codes: torch.Tensor) -> float:
    """Return the mean of -log2 p(z)."""
    return -float(model.prior().log_prob(codes).mean()) / math.log(2)


def _share_scale(model: SDLGM) -> float:
    """Give all positions of a window the same scale, so that errors count equally; return it."""
    likelihood = model.likelihood
    if not isinstance(likelihood, Gaussian):
        raise TypeError("Only a Gaussian likelihood has a scale.")
    likelihood.unit.fill_(float(likelihood.unit.mean()))
    scale = float(_scale(model).mean())
    likelihood.rho.fill_(math.log(math.expm1(scale / float(likelihood.unit[0]))))
    return float(_scale(model)[0, 0])


def _scale(model: SDLGM) -> torch.Tensor:
    empty = torch.zeros(1, model.config.features)
    return model.data_distribution(empty).base_dist.scale  # type: ignore[attr-defined]


def _symbols(codes: torch.Tensor, groups: int) -> NDArray[np.int64]:
    """Return what each group holds: 0 if it is empty, otherwise the number of its feature."""
    held = codes.unflatten(-1, (groups, -1))
    return np.asarray(torch.where(held.any(-1), held.argmax(-1) + 1, 0))


def _file_bytes(model: SDLGM, codes: torch.Tensor, test: Windows) -> dict[str, float]:
    """Return bytes per window of files of these codes; mean and scale are a zstd stream."""
    side = np.stack([test.levels, test.classes]).astype(np.int16)
    changes = np.diff(side, axis=1, prepend=0).astype("<i2")
    sizes = {"zstd_side": methods.zstd_bytes(changes.tobytes()), **dict(file_sizes(model, codes))}
    return {f"{name}_file_bytes": size / len(codes) for name, size in sizes.items()}


def file_sizes(model: SDLGM, codes: torch.Tensor) -> Iterator[tuple[str, int]]:
    """Yield formats and sizes of files of codes, after reading them back."""
    description = describe(model)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("parquet", "sdz"):
            path = Path(folder) / f"codes.{suffix}"
            write_codes(path, [codes], description)
            if not torch.equal(torch.cat(list(read_codes(path, description)[1])), codes):
                raise RuntimeError(f"{path.name} does not contain the codes that were written.")
            yield suffix, path.stat().st_size
