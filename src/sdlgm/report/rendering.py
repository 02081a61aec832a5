"""Render a template as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdlgm.errors import SDLGMError
from sdlgm.outputs import atomic_path

__all__ = ["render_page", "require_report"]


def require_report(what: str) -> None:
    """Raise :class:`SDLGMError` unless the packages for pages and drawings are installed.

    ``what`` starts the message, such as ``"The page"``.
    """
    try:
        import jinja2  # noqa: F401 (imported here for our own message)
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise SDLGMError(f"{what} needs {error.name}: pip install 'sdlgm[report]'.") from None


def render_page(path: Path | str, template: Path, **values: Any) -> Path:
    """Render a template and write the page atomically; return its path.

    Templates may extend ``base.html.jinja`` in the folder of this module.
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
