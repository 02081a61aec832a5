"""The code of docs/gradients.md runs, and its table holds the measured results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sdlgm.gradients import estimators, options
from sdlgm.gradients.registry import _BOUNDS, _REGISTRY

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "gradients.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_code_blocks_run(block: int) -> None:
    before = set(_REGISTRY)
    try:
        exec(compile(BLOCKS[block], f"gradients.md block {block}", "exec"), {})  # noqa: S102
    finally:
        for name in set(_REGISTRY) - before:
            del _REGISTRY[name], _BOUNDS[name]


def test_the_table_holds_the_measured_results() -> None:
    table = (DOCS / "results" / "gradients.md").read_text()
    between = PAGE.split("<!-- gradients: begin -->")[1].split("<!-- gradients: end -->")[0]
    assert between.strip() == table.strip()
    assert set(estimators()) == {
        line.split("|")[1].split(",")[0].strip() for line in table.strip().splitlines()[2:]
    }


def test_the_list_names_every_estimator_and_its_options() -> None:
    """``the same`` stands for the temperatures of the row above."""
    listed = dict(
        re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\|[^|]*\|[^|]*\|([^|]*)\|$", PAGE, re.MULTILINE)
    )
    assert set(listed) == set(estimators())
    for name in estimators():
        own = set(re.findall(r"`(\w+)`", listed[name]))
        assert own == set(options(name)) or "the same" in listed[name]
