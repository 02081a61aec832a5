"""What all drawings share: colours, an empty figure, and figures as SVG, PNG and data URIs."""

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
"""Ten colours that the colour-blind can tell apart (Petroff 2021, arXiv:2107.02270)."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, of no window and no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def tidy(axis: Any) -> None:
    """Leave of the frame what carries a scale."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(SOFT)
    axis.tick_params(color=SOFT, labelcolor=INK, labelsize=8)


def svg(figure: Figure) -> str:
    """Return a figure as an SVG element, the same bytes each time."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "sdlgm"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure, dpi: int = 160, colours: int | None = None) -> bytes:
    """Return a figure as the content of a PNG file; few colours make it smaller."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    if colours is not None:
        from PIL import Image  # comes with matplotlib, which draws by it

        few = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        few.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """Spell the content of a PNG file so that an HTML page can hold it."""
    return "data:image/png;base64," + base64.b64encode(content).decode()
