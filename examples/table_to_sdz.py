"""Turn a table of measurements into an entropy-coded file of sparse codes, and decode it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

import sdlgm
from sdlgm.codec import decode_file, encode_file
from sdlgm.data import Rows

# 3,000 rows of 12 sensors that are driven by a few independent loads.
random = np.random.default_rng(0)
loads = (random.random((3000, 6)) < 0.3) * random.gamma(4.0, 0.5, (3000, 6))
values = loads @ random.normal(size=(6, 12)) + random.normal(0, 0.05, (3000, 12))

with TemporaryDirectory() as folder:
    table, codes = Path(folder) / "sensors.csv", Path(folder) / "sensors.sdz"
    names = [f"sensor_{number}" for number in range(12)]
    pd.DataFrame(values, columns=names).to_csv(table, index=False)

    # Same as: sdlgm fit sensors.csv --preset quick --likelihood gaussian --out run
    #          sdlgm encode run sensors.csv --out sensors.sdz
    config, training = sdlgm.preset(
        "quick", likelihood="gaussian", features=96, budget=12, iterations=1500
    )
    run = sdlgm.fit(str(table), config, training, out=Path(folder) / "run", progress=False)
    encode_file(run.model, Rows(torch.tensor(values, dtype=torch.float32)), codes)
    decoded = decode_file(run.model, codes).numpy()

    print(f"bytes per row: {table.stat().st_size / 3000:.0f} as CSV, ", end="")
    print(f"{codes.stat().st_size / 3000:.1f} as codes (float32: {4 * values.shape[1]})")
    explained = 1 - ((decoded - values) ** 2).sum() / ((values - values.mean(0)) ** 2).sum()
    print(f"explained variance: {explained:.1%}")
