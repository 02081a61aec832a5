"""From a template to one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdlgm.errors import SDLGMError
from sdlgm.storage import atomic_path

__all__ = ["render_page", "require_report"]


def require_report(what: str) -> None:
    """Raise :class:`SDLGMError` unless what pages and drawings need is installed.

    ``what`` begins the message, such as ``"The page"``.
    """
    try:
        import jinja2  # noqa: F401 (asked for here, so that the message is ours)
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise SDLGMError(f"{what} needs {error.name}: pip install 'sdlgm[report]'.") from None


def render_page(path: Path | str, template: Path, **values: Any) -> Path:
    """Fill a template file and write the page, atomically; return its path.

    Templates may extend ``base.html.jinja`` beside this module.
    """
    import jinja2

    folders = [template.parent, Path(__file__).parent]
    environment = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(folders, encoding="utf-8")
    )
    page = environment.get_template(template.name).render(**values)
    path = Path(path)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path
