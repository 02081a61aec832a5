"""The page on files contains the measured tables."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["code_sizes", "lossless"])
def test_docs_contain_the_measured_tables(name: str) -> None:
    page = (DOCS / "codec.md").read_text()
    between = page.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
    assert between.strip() == (DOCS / "results" / f"{name}.md").read_text().strip()
