"""Colours, empty figures, and figures as SVG, PNG and data URIs."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "CLASSES",
    "INK",
    "SOFT",
    "WARM",
    "data_uri",
    "new_figure",
    "png",
    "svg",
    "tidy",
]

INK, SOFT, ACCENT, WARM = "#1b2733", "#9db4c8", "#1f6f8b", "#d1603d"
CLASSES = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6",
    "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
"""Ten colours for colour-blind readers, too (Petroff 2021, arXiv:2107.02270)."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, without a window or global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def tidy(axis: Any) -> None:
    """Keep only the parts of the frame that carry a scale."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(SOFT)
    axis.tick_params(color=SOFT, labelcolor=INK, labelsize=8)


def svg(figure: Figure) -> str:
    """Return a figure as an SVG element; equal figures give equal bytes."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "sdlgm"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, dpi: int = 160, colours: int | None = None) -> bytes:
    """Return a figure as the content of a PNG file; ``colours`` limits their number."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    if colours is not None:
        from PIL import Image  # a dependency of matplotlib

        few = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """Return the content of a PNG file as a data URI for an HTML page."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
