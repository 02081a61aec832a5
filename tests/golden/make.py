"""Make the golden files: one tiny artefact of each kind and format, with its results.

``python tests/golden/make.py`` writes what is missing and never changes what exists: every released
format must load for as long as the library lives. A new version of a format gets its number below
and its own folder. Folders of older formats were written by the version that had them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdlgm.codec import (
    coding_prior,
    compress_file,
    describe,
    drawn_rows,
    encode_file,
    write_codes,
)
from sdlgm.config import ModelConfig, TrainingConfig
from sdlgm.data import Rows
from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer
from sdlgm.models import SDLGM, save_model
from sdlgm.nn import DataStatistics
from sdlgm.training import fit

HERE = Path(__file__).parent
SOURCE = np.random.default_rng(20)
ROWS = SOURCE.normal(size=(24, 4)).astype(np.float32)
BITS = (SOURCE.random((24, 6)) < 0.4).astype(np.float32)
IMAGES = SOURCE.integers(0, 255, size=(24, 6, 12)).astype(np.uint8)
COUNTS = SOURCE.multinomial(2, [0.3, 0.3, 0.4], size=24)[:, :2]
SHAPE = ModelConfig(features=6, budget=3, groups=3, encoder_hidden=(8,), sparsity_hidden=(4,))
LABELS = np.maximum(ROWS[:, :3] > 0, np.eye(3, dtype=bool)[0]).astype(np.int64)


def model(folder: Path) -> dict[str, Any]:
    """A model and a file of its codes."""
    statistics = DataStatistics(torch.full((6,), 0.4), torch.full((6,), 0.5), 2)
    made = SDLGM(SHAPE, statistics, torch.Generator().manual_seed(5))
    save_model(folder, made)
    encode_file(made, Rows(torch.from_numpy(BITS)), folder / "codes.parquet", code="mode")
    x = torch.from_numpy(BITS)
    with torch.no_grad():
        codes = made.posterior(x).mode
        return {"x": BITS, "codes": codes, "decoded": made.data_distribution(codes).mean}


def run(folder: Path) -> dict[str, Any]:
    """A finished run, a container of its codes, and data that it compressed without loss."""
    settings = TrainingConfig(iterations=600, batch_size=50, learning_rate=1e-2)
    made = fit("digits", SHAPE, settings, out=folder, importance_samples=2, progress=False)
    rows = Rows(drawn_rows(made.dataset.test)[:40])
    encode_file(made.model, rows, folder / "codes.sdz", code="mode")
    compress_file(made.model, rows, folder / "data.sdl")
    codes = made.model.encode(rows)
    return {"x": rows.values, "codes": codes, "decoded": made.model.decode(codes)}


def structured(folder: Path, **settings: Any) -> dict[str, Any]:
    """A model with a structured prior, codes encoded under it, and data compressed without loss.

    The model has random weights and the codes are drawn from its prior, so that they depend on each
    other.
    """
    config = replace(SHAPE, features=12, budget=4, groups=4, **settings)
    statistics = DataStatistics(torch.full((6,), 0.4), torch.full((6,), 0.5), 2)
    made, source = SDLGM(config, statistics, torch.Generator().manual_seed(5)), torch.Generator()
    with torch.no_grad():
        for parameter in made.parameters():
            source.manual_seed(parameter.numel())
            parameter += torch.randn(parameter.shape, generator=source)
    save_model(folder, made)
    codes = made.sample(300, source.manual_seed(6))[0]
    write_codes(folder / "codes.sdz", [codes], describe(made), prior=coding_prior(made))
    rows = Rows(torch.from_numpy(BITS))
    compress_file(made, rows, folder / "data.sdl")
    return {"x": BITS, "codes": codes, "mode": made.encode(rows), "decoded": made.decode(codes)}


def classifier(folder: Path) -> dict[str, Any]:
    made = SDLGMClassifier(
        "conditional", inputs="bins", threshold="per_label", members=2, folds=2, epochs=3,
        hidden=(6,), latent_features=2, latent_budget=2, random_state=0,
    ).fit(ROWS, LABELS)  # fmt: skip
    made.save(folder)
    return {"x": ROWS, "predict_proba": made.predict_proba(ROWS), "predict": made.predict(ROWS)}


def counter(folder: Path) -> dict[str, Any]:
    made = SDLGMCounter("columns", image_columns=2, channels=(3, 3), epochs=3, random_state=0).fit(
        IMAGES, COUNTS
    )
    made.save(folder)
    results = {name: getattr(made, name)(IMAGES) for name in ("predict_mean", "predict")}
    return {"x": IMAGES, **results}


def transformer(folder: Path) -> dict[str, Any]:
    made = SDLGMTransformer(
        6, 3, encoder_hidden=(8,), sparsity_hidden=(4,), epochs=15, batch_size=12,
        random_state=0,
    ).fit(ROWS)  # fmt: skip
    made.save(folder)
    codes = made.transform(ROWS)
    return {"x": ROWS, "transform": codes, "decoded": made.inverse_transform(codes)}


MAKERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "model-2": model,
    "run-2": run,
    # The number of these is that of the container: codes under a prior have version 3.
    "mixture-3": partial(structured, prior="mixture", mixture_components=3),
    "masked-3": partial(structured, prior="masked", prior_hidden=(8,)),
    "levels-3": partial(
        structured, levels=2, level_hidden=(8,), prior="autoregressive", prior_hidden=(8,)
    ),
    "classifier-2": classifier,
    "counter-2": counter,
    "transformer-2": transformer,
}


def main() -> None:
    """Make what is missing."""
    torch.set_num_threads(1)
    existing = {path.name for path in HERE.glob("*-*") if path.is_dir()}
    for name in sorted(existing | MAKERS.keys()):
        if name in existing:
            print(f"{name} exists and is kept: a released format never changes.")  # noqa: T201
            continue
        folder = HERE / name
        expected = {key: np.asarray(value) for key, value in MAKERS[name](folder).items()}
        np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    main()
