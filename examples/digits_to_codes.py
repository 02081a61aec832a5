"""Train a model on 8 x 8 images of digits, encode the test images, and decode their codes."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sdlgm
from sdlgm.codec import encode_file

with TemporaryDirectory() as folder:
    # At most 8 of 64 features per image.
    config, training = sdlgm.preset("quick", likelihood="bernoulli", iterations=1500)
    run = sdlgm.fit("digits", config, training, out=Path(folder) / "run", progress=False)
    test = run.dataset.test

    codes = run.model.encode(test)  # counts, one row per image
    images = run.model.decode(codes)  # mean pixels

    path = Path(folder) / "codes.sdz"
    encode_file(run.model, test, path)
    print(
        f"{len(codes)} images, {codes.shape[1]} features, largest code: {int(codes.sum(1).max())}"
    )
    print(f"active features per image: {(codes > 0).sum(1).float().mean():.1f}")
    print(f"mean squared error of a pixel: {(images - test.grey()).square().mean():.4f}")
    print(f"bytes per image in a file: {path.stat().st_size / len(codes):.1f}")
    print(f"negative ELBO: {run.metrics['negative_elbo']:.1f} nats per image")
