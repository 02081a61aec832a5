"""Make the golden files: one tiny artefact of each kind, and what it gives, for each format.

``python tests/golden/make.py`` writes what is missing and leaves what is there, for ever: a format
that was released must load as long as the library lives. A new version of a format gets its number
below, and its own folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdlgm.codec import encode_file
from sdlgm.config import ModelConfig
from sdlgm.data import Rows
from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer
from sdlgm.models import SDLGM, load_model, save_model
from sdlgm.nn import DataStatistics

HERE = Path(__file__).parent
SOURCE = np.random.default_rng(20)
ROWS = SOURCE.normal(size=(24, 4)).astype(np.float32)
BITS = (SOURCE.random((24, 6)) < 0.4).astype(np.float32)
IMAGES = SOURCE.integers(0, 255, size=(24, 6, 12)).astype(np.uint8)
COUNTS = SOURCE.multinomial(2, [0.3, 0.3, 0.4], size=24)[:, :2]
LABELS = np.maximum(ROWS[:, :3] > 0, np.eye(3, dtype=bool)[0]).astype(np.int64)


def model(folder: Path) -> dict[str, Any]:
    """An SDLGM, and a file of its codes."""
    config = ModelConfig(
        features=6, budget=3, groups=3, encoder_hidden=(8,), sparsity_hidden=(4,)
    )  # fmt: skip
    statistics = DataStatistics(torch.full((6,), 0.4), torch.full((6,), 0.5), 2)
    made = SDLGM(config, statistics, torch.Generator().manual_seed(5))
    save_model(folder, made)
    encode_file(load_model(folder), Rows(torch.from_numpy(BITS)), folder / "codes.parquet",
                choice="mode")  # fmt: skip
    x = torch.from_numpy(BITS)
    with torch.no_grad():
        codes = made.posterior(x).mode
        return {"x": BITS, "codes": codes, "decoded": made.data_distribution(codes).mean}


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
    "model-1": model,
    "classifier-1": classifier,
    "counter-1": counter,
    "transformer-1": transformer,
}


def main() -> None:
    """Make what is missing."""
    torch.set_num_threads(1)
    for name, make in MAKERS.items():
        folder = HERE / name
        if folder.exists():
            print(f"{name} exists and is kept: a released format never changes.")  # noqa: T201
            continue
        expected = {key: np.asarray(value) for key, value in make(folder).items()}
        np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    main()
