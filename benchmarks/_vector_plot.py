"""The picture of the benchmark of vectors: bytes against recall."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdlgm.outputs import atomic_path
from sdlgm.report.drawing import CLASSES, INK, new_figure, png, tidy
from sdlgm.report.rendering import require_report

__all__ = ["plot"]

LABELS = {
    "pq": "PQ",
    "opq": "OPQ",
    "rq": "RQ",
    "lsq": "LSQ",
    "rabitq": "RaBitQ",
    "sae": "top-k autoencoder",
    "ours": "sdlgm",
}
STYLES = {"10@10": "-", "10@100": "--"}


def plot(cells: list[dict[str, Any]], ranking: str, path: Path) -> None:
    """Draw recall by a ranking against bytes of fixed length, one panel a set, as a PNG file.

    Solid lines are recall 10@10, dashed ones 10@100.

    Raises
    ------
    SDLGMError
        If the extra ``report`` (matplotlib, jinja2) is not installed.
    """
    require_report("The picture")
    measured = [cell for cell in cells if "left_out" not in cell]
    names = list(dict.fromkeys(cell["data"] for cell in measured))
    figure = new_figure(0.8 + 4.2 * max(1, len(names)), 4.0)
    for number, name in enumerate(names):
        axis = figure.add_subplot(1, len(names), number + 1)
        for colour, (method, label) in zip(CLASSES, LABELS.items(), strict=False):
            points = [c for c in measured if (c["data"], c["method"]) == (name, method)]
            points.sort(key=lambda cell: float(cell["bytes_fixed"]))
            for wanted, style in STYLES.items():
                axis.plot(
                    [cell["bytes_fixed"] for cell in points],
                    [cell["recall"][ranking][wanted] for cell in points],
                    style,
                    color=colour,
                    lw=2.6 if method == "ours" else 1.4,
                    marker="o",
                    ms=4,
                    label=label if points and wanted == "10@10" else None,
                )
        tidy(axis)
        axis.set_ylim(0, 1)
        axis.set_title(name, loc="left", fontsize=11, color=INK)
        axis.set_xlabel("bytes a row", color=INK)
        axis.set_ylabel(f"recall ({ranking}): 10@10 solid, 10@100 dashed", color=INK)
        axis.legend(frameon=False, fontsize=8, labelcolor=INK)
    with atomic_path(path) as temporary:
        temporary.write_bytes(png(figure))
