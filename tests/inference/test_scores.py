"""Search among codes: scores compared with decoding, weights with scores."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from helpers import linear_model, tiny_model
from sdlgm.errors import ConfigError, DataError
from sdlgm.inference import document_weights, is_linear, query_weights, scores
from sdlgm.inference import scores as scores_function
from sdlgm.models import SDLGM

METRICS = ["l2", "cosine", "inner_product"]
KINDS = {
    "linear": {},
    "deep": {"decoder_hidden": (8,)},
    "bernoulli": {"likelihood": "bernoulli"},
}


def a_model(generator: torch.Generator, **settings: object) -> SDLGM:
    known = {"features": 12, "budget": 4, "groups": 4, "encoder_hidden": ()}
    model = tiny_model(**known | {"likelihood": "gaussian"} | settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.7)
        if hasattr(model.likelihood, "shift"):
            model.likelihood.shift.normal_(generator=generator)
            model.likelihood.unit.uniform_(0.5, 2, generator=generator)
    return model


def codes_of(model: SDLGM, generator: torch.Generator, number: int = 40) -> torch.Tensor:
    return model.prior().sample((number,), generator=generator)


def by_decoding(model: SDLGM, queries: torch.Tensor, codes: torch.Tensor, metric: str):
    q, decoded = queries.double().numpy(), model.decode(codes).double().numpy()
    if metric == "l2":
        return -np.square(q[:, None] - decoded[None]).sum(-1)
    product = q @ decoded.T
    if metric == "inner_product":
        return product
    return product / np.outer(np.linalg.norm(q, axis=1), np.linalg.norm(decoded, axis=1))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_those_of_decoded_rows(kind, metric, generator) -> None:
    model = a_model(generator, **KINDS[kind])
    assert is_linear(model) == (kind == "linear")
    codes, queries = codes_of(model, generator), torch.randn(7, 5, generator=generator)
    expected = by_decoding(model, queries, codes, metric)
    found = scores(model, queries, codes, metric)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for same in (sp.csr_array(codes.numpy()), sp.coo_matrix(codes.numpy()), codes.int().numpy()):
        assert torch.equal(scores(model, queries.numpy(), same, metric), found)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_scores_in_small_blocks_are_the_same(kind, metric, generator, monkeypatch) -> None:
    model = a_model(generator, **KINDS[kind])
    codes, queries = codes_of(model, generator), torch.randn(7, 5, generator=generator)
    whole = scores(model, queries, codes, metric)
    monkeypatch.setitem(scores_function.__globals__, "CELLS", 40)
    torch.testing.assert_close(scores(model, queries, codes, metric), whole)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_norms_are_the_same_from_inner_products_and_from_decoding(
    metric, generator, monkeypatch
) -> None:
    model = a_model(generator)
    codes, queries = codes_of(model, generator), torch.randn(7, 5, generator=generator)
    by_products = scores(model, queries, codes, metric)
    monkeypatch.setitem(scores_function.__globals__, "LARGEST_GRAM", 0)
    torch.testing.assert_close(scores(model, queries, codes, metric), by_products)


def test_a_large_offset_costs_no_digits(generator) -> None:
    model = a_model(generator)
    with torch.no_grad():
        model.likelihood.shift.add_(1.7e9)
    codes = codes_of(model, generator)
    queries = 1.7e9 + torch.randn(7, 5, generator=generator).double()
    found = scores(model, queries, codes)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, by_decoding(model, queries, codes, "l2"), rtol=1e-5)


def test_several_slots_in_a_group_count(generator) -> None:
    model = a_model(generator, groups=2)
    codes, queries = codes_of(model, generator), torch.randn(3, 5, generator=generator)
    assert codes.max() == 2
    for metric in METRICS:
        expected = by_decoding(model, queries, codes, metric)
        np.testing.assert_allclose(
            scores(model, queries, codes, metric), expected, rtol=1e-4, atol=1e-5
        )


def test_a_decoded_row_or_query_of_zeros_has_cosine_zero(generator) -> None:
    model = linear_model()
    with torch.no_grad():
        model.likelihood.shift.zero_()
        model.output_head.bias.zero_()
    codes, queries = codes_of(model, generator), torch.zeros(2, 5)
    codes[0], queries[1] = 0, 1
    found = scores(model, queries, codes, "cosine")
    assert found.isfinite().all()
    assert not found[0].any()
    assert found[1, 0] == 0
    assert not document_weights(model, codes, "cosine")[[0]].nnz


@pytest.mark.parametrize("metric", METRICS)
def test_sparse_inner_products_of_weights_rank_as_scores(metric, generator) -> None:
    model = a_model(generator)
    codes, queries = codes_of(model, generator), torch.randn(7, 5, generator=generator)
    asked = query_weights(model, queries, metric)
    stored = document_weights(model, codes, metric)
    width = 12 + (metric != "inner_product")
    assert (asked.shape, stored.shape) == ((7, width), (40, width))
    assert (asked.dtype, stored.dtype) == (np.float32, np.float32)
    product = (asked @ stored.T).toarray()
    # L2 loses a constant of each query and half of the scale; the inner product a constant.
    found = product * 2 if metric == "l2" else product
    difference = found - scores(model, queries, codes, metric).numpy()
    assert np.ptp(difference, axis=1).max() < 1e-4
    if metric == "cosine":
        np.testing.assert_allclose(difference, 0, atol=1e-6)


def test_the_default_is_for_plain_codes(generator) -> None:
    for kind, metric in (("linear", "plain"), ("deep", "posterior")):
        model = a_model(generator, **KINDS[kind])
        codes, queries = codes_of(model, generator), torch.randn(4, 5, generator=generator)
        given, default = query_weights(model, queries, metric), query_weights(model, queries)
        assert np.array_equal(given.toarray(), default.toarray())
        assert np.array_equal(document_weights(model, codes).toarray(), codes.numpy())


@pytest.mark.parametrize(("groups", "gates"), [(4, "learned"), (4, "open"), (2, "learned")])
def test_plain_weights_are_distances_expected_under_the_prior(groups, gates, generator) -> None:
    model = a_model(generator, groups=groups, gates=gates)
    query = torch.randn(1, 5, generator=generator)
    codes = model.prior().sample((100_000,), generator=generator)
    half = scores(model, query, codes)[0].double() / 2
    weights = torch.from_numpy(query_weights(model, query, "plain").toarray()[0]).double()
    # Given that a slot holds k rather than j of its group, the mean score changes by their weights.
    size, slots = 12 // groups, 4 // groups
    of_group = codes[:, :size]
    full = of_group.sum(1) == slots
    means = []
    for feature in range(size):
        share = of_group[full, feature] / slots
        means.append((half[full] * share).sum() / share.sum())
    found = torch.stack(means) - means[0]
    expected = weights[:size] - weights[0]
    torch.testing.assert_close(found, expected, atol=0.05 * float(half.std()), rtol=0.1)


@pytest.mark.parametrize("gates", ["learned", "open"])
def test_log_odds_rank_as_the_posterior(gates, generator) -> None:
    model = a_model(generator, decoder_hidden=(8,), gates=gates)
    codes, queries = codes_of(model, generator), torch.randn(4, 5, generator=generator)
    product = (query_weights(model, queries) @ document_weights(model, codes).T).toarray()
    with torch.no_grad():
        posterior = model.posterior(queries)
        exact = posterior.expand((40, 4)).log_prob(codes[:, None].expand(-1, 4, -1)).T.numpy()
    assert np.ptp(product - exact, axis=1).max() < 1e-3


@pytest.mark.parametrize(("kind", "groups"), [("linear", 4), ("linear", 2), ("deep", 4)])
def test_positive_weights_rank_the_same(kind, groups, generator) -> None:
    model = a_model(generator, groups=groups, **KINDS[kind])
    codes, queries = codes_of(model, generator), torch.randn(7, 5, generator=generator)
    asked = query_weights(model, queries, positive=True)
    stored = document_weights(model, codes, positive=True)
    assert (asked.shape, stored.shape) == ((7, 13), (40, 13))
    assert min(asked.data.min(), stored.data.min()) > 0
    assert (stored.sum(1) == 4).all()
    plain = query_weights(model, queries) @ document_weights(model, codes).T
    assert np.ptp((asked @ stored.T - plain).toarray(), axis=1).max() < 1e-4
    limited = query_weights(model, queries, positive=True, top=3).toarray()
    assert ((limited > 0).sum(1) == 3).all()


def test_top_keeps_the_largest_weights_and_the_bias(generator) -> None:
    model = a_model(generator)
    queries = torch.randn(7, 5, generator=generator)
    full = query_weights(model, queries).toarray()
    kept = query_weights(model, queries, top=3).toarray()
    for row, all_of_row in zip(kept, full, strict=True):
        largest = np.argsort(-np.abs(all_of_row))[:3]
        assert set(np.flatnonzero(row)) == set(largest)
        assert np.array_equal(row[largest], all_of_row[largest])
    biased = query_weights(model, queries, "l2", top=3)
    assert np.array_equal(np.diff(biased.indptr), np.full(7, 3))
    assert (biased[:, [12]].toarray() == 1).all()
    assert query_weights(model, queries, top=12).nnz == query_weights(model, queries).nnz


@pytest.mark.parametrize("kind", ["linear", "deep"])
def test_top_positive_weights_are_those_above_the_rest(kind, generator) -> None:
    model = a_model(generator, **KINDS[kind])
    queries = torch.randn(7, 5, generator=generator)
    full = np.column_stack([query_weights(model, queries).toarray(), np.zeros(7)])
    kept = query_weights(model, queries, top=3, positive=True).toarray()
    expected = np.maximum(full - np.sort(full, axis=1)[:, [-4]], 0)
    np.testing.assert_allclose(kept, expected, atol=1e-5)
    assert ((kept > 0).sum(1) == 3).all()


def test_what_does_not_suit_is_refused_with_the_cure(generator) -> None:
    deep, linear = a_model(generator, decoder_hidden=(8,)), a_model(generator)
    queries, codes = torch.randn(4, 5), torch.zeros(3, 12)
    with pytest.raises(ConfigError, match="needs a linear decoder.*metric='posterior'"):
        query_weights(deep, queries, "cosine")
    with pytest.raises(ConfigError, match="needs a linear decoder"):
        document_weights(deep, codes, "l2")
    with pytest.raises(ConfigError, match="metric must be one of 'l2', 'cosine'"):
        scores(linear, queries, codes, "dot")
    with pytest.raises(ConfigError, match="metric must be one of"):
        scores(linear, queries, codes, "posterior")
    with pytest.raises(ConfigError, match="top must be at least 2 with metric 'l2', got 1"):
        query_weights(linear, queries, "l2", top=1)
    with pytest.raises(ConfigError, match="top must be at least 1"):
        query_weights(linear, queries, top=0)
    with pytest.raises(ConfigError, match="top = 3 with metric 'posterior' needs positive=True"):
        query_weights(deep, queries, top=3)
    assert query_weights(deep, queries, top=12).shape == (4, 12)
    with pytest.raises(
        ConfigError, match="positive does not suit metric 'l2'.*'plain', 'inner_product'"
    ):
        query_weights(linear, queries, "l2", positive=True)
    with pytest.raises(DataError, match="row 0 .* exceeds the budget of 4"):
        document_weights(linear, codes + 1, positive=True)
    with pytest.raises(DataError, match=r"\(3, 11\).*the model's 12 features"):
        scores(linear, queries, codes[:, 1:])
    with pytest.raises(DataError, match=r"\(4, 4\).*the 5 columns"):
        scores(linear, queries[:, 1:], codes)
    codes[1, 2] = torch.nan
    with pytest.raises(DataError, match="code in row 1 .* not finite"):
        document_weights(linear, codes)
    queries[2] = torch.inf
    with pytest.raises(DataError, match="query in row 2 .* not finite"):
        query_weights(linear, queries)
    queries[2] = 3e38
    with pytest.raises(DataError, match="the encoder overflows at row 2"):
        query_weights(deep, queries)


def test_nothing_gives_nothing(generator) -> None:
    model = a_model(generator)
    codes, queries = codes_of(model, generator), torch.randn(4, 5, generator=generator)
    assert scores(model, queries[:0], codes).shape == (0, 40)
    assert scores(model, queries, codes[:0], "cosine").shape == (4, 0)
    assert query_weights(model, queries[:0], "l2").shape == (0, 13)
    assert document_weights(model, codes[:0], "cosine").shape == (0, 13)


@pytest.mark.parametrize("settings", [{"levels": 2}, {"prior": "mixture"}])
def test_structured_codes_have_weights(settings: dict[str, object]) -> None:
    shape = {"features": 8, "budget": 4, "groups": 4, "likelihood": "gaussian", "prior": None}
    model = tiny_model(**{**shape, "decoder_hidden": (), **settings})
    rows = torch.randn(6, 5)
    for metric in ("plain", "posterior"):
        weights = query_weights(model, rows, metric, positive=metric == "posterior")
        assert weights.shape[0] == 6
        assert np.isfinite(weights.data).all()
