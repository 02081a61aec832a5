"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", range(len(BLOCKS)))
def test_blocks_run(block: int, in_tmp: Path) -> None:
    exec(compile(BLOCKS[block], f"README block {block}", "exec"), {})  # noqa: S102


def test_the_table_is_the_one_that_was_measured() -> None:
    table = (Path(__file__).parents[1] / "docs" / "results" / "core_mnist.md").read_text()
    between = README.split("<!-- core_mnist: begin -->")[1].split("<!-- core_mnist: end -->")[0]
    assert between.strip() == table.strip()
