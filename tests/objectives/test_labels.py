"""Label likelihoods against enumeration of codes, and sparse against dense."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from sdlgm.distributions import GatedMultinomial
from sdlgm.models import LabelModelConfig, SupervisedSDLGM
from sdlgm.nn import DataStatistics
from sdlgm.objectives.labels import absence, label_nll, log1mexp, negative_labelled_elbo


def code(generator: torch.Generator, budget: int = 3, labels: int = 3) -> GatedMultinomial:
    gates = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    features = torch.randn(2, 4, labels, generator=generator, dtype=torch.float64)
    return GatedMultinomial(budget, gates.requires_grad_(), features.requires_grad_())


def model(variant: str, members: int = 2, dtype: torch.dtype = torch.float64) -> SupervisedSDLGM:
    config = LabelModelConfig(
        inputs=4,
        labels=3,
        budget=2,
        latent_features=2 if variant == "conditional" else 0,
        decoder=variant != "discriminative",
        members=members,
        hidden=(6,),
        activation="tanh",
    )
    statistics = DataStatistics(torch.zeros(4), torch.ones(4), 2)
    source = torch.Generator().manual_seed(0)
    return SupervisedSDLGM(config, statistics, torch.tensor([0.1, 0.5, 0.7]), source).to(dtype)


def test_presence_matches_the_enumerated_codes(generator):
    q = code(generator)
    codes = q.enumerate_support()
    exact = (q.log_prob(codes).exp().unsqueeze(-1) * (codes == 0)).sum(0)
    torch.testing.assert_close(absence(q, 3, "presence", 1.0, None).exp(), exact)
    torch.testing.assert_close(absence(q, 2, "presence", 1.0, None).exp(), exact[..., :2])


def test_relaxed_samples_become_hard_as_the_temperature_falls(generator):
    q = code(generator)
    drawn = absence(q.expand((4000, 2, 4)), 3, "relaxed", 0.01, generator).exp().mean(0)
    torch.testing.assert_close(drawn, q.absence_log_probs.exp(), atol=0.04, rtol=0)


def test_listed_labels_give_the_dense_likelihood(generator):
    absent = absence(code(generator), 3, "presence", 1.0, None)
    y = (torch.rand(2, 4, 3, generator=generator) < 0.5).double()
    rows, columns = y.view(8, 3).nonzero(as_tuple=True)
    dense = F.binary_cross_entropy(1 - absent.exp(), y, reduction="none")
    torch.testing.assert_close(label_nll(absent, rows, columns), dense.sum(-1))
    weights = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(label_nll(absent, rows, columns, weights), (dense * weights).sum(-1))


def test_samples_without_labels_have_a_likelihood(generator):
    absent = absence(code(generator), 3, "presence", 1.0, None)
    none = torch.empty(0, dtype=torch.int64)
    torch.testing.assert_close(label_nll(absent, none, none), -absent.sum(-1))


def test_gradients_of_the_likelihood_pass_gradcheck(generator):
    rows, columns = torch.tensor([0, 0, 3, 7]), torch.tensor([0, 2, 1, 2])

    def loss(gates: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        absent = GatedMultinomial(3, gates, features, validate_args=False).absence_log_probs
        return label_nll(absent, rows, columns)

    q = code(generator)
    assert torch.autograd.gradcheck(loss, (q.gate_logits, q.feature_logits))


@pytest.mark.parametrize("spread", [50.0, 1000.0])
def test_extreme_logits_stay_finite(generator, spread):
    gates = (torch.randn(5, generator=generator) * spread).requires_grad_()
    features = (torch.randn(5, 4, generator=generator) * spread).requires_grad_()
    absent = GatedMultinomial(3, gates, features).absence_log_probs
    rows, columns = torch.arange(5), torch.tensor([0, 1, 2, 3, 0])
    loss = label_nll(absent, rows, columns).sum()
    loss.backward()
    assert loss.isfinite()
    assert gates.grad.isfinite().all()
    assert features.grad.isfinite().all()


def test_log1mexp_is_accurate_at_both_ends():
    a = torch.tensor([-1e-12, -0.5, -0.7, -30.0], dtype=torch.float64)
    exact = torch.log(-torch.expm1(a))
    torch.testing.assert_close(log1mexp(a), exact)
    assert log1mexp(torch.zeros(1)).isfinite().all()


@pytest.mark.parametrize("variant", ["generative", "conditional"])
def test_the_elbo_matches_enumeration(generator, variant):
    net = model(variant)
    x = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        q, p = net(x), net.prior().expand((2, 3))
        codes = q.enumerate_support()
        log_q, log_p = q.log_prob(codes), p.log_prob(codes)
        terms = torch.stack([-net.data_distribution(z).log_prob(x) for z in codes]) + log_q - log_p
        exact = (log_q.exp() * terms).sum(0)
        draws = [negative_labelled_elbo(net, q, x, "presence", 1.0, generator) for _ in range(3000)]
        mean = torch.stack(draws).mean(0)
        error = torch.stack(draws).std(0) / 3000**0.5
    assert ((mean - exact).abs() < 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("likelihood", ["presence", "relaxed"])
def test_the_elbo_has_gradients_for_encoder_decoder_and_prior(generator, likelihood):
    net = model("conditional", dtype=torch.float32)
    x = torch.randn(2, 3, 4, generator=generator)
    negative_labelled_elbo(net, net(x), x, likelihood, 1.0, generator).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_members_are_independent(generator):
    net = model("discriminative")
    x = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    before = net(x).absence_log_probs
    changed = x.clone()
    changed[1] += 1
    after = net(changed).absence_log_probs
    torch.testing.assert_close(before[0], after[0])
    assert (before[1] != after[1]).any()


def test_initial_presence_is_near_the_label_frequencies():
    net = model("discriminative")
    with torch.no_grad():
        net.feature_head.weight.zero_()
        net.gate_head.weight.zero_()
        presence = net(torch.zeros(2, 1, 4, dtype=torch.float64)).presence_probs[0, 0]
    for found, wanted in itertools.zip_longest(presence.tolist(), [0.1, 0.5, 0.7]):
        assert abs(found - wanted) < 0.12
