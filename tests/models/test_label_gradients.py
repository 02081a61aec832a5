"""Gradients that are written out equal those of autograd."""

from __future__ import annotations

import pytest
import torch

from sdlgm.models import LabelModelConfig, SupervisedSDLGM
from sdlgm.models.label_gradients import LabelGradients, written_out
from sdlgm.nn import DataStatistics
from sdlgm.objectives.labels import absence, label_nll


def model(
    hidden: tuple[int, ...], labels: int, dropout: float = 0.0, input_dropout: float = 0.0
) -> SupervisedSDLGM:
    config = LabelModelConfig(
        inputs=5,
        labels=labels,
        budget=4,
        members=3,
        hidden=hidden,
        dropout=dropout,
        input_dropout=input_dropout,
    )
    statistics = DataStatistics(torch.zeros(5), torch.ones(5), 2)
    presence = torch.linspace(0.1, 0.6, labels)
    source = torch.Generator().manual_seed(1)
    return SupervisedSDLGM(config, statistics, presence, source).double()


def batch(generator: torch.Generator, labels: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(3, 7, 5, generator=generator, dtype=torch.float64)
    return x, (torch.rand(3, 7, labels, generator=generator) < 0.4).double()


def by_autograd(
    net: SupervisedSDLGM,
    x: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None,
    noise: torch.Generator | None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    absent = absence(net(x, noise), labels.shape[-1], "presence", 1.0, None)
    present = labels.flatten(0, 1).nonzero(as_tuple=True)
    full = None if weights is None else weights.expand(labels.shape)
    loss = label_nll(absent, *present, full).mean()
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    net.zero_grad()
    return loss.detach(), found


@pytest.mark.parametrize("hidden", [(), (20,), (6, 17)])
@pytest.mark.parametrize("labels", [1, 4, 30])
@pytest.mark.parametrize("shares", [(0.0, 0.0), (0.5, 0.5), (0.3, 0.25)])
def test_loss_and_gradients_are_those_of_autograd(generator, hidden, labels, shares):
    net = model(hidden, labels, *shares)
    x, y = batch(generator, labels)
    loss, wanted = by_autograd(net, x, y, None, torch.Generator().manual_seed(2))
    for _ in range(2):  # the second time, gradients are there already
        found = LabelGradients(net)(x.clone(), y, None, torch.Generator().manual_seed(2))
        torch.testing.assert_close(found, loss)
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(parameter.grad, wanted[name], msg=name)


@pytest.mark.parametrize("shape", [(4,), (3, 7, 1), (3, 7, 4)])
def test_weights_of_labels_and_rows_count(generator, shape):
    net = model((20,), 4)
    x, y = batch(generator, 4)
    weights = torch.rand(shape, generator=generator, dtype=torch.float64)
    loss, wanted = by_autograd(net, x, y, weights, None)
    torch.testing.assert_close(LabelGradients(net)(x.clone(), y, weights, None), loss)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], msg=name)


@pytest.mark.parametrize("spread", [50.0, 1000.0])
def test_extreme_logits_have_finite_gradients(generator, spread):
    net = model((20,), 4).float()
    x, y = batch(generator, 4)
    assert LabelGradients(net)(x.float() * spread, y.float(), None, None).isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize(
    "setting",
    [
        {"decoder": True},
        {"latent_features": 2},
        {"input_noise": 0.1},
        {"activation": "tanh"},
        {"normalisation": "layer"},
    ],
)
def test_other_models_are_left_to_autograd(setting):
    assert written_out(LabelModelConfig(inputs=2, labels=3, budget=2))
    assert not written_out(LabelModelConfig(inputs=2, labels=3, budget=2, **setting))
