"""The pictures of figures 3 and 4: deterministic, of the right size, with few colours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from paper.figures import page as drawing
from PIL import Image


@pytest.fixture
def column() -> drawing.Column:
    noise = np.random.default_rng(0)
    probs = np.full(7, 1 / 7)
    plane = noise.normal(size=(60, 2))
    return drawing.Column("model", plane, "note", probs, probs, probs, probs, "note", probs, "note")


def test_strips_are_drawn_as_rows_of_images() -> None:
    images = np.random.default_rng(0).random((5, 8, 8))
    strips = [drawing.Strip("one", "note", images), drawing.Strip("two", "note", images, True)]
    content = drawing.draw_strips(strips)
    assert content == drawing.draw_strips(strips)
    picture = Image.open(io.BytesIO(content))
    assert picture.size == (round((2.9 + 0.8 * 5) * 130), round(1.6 * 130))
    assert len(picture.convert("RGB").getcolors(1000) or []) <= 128


def test_codes_are_drawn_for_one_and_two_models(column: drawing.Column) -> None:
    labels = np.arange(60) % 3
    plane, gates = column.plane, np.linspace(-3, 3, 50)
    for columns in ([column], [column, column]):
        rest = (labels, ("bits", plane, "note"), ("gates", gates), {"codes": 0.8, "bits": 0.1})
        content = drawing.draw_codes(columns, *rest)
        assert content == drawing.draw_codes(columns, *rest)
        assert Image.open(io.BytesIO(content)).size == (430 * (len(columns) + 1), 1160)


def test_a_label_is_placed_where_its_class_is_densest() -> None:
    noise = np.random.default_rng(0)
    parts = [noise.normal(size=(40, 2)), noise.normal(size=(30, 2)) + 50]
    place = drawing._densest(np.concatenate(parts))
    assert np.abs(place).max() < 1


def test_the_page_contains_its_figures_and_tables(tmp_path: Path) -> None:
    picture = drawing.Picture("Figure 9", b"png", "alternative text", "one < two")
    table = [["metric", "model"], ["nats", "1.5"]]
    path = drawing.write_figures_page(
        tmp_path / "p.html", [picture], [table], "description", "a command"
    )
    page = path.read_text()
    for part in (
        "Figure 9",
        "one &lt; two",
        "data:image/png;base64,cG5n",
        "<td>1.5</td>",
        "a command",
    ):
        assert part in page, part
