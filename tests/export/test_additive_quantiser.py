"""Indexes of faiss that hold a model's codebooks, compared with the model."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import linear_model, tiny_model
from sdlgm.errors import ConfigError, DataError, SDLGMError
from sdlgm.export import additive_codebooks, faiss_index, write_faiss
from sdlgm.inference import prefix_codes, scores
from sdlgm.models import SDLGM


def a_model(generator: torch.Generator, **settings: object) -> SDLGM:
    model = linear_model(**settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
        model.likelihood.shift.normal_(generator=generator)
        model.likelihood.unit.uniform_(0.5, 2, generator=generator)
    return model


SHAPES = [
    ({"features": 12, "gates": "learned"}, 4),  # 3 features and the closed slot
    ({"features": 16, "gates": "open"}, 4),
    ({"features": 20, "gates": "learned"}, 8),  # 5 and the closed slot, two unused
    ({"features": 12, "gates": "open"}, 4),  # 3, one unused
    ({"features": 4, "gates": "learned"}, 2),
    ({"features": 4, "gates": "open"}, 2),  # 1, one unused
]


@pytest.mark.parametrize(("settings", "entries"), SHAPES)
def test_codebooks_add_up_to_decoded_rows(settings, entries, generator) -> None:
    model = a_model(generator, **settings)
    books = additive_codebooks(model)
    assert books.shape == (4, entries, 5)
    assert books.dtype == np.float32
    codes = model.prior().sample((30,), generator=generator)
    size = settings["features"] // 4
    groups = codes.unflatten(-1, (4, size))
    places = torch.where(groups.sum(-1) > 0, groups.argmax(-1), size)
    added = sum(books[group][places[:, group]] for group in range(4))
    np.testing.assert_allclose(added, model.decode(codes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("settings", "entries"), SHAPES)
@pytest.mark.parametrize("metric", ["l2", "inner_product"])
def test_an_index_decodes_and_ranks_as_the_model(
    settings, entries, metric, generator, tmp_path: Path
) -> None:
    faiss = pytest.importorskip("faiss")
    model = a_model(generator, **settings)
    codes = model.prior().sample((30,), generator=generator)
    write_faiss(tmp_path / "index", faiss_index(model, codes.int().numpy(), metric))
    index = faiss.read_index(str(tmp_path / "index"))
    assert index.sa_code_size() == -(-4 * (entries.bit_length() - 1) // 8)
    np.testing.assert_allclose(
        index.reconstruct_n(0, 30), model.decode(codes), rtol=1e-5, atol=1e-5
    )
    queries = torch.randn(3, 5, generator=generator)
    found, _ = index.search(queries.numpy(), 30)
    expected = scores(model, queries, codes, metric).sort(descending=True).values
    sign = -1 if metric == "l2" else 1
    np.testing.assert_allclose(sign * found, expected, rtol=1e-4, atol=1e-4)


def test_an_index_of_prefixes_holds_their_groups_alone(generator) -> None:
    pytest.importorskip("faiss")
    model = a_model(generator, prefixes=(2,))
    codes = model.prior().sample((30,), generator=generator)
    index = faiss_index(model, codes, prefix=2)
    assert index.rq.M == 2
    decoded = model.decode(prefix_codes(model, codes, 2))
    np.testing.assert_allclose(index.reconstruct_n(0, 30), decoded, rtol=1e-4, atol=1e-4)


def test_faiss_encodes_with_the_codebooks(generator) -> None:
    pytest.importorskip("faiss")
    model = a_model(generator, features=16, gates="open")
    index = faiss_index(model)
    assert index.ntotal == 0
    index.rq.max_beam_size = 64  # all beginnings of a code
    rows = model.decode(model.prior().sample((20,), generator=generator)).numpy()
    index.add(rows)
    np.testing.assert_allclose(index.reconstruct_n(0, 20), rows, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{"groups": 2}, {"decoder_hidden": (4,)}, {"likelihood": "bernoulli"}]
)
def test_other_models_are_refused_with_the_cure(settings) -> None:
    known = {"features": 12, "budget": 4, "groups": 4, "encoder_hidden": ()}
    model = tiny_model(**known | {"likelihood": "gaussian"} | settings)
    with pytest.raises(ConfigError, match=r"one slot in each group.*decoder_hidden=\(\)"):
        additive_codebooks(model)


def test_codes_that_are_none_are_refused(generator) -> None:
    pytest.importorskip("faiss")
    closing, opened = a_model(generator), a_model(generator, gates="open")
    codes = torch.zeros(3, 12)
    assert faiss_index(closing, codes).ntotal == 3
    with pytest.raises(DataError, match=r"row 0 .* takes exactly one feature"):
        faiss_index(opened, codes)
    for wrong in ([1, 1, 0], [2, 0, 0], [0.5, 0, 0], [-1, 0, 0]):
        codes[1, 3:6] = torch.tensor(wrong)
        with pytest.raises(DataError, match=r"row 1 .* takes at most one feature"):
            faiss_index(closing, codes)
    with pytest.raises(ConfigError, match="metric must be 'l2' or 'inner_product'"):
        faiss_index(closing, metric="cosine")


def test_a_missing_faiss_is_a_sentence(generator, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(SDLGMError, match=r"needs faiss: pip install 'sdlgm\[vectors\]'"):
        faiss_index(a_model(generator))
