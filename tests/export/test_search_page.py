"""The examples for search engines in docs/search.md run, where their clients are installed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")
FIRST = re.search(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[1]
EXAMPLES = re.findall(r"```py\n# (\w+)[^\n]*\n(.*?)```", PAGE, flags=re.DOTALL)
CLIENTS = {
    "Qdrant": ("qdrant_client",), "Milvus": ("pymilvus", "milvus_lite"), "Seismic": ("seismic",),
    "faiss": ("faiss",),
}  # fmt: skip


@pytest.fixture(scope="module")
def first() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(FIRST, names)  # noqa: S102
    return names


def test_there_is_an_example_for_each_client() -> None:
    assert [name for name, _ in EXAMPLES] == list(CLIENTS)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=list(CLIENTS))
def test_examples_find_the_first_query(name, example, first, in_tmp) -> None:
    for client in CLIENTS[name]:
        pytest.importorskip(client)
    names = dict(first)
    exec(example, names)  # noqa: S102
    best = set(first["ranked"][0].tolist())
    if name == "Qdrant":
        found = [point.id for point in names["points"]]
    elif name == "Milvus":
        found = [hit["id"] for hit in names["hits"][0]]
        asked = names["model"].query_weights(names["queries"][:1])
        product = (asked @ names["model"].document_weights(names["codes"]).T).toarray()[0]
        assert sorted(product[found]) == pytest.approx(sorted(product)[-10:], abs=1e-3)
        return
    elif name == "Seismic":
        found = [int(row) for _, _, row in names["hits"]]
    else:
        found = names["rows"][0].tolist()
        best = set(first["nearest"][0].tolist())
    assert len(best & set(found)) >= 7
