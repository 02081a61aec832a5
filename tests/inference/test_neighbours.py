"""The nearest codes of queries, compared with all scores."""

from __future__ import annotations

import pytest
import scipy.sparse as sp
import torch

from helpers import linear_model, tiny_model
from sdlgm.errors import ConfigError, DataError
from sdlgm.inference import nearest, neighbours, scores


def a_model(**settings):
    model = linear_model(**settings)
    with torch.no_grad():
        model.output_head.weight.normal_(generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("metric", ["l2", "cosine", "inner_product"])
@pytest.mark.parametrize("at_once", [2**24, 6 * 7, 1])
def test_the_nearest_codes_are_those_of_the_highest_scores(
    metric, at_once, generator, monkeypatch
) -> None:
    model = a_model()
    codes = model.prior().sample((40,), generator=generator)
    queries = torch.randn(6, 5, generator=generator)
    every = scores(model, queries, codes, metric)
    monkeypatch.setattr(neighbours, "SCORES_AT_ONCE", at_once)
    rows, found = nearest(model, queries, sp.csr_array(codes.numpy()), 9, metric)
    assert rows.shape == found.shape == (6, 9)
    torch.testing.assert_close(found, every.topk(9).values)
    torch.testing.assert_close(every.gather(1, rows), found)
    assert all(len(set(row.tolist())) == 9 for row in rows)


def test_fewer_codes_than_asked_for_are_all_returned(generator) -> None:
    model = tiny_model(likelihood="gaussian", features=12, budget=4, groups=2)  # decodes
    codes = model.prior().sample((3,), generator=generator)
    rows, found = nearest(model, torch.randn(2, 5, generator=generator), codes, 10)
    assert rows.sort(1).values.tolist() == [[0, 1, 2]] * 2
    assert found.shape == (2, 3)
    rows, found = nearest(model, torch.zeros(2, 5), codes[:0], 10)
    assert rows.shape == found.shape == (2, 0)


def test_wrong_arguments_are_refused(generator) -> None:
    model = a_model()
    codes = model.prior().sample((3,), generator=generator)
    with pytest.raises(ConfigError, match="number must be at least 1, got 0"):
        nearest(model, torch.zeros(1, 5), codes, 0)
    with pytest.raises(ConfigError, match=r"number must be an integer, got 2\.0"):
        nearest(model, torch.zeros(1, 5), codes, 2.0)
    with pytest.raises(ConfigError, match="metric must be one of"):
        nearest(model, torch.zeros(1, 5), codes, metric="l1")
    with pytest.raises(DataError, match="12 features"):
        nearest(model, torch.zeros(1, 5), codes[:, 1:])
    with pytest.raises(DataError, match="5 columns"):
        nearest(model, torch.zeros(1, 4), codes)
