"""Prefixes of codes: cut to the first groups, within the smaller budget, in every kind of table."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from helpers import linear_model
from sdlgm.config import ModelConfig, TrainingConfig, from_dict, resolve_training, to_dict
from sdlgm.errors import ConfigError, DataError
from sdlgm.inference import choose_codes, prefix_codes, query_weights, scores
from sdlgm.inference.slots import counts_of

SETTINGS = ModelConfig(features=12, budget=4, likelihood="gaussian", prefixes=(1, 3))


def model_and_codes(**settings):
    source = torch.Generator().manual_seed(0)
    model = linear_model(prefixes=(1, 3), **settings)
    with torch.no_grad():
        model.output_head.weight.normal_(generator=source)
        model.prior_feature_logits.normal_(generator=source)
    return model, choose_codes(model, torch.randn(40, 5, generator=source))


@pytest.mark.parametrize("prefix", [1, 3])
def test_prefixes_keep_the_smaller_budget_and_the_first_groups(prefix) -> None:
    model = linear_model(prefixes=(1, 3))
    slots = torch.tensor(list(itertools.product(range(4), repeat=4)))  # 3 is closed
    codes = counts_of(slots, 4, 3)
    cut = prefix_codes(model, codes, prefix)
    assert (cut.sum(1) <= prefix).all()
    assert torch.equal(cut[:, : 3 * prefix], codes[:, : 3 * prefix])
    assert not cut[:, 3 * prefix :].any()


def test_tensors_arrays_and_sparse_tables_have_the_same_prefixes() -> None:
    model, codes = model_and_codes()
    before = codes.clone()
    cut = prefix_codes(model, codes, 3)
    array = prefix_codes(model, codes.numpy().astype(np.int32), 3)
    assert array.dtype == np.int32
    assert np.array_equal(array, cut)
    for kind in (sp.csr_array, sp.csr_matrix, sp.coo_array):
        table = prefix_codes(model, kind(codes.numpy()), 3)
        assert isinstance(table, sp.csr_array)
        assert table.shape == (40, 12)
        assert np.array_equal(table.toarray(), cut)
    assert torch.equal(codes, before)
    assert prefix_codes(model, codes[:0], 3).shape == (0, 12)


def test_a_prefix_of_a_prefix_is_the_shorter_one() -> None:
    model, codes = model_and_codes()
    twice = prefix_codes(model, prefix_codes(model, codes, 3), 1)
    assert torch.equal(twice, prefix_codes(model, codes, 1))


def test_prefixes_that_were_not_trained_are_refused_with_the_cure() -> None:
    model, codes = model_and_codes()
    with pytest.raises(ConfigError, match=r"prefix = 2, .*trained with prefixes = \[1, 3\]"):
        prefix_codes(model, codes, 2)
    with pytest.raises(ConfigError, match=r"trained with no prefixes.*Train a model"):
        prefix_codes(linear_model(), codes, 1)
    with pytest.raises(DataError, match=r"shape \(40, 9\).*12 features"):
        prefix_codes(model, codes[:, :9], 1)


def test_queries_rank_prefixes_by_expected_distances_of_their_own_groups(generator) -> None:
    model, codes = model_and_codes()
    cut = prefix_codes(model, codes, 1)
    queries = torch.randn(6, 5, generator=generator)
    weights = query_weights(model, queries, "plain", prefix=1)
    assert weights.shape == (6, 12)
    assert weights[:, [*range(3, 12)]].count_nonzero() == 0
    found = (weights @ sp.csr_array(cut.numpy()).T).toarray()
    exact = scores(model, queries, cut).numpy() / 2  # with one group nothing is only expected
    np.testing.assert_allclose(np.diff(found, axis=1), np.diff(exact, axis=1), atol=1e-4)
    top = query_weights(model, queries, "l2", prefix=3, top=4)
    assert top[:, [*range(9, 12)]].count_nonzero() == 0
    assert (top[:, [12]].toarray() == 1).all()


@pytest.mark.parametrize("prefixes", [(0,), (4,), (5,), (2, 2), (3, 1), (-1,)])
def test_prefixes_ascend_below_the_number_of_groups(prefixes) -> None:
    with pytest.raises(ConfigError, match="ascend from at least 1 to below groups = 4"):
        dataclasses.replace(SETTINGS, prefixes=prefixes)


@pytest.mark.parametrize(
    "changes",
    [{"likelihood": "bernoulli"}, {"decoder_hidden": (8,)}, {"gates": "open"},
     {"budget": 8}, {"prior": "mixture"}, {"levels": 2}],
)  # fmt: skip
def test_prefixes_need_codes_that_are_searched_for_and_slots_that_close(changes) -> None:
    values = to_dict(SETTINGS) | {"prior": None, "decoder_hidden": None} | changes
    with pytest.raises(ConfigError, match="prefixes need likelihood = 'gaussian'"):
        from_dict(ModelConfig, values)


def test_gradient_training_refuses_prefixes() -> None:
    assert resolve_training(TrainingConfig(), SETTINGS).objective == "rate_distortion"
    with pytest.raises(ConfigError, match="prefixes are trained by objective = 'rate_distortion'"):
        resolve_training(TrainingConfig(objective="elbo"), SETTINGS)
    wide = dataclasses.replace(SETTINGS, features=20_000)
    with pytest.raises(ConfigError, match="up to 16,384"):
        resolve_training(TrainingConfig(), wide)


def test_settings_without_prefixes_are_written_as_before() -> None:
    assert "prefixes" not in to_dict(dataclasses.replace(SETTINGS, prefixes=()))
    assert from_dict(ModelConfig, to_dict(SETTINGS)) == SETTINGS
