"""The baselines of the timing experiment: training and losses."""

from __future__ import annotations

import pytest
import torch
from paper.timing.models import (
    Autoencoder,
    BaselineModel,
    GaussianVAE,
    GumbelSoftmaxVAE,
    TopKAutoencoder,
)

BASELINES = [Autoencoder, GaussianVAE, GumbelSoftmaxVAE, TopKAutoencoder]


@pytest.mark.parametrize("baseline", BASELINES)
def test_training_reduces_the_loss(baseline: type[BaselineModel]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = baseline(16, (12, 8), "gelu", "layer")
        x = torch.bernoulli(torch.full((4, 16), 0.5)).repeat(8, 1)
        losses = [float(network.step(x, step)) for step in range(300)]
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


def test_top_k_codes_keep_forty_entries() -> None:
    network = TopKAutoencoder(16, (12,), "relu", "none")
    codes = []
    network.decoder.register_forward_pre_hook(lambda _, inputs: codes.append(inputs[0]))
    x = torch.ones(3, 16)
    network.loss(x)
    assert codes[0].shape == (3, 200)
    assert int((codes[0] != 0).sum(-1).max()) <= 40
    raw = network.encoder(x)
    expected = torch.where(raw >= raw.topk(40).values[:, -1:], raw.relu(), 0.0)
    torch.testing.assert_close(codes[0], expected)


def test_gaussian_kl_equals_the_kl_of_torch() -> None:
    network = GaussianVAE(16, (12,), "relu", "none").double()
    x = torch.ones(3, 16, dtype=torch.float64)
    mean, log_variance = network.encoder(x).chunk(2, -1)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    exact = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        loss = network.loss(x)
        torch.manual_seed(3)
        code = mean + q.scale * torch.randn_like(mean)
    torch.testing.assert_close(loss, (network.error(x, code) + exact).mean())
