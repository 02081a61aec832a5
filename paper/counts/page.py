"""The page of Table III: images with predicted counts, correct ones in green."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdlgm.report.drawing import data_uri
from sdlgm.report.rendering import render_page, require_report

__all__ = ["Predicted", "write_counts_page"]


@dataclass(frozen=True)
class Predicted:
    """The predictions of one method."""

    title: str
    counts: NDArray[np.int64]
    """Predicted counts, shape ``(n, K)``."""
    summary: str
    """Its errors over all images, as text."""


def write_counts_page(
    path: Path | str,
    images: NDArray[np.uint8],
    truth: NDArray[np.int64],
    predicted: Sequence[Predicted],
    command: str,
) -> Path:
    """Write one self-contained HTML page, atomically; return its path.

    Parameters
    ----------
    path
        File to write.
    images
        Grey values from 0 to 255, shape ``(n, h, w)``.
    truth
        Their counts, shape ``(n, K)``.
    predicted
        Predictions of each method for these images.
    command
        The command that made the page.

    Raises
    ------
    SDLGMError
        If the extra ``report`` (matplotlib, jinja2) is not installed.
    """
    require_report("The page")
    tables = [
        {
            "title": method.title,
            "summary": method.summary,
            "right": int((method.counts == truth).all(1).sum()),
            "images": [
                {
                    "image": _png(image),
                    "predicted": _as_text(counts),
                    "true": _as_text(right),
                    "right": bool((counts == right).all()),
                }
                for image, counts, right in zip(images, method.counts, truth, strict=True)
            ],
        }
        for method in predicted
    ]
    return render_page(
        path,
        Path(__file__).with_name("page.html.jinja"),
        tables=tables,
        number=len(images),
        command=command,
    )


def _as_text(counts: NDArray[np.int64]) -> str:
    """Format counts as ``3, 4 x2``: each class that occurs, and how often."""
    present = [f"{k} ×{count}" if count > 1 else str(k) for k, count in enumerate(counts) if count]  # noqa: RUF001
    return ", ".join(present) or "none"


def _png(image: NDArray[np.uint8]) -> str:
    """Draw an image, dark on light, as a data URI."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, 255 - image, cmap="gray", vmin=0, vmax=255, format="png", metadata={})
    return data_uri(buffer.getvalue())
