"""The model: its parts return distributions, in every setting."""

from __future__ import annotations

import math

import pytest
import torch

from helpers import tiny_model
from sdlgm.config import ModelConfig, preset
from sdlgm.data import Rows
from sdlgm.distributions import Grouped
from sdlgm.errors import DataError
from sdlgm.models import SDLGM
from sdlgm.nn import Residual, data_statistics


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("gates", ["learned", "open"])
@pytest.mark.parametrize("shared", [False, True])
def test_encoder_prior_and_decoder_return_distributions(
    groups: int, gates: str, shared: bool, generator: torch.Generator
) -> None:
    model = tiny_model(groups=groups, gates=gates, shared_trunk=shared)
    x = torch.ones(4, 5)
    posterior, prior = model(x), model.prior()
    assert isinstance(posterior, Grouped)
    assert (posterior.batch_shape, prior.batch_shape) == ((4,), ())
    z = posterior.sample((2,), generator=generator)
    assert z.shape == (2, 4, 3)
    assert (z.sum(-1) == 3).all() or gates == "learned"
    assert model.data_distribution(z).log_prob(x).shape == (2, 4)


@pytest.mark.parametrize("groups", [1, 3])
def test_joint_gates_put_closed_into_one_softmax_with_the_features(
    groups: int, generator: torch.Generator
) -> None:
    settings = {"features": 12, "budget": 3, "groups": groups}
    model, separate = tiny_model(joint_gates=True, **settings), tiny_model(**settings)
    x = torch.rand(4, 5, generator=generator)
    gates = separate(x).base.gate_logits - math.log(12 / groups)
    logits = separate(x).base.feature_logits
    softmax = torch.cat([logits, -gates.unsqueeze(-1)], -1).softmax(-1)
    torch.testing.assert_close(model(x).base.slot_log_probs.exp(), softmax)
    names = [name for name, _ in separate.named_parameters()]
    assert [name for name, _ in model.named_parameters()] == names


def test_posterior_gates_start_at_the_prior() -> None:
    means = [
        tiny_model(prior_gate=gate, budget=1, joint_gates=True)(torch.zeros(5)).mean_total.item()
        for gate in (0.05, 0.5, 0.95)
    ]
    assert means[0] < 0.12
    assert 0.2 < means[1] < 0.8
    assert means[2] > 0.88


def test_the_prior_starts_uniform_as_in_the_paper() -> None:
    prior = tiny_model(prior="fixed").prior()
    torch.testing.assert_close(prior.mean, torch.full((3,), 3 * 0.5 / 3))


def test_each_prior_setting_learns_its_own_parameters() -> None:
    kept = {
        "fixed": {"prior_gate_logits", "prior_feature_logits"},
        "learned_gates": {"prior_feature_logits"},
        "learned": set(),
    }
    for prior, names in kept.items():
        parameters = tiny_model(prior=prior).named_parameters()
        assert {name for name, each in parameters if not each.requires_grad} == names


def widths(network: torch.nn.Module) -> list[int]:
    """Widths of the linear layers of a network."""
    return [m.out_features for m in network.modules() if isinstance(m, torch.nn.Linear)]


def test_the_networks_of_the_plain_preset_are_the_papers() -> None:
    model = SDLGM(preset("plain")[0], data_statistics(torch.eye(784)))
    assert widths(model.encoder) == [512, 384, 256]
    assert widths(model.sparsity) == [256, 64]
    assert widths(model.decoder) == [256, 384, 512]
    assert (model.feature_head.out_features, model.gate_head.out_features) == (200, 40)


def test_encode_and_decode_take_all_rows_and_every_kind_of_input(
    generator: torch.Generator,
) -> None:
    model = tiny_model(groups=3)
    x = (torch.rand(23, 5, generator=generator) < 0.5).float()
    codes = model.encode(x, batch_size=4)
    assert codes.shape == (23, 3)
    with torch.no_grad():
        assert torch.equal(codes, model.posterior(x).mode)
        mean = model.data_distribution(codes).mean
    for given in (x.numpy(), x.tolist(), Rows(x), x.double()):
        assert torch.equal(model.encode(given, batch_size=4), codes)
    decoded = model.decode(codes.numpy(), batch_size=5)
    assert decoded.dtype == torch.float32
    torch.testing.assert_close(decoded, mean)
    assert (model.encode(x, code="best", max_active=1) > 0).sum(-1).max() == 1
    with pytest.raises(DataError, match="has 4 columns, but the model was trained on 5"):
        model.encode(x[:, :4])


def test_the_default_networks_for_bits_are_residual_with_a_shared_trunk() -> None:
    model = SDLGM(ModelConfig(), data_statistics(torch.eye(784)))
    assert widths(model.encoder) == widths(model.decoder) == [512, 512, 512]
    assert sum(isinstance(m, Residual) for m in model.encoder) == 2
    assert model.sparsity[0].in_features == 512
    assert widths(model.sparsity) == [256, 64]


def test_the_decoder_starts_near_the_mean_of_the_data(generator: torch.Generator) -> None:
    x = (torch.rand(500, 6, generator=generator) < torch.linspace(0.1, 0.9, 6)).float()
    model = SDLGM(ModelConfig(features=4, budget=2), data_statistics(x))
    bias = model.output_head.bias.detach()
    torch.testing.assert_close(torch.sigmoid(bias), x.mean(0), atol=1e-3, rtol=0)


def test_the_gaussian_encoder_is_invariant_to_units(generator: torch.Generator) -> None:
    x = torch.randn(50, 4, generator=generator)
    config = ModelConfig(features=4, budget=2, likelihood="gaussian")
    one, other = (SDLGM(config, data_statistics(scale * x + 7)) for scale in (1.0, 1000.0))
    torch.testing.assert_close(
        one(x + 7).base.gate_logits, other(1000 * x + 7).base.gate_logits, atol=1e-3, rtol=1e-3
    )


def test_temperatures_start_at_their_settings() -> None:
    model = tiny_model(gate_temperature=2.0, feature_temperature=0.5)
    assert model.gate_temperature.item() == pytest.approx(2)
    assert model.feature_temperature.item() == pytest.approx(0.5)
    assert math.isclose(model.log_gate_temperature.item(), math.log(2), rel_tol=1e-6)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "poisson", "categorical"])
def test_samples_decode_codes_drawn_from_the_prior(
    likelihood: str, generator: torch.Generator
) -> None:
    model = tiny_model(likelihood=likelihood, groups=3)
    codes, x = model.sample(4_000, generator)
    assert (codes.shape, x.shape) == ((4_000, 3), (4_000, 5))
    assert model.prior().support.check(codes).all()
    assert model.likelihood.check(Rows(x).summary) is None
    error = (codes.mean(0) - model.prior().mean) / (model.prior().variance / 4_000).sqrt()
    assert error.abs().max() < 5
    expected = model.data_distribution(codes).mean  # each sample's own
    assert ((x - expected).mean(0) / (x.var(0) / 4_000).sqrt()).abs().max() < 5
    again = model.sample(4_000, torch.Generator().manual_seed(9))
    assert all(map(torch.equal, again, model.sample(4_000, torch.Generator().manual_seed(9))))
    assert not torch.equal(again[0], codes)
    assert not x.requires_grad
