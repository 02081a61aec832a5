"""The Python of the README and of the guides runs, and their links and tables are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("**/*.md"))]
OWN_TEST = {"gradients.md"}  # registers an estimator: tests/gradients/test_docs.py


def _blocks(page: Path) -> list[str]:
    """Return what is fenced as ``python``; fragments that cannot run alone are fenced as ``py``."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


RUNNABLE = [page for page in PAGES if _blocks(page) and page.name not in OWN_TEST]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_python_blocks_run_one_after_the_other(page: Path, in_tmp: Path) -> None:
    for number, block in enumerate(_blocks(page)):
        exec(compile(block, f"{page.name}, block {number}", "exec"), {})  # noqa: S102


def test_the_readme_has_python_that_runs() -> None:
    assert ROOT / "README.md" in RUNNABLE


def test_the_table_of_bounds_is_the_measured_one() -> None:
    table = (DOCS / "results" / "core_mnist.md").read_text()
    page = (DOCS / "bound.md").read_text()
    between = page.split("<!-- core_mnist: begin -->")[1].split("<!-- core_mnist: end -->")[0]
    assert between.strip() == table.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {link}"
        if heading:
            assert heading in _anchors(target), f"{page.name} links to {link}"


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "index.md").read_text()
    listed = set(re.findall(r"\]\(([\w/.-]+\.md)\)", index))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.glob("**/*.md")} - {"index.md"}
    assert pages <= listed


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")).replace(" ", "-")
        for heading in headings
    }
