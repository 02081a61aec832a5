"""The parts of a training step as separate calls on tensors of the same shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sdlgm.config import ModelConfig, preset
from sdlgm.distributions import Grouped, greedy, kl_terms
from sdlgm.gradients import get_estimator
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.random import generator
from sdlgm.training.step import Trainer, kl_weight, rate_schedule

__all__ = ["PRODUCTS", "Step"]

PRODUCTS = "matrix products"
Call = Callable[[], Any]


class Step:
    """A model, its training step, and the parts of the step.

    Parameters
    ----------
    config
        Settings of the model.
    batch, inputs
        Number of rows of a batch, and of bits of a row.
    """

    def __init__(self, config: ModelConfig, batch: int, inputs: int) -> None:
        probability = torch.full((inputs,), 0.13)
        statistics = DataStatistics(probability, torch.ones(inputs), 2)
        self.model = SDLGM(config, statistics, generator(0, "weights"))
        self.config = preset("plain", accelerator="cpu")[1]
        self.trainer = Trainer(self.model, self.config)
        self.source = generator(0, "bits")
        self.x = torch.bernoulli(probability.expand(batch, inputs), generator=self.source)
        self.number = 0
        self.step()

    def step(self) -> None:
        """Take a training step."""
        self.trainer.step(self.x, self.number)
        self.number += 1

    def networks(self) -> dict[str, list[nn.Module]]:
        """Return the layers of each network, heads included, in order."""
        model = self.model
        return {
            "encoder": [*model.encoder, model.feature_head],
            "sparsity net": [*model.sparsity, model.gate_head],
            "decoder": [*model.decoder, model.output_head],
        }

    def products(self, network: str) -> Call:
        """Return a call that makes the matrix products of a network, forward and backward.

        For a linear layer with weights ``W`` of shape ``(out, in)`` these are ``x W'``, ``g' x``
        and ``g W``. Layers that read the data do not need the last one.
        """
        calls: list[tuple[Tensor, Tensor, Tensor]] = []
        reads_data = network == "encoder" or (
            network == "sparsity net" and not self.model.config.shared_trunk
        )
        for layer in self.networks()[network]:
            if isinstance(layer, nn.Linear):
                weight = layer.weight.detach()
                x, grad = self._noise(weight.shape[1]), self._noise(weight.shape[0])
                calls += [
                    (x, weight.t(), torch.empty_like(grad)),
                    (grad.t(), x, torch.empty_like(weight)),
                ]
                if not reads_data:
                    calls.append((grad, weight, torch.empty_like(x)))
                reads_data = False

        def run() -> None:
            for left, right, out in calls:
                torch.mm(left, right, out=out)

        return run

    def parts(self) -> Iterator[tuple[str, Call]]:
        """Yield the name and the call of each part that is timed separately."""
        for network in self.networks():
            yield f"{PRODUCTS}: {network}", self.products(network)
        yield "biases", self._biases
        for name, kind in (("LayerNorm", nn.LayerNorm), ("GELU", nn.GELU)):
            yield name, self._pointwise(kind)
        posterior, prior = self._codes()
        likelihood = self._likelihood()
        yield "likelihood", likelihood
        yield "probabilities of the codes", lambda: _probabilities(posterior(), prior())
        known, known_prior = posterior(), prior()
        _probabilities(known, known_prior)
        yield "KL", lambda: kl_terms(known, known_prior).total.sum().backward()
        noise = generator(0, "noise")
        yield "draws", lambda: known.sample(generator=noise)
        yield "gradient estimator (without its draws)", self._estimator(known)
        yield "Adam", self.trainer.adam.step
        yield "logged means", lambda: _logged(known_codes, len(self.x))
        known_codes = known.sample(generator=noise)
        yield "noise generator and schedules", self._schedules

    def _biases(self) -> None:
        """Sum the gradients of the biases; the products include adding the biases."""
        for grad in self._grads:
            grad.sum(0)

    @property
    def _grads(self) -> list[Tensor]:
        if not hasattr(self, "_kept"):
            self._kept = [
                self._noise(layer.out_features)
                for layer in self.model.modules()
                if isinstance(layer, nn.Linear)
            ]
        return self._kept

    def _noise(self, width: int) -> Tensor:
        return torch.randn(len(self.x), width, generator=self.source)

    def _pointwise(self, kind: type[nn.Module]) -> Call:
        """Return a call that runs all layers of a kind, forward and backward."""
        given: list[tuple[nn.Module, Tensor, Tensor]] = []
        for layers in self.networks().values():
            width = 0
            for layer in layers:
                if isinstance(layer, nn.Linear):
                    width = layer.out_features
                elif isinstance(layer, kind):
                    x = self._noise(width).requires_grad_()
                    given.append((layer, x, self._noise(width)))

        def run() -> None:
            for layer, x, grad in given:
                torch.autograd.grad(layer(x), [x, *layer.parameters()], grad)

        return run

    def _codes(self) -> tuple[Callable[[], Grouped], Callable[[], Grouped]]:
        """Return calls that make the posterior from given logits, and the prior."""
        model = self.model
        with torch.no_grad():
            found = greedy(model(self.x)).base
        gates = found.gate_logits.clone().requires_grad_()
        features = found.feature_logits.flatten(-2).clone().requires_grad_()
        return lambda: model._code(gates, features), lambda: greedy(model.prior())

    def _likelihood(self) -> Call:
        raw = self._noise(self.model.likelihood.n_outputs).requires_grad_()

        def run() -> None:
            loss = -self.model.likelihood(raw).log_prob(self.x)
            torch.autograd.grad(loss.sum(), raw)

        return run

    def _estimator(self, posterior: Grouped) -> Call:
        """Return a call of the gradient estimator on codes that are drawn in advance."""
        codes = posterior.sample(generator=generator(0, "noise"))
        upstream = self._noise(codes.shape[-1])
        estimator = get_estimator(str(self.config.estimator))
        drawn = _Drawn(posterior, codes)
        wanted = [posterior.base.gate_logits, posterior.base.feature_logits]

        def run() -> None:
            surrogate = estimator(drawn, lambda z: (z * upstream).sum(-1)).surrogate
            torch.autograd.grad(surrogate.sum(), wanted)

        return run

    def _schedules(self) -> None:
        generator(self.config.seed, "noise", self.number)
        rate_schedule(self.config)(self.number)
        kl_weight(self.config, self.number)


class _Drawn(Grouped):
    """A posterior whose samples are drawn in advance."""

    def __init__(self, posterior: Grouped, codes: Tensor) -> None:
        super().__init__(posterior.base)
        self.codes = codes

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        return self.codes


def _probabilities(*codes: Grouped) -> None:
    """Compute the probabilities that KL, sampling and gradient share."""
    for code in codes:
        _ = code.base.open_prob, code.base.closed_log_prob, code.base.feature_probs  # type: ignore[union-attr]


def _logged(codes: Tensor, rows: int) -> Tensor:
    """Compute the values that :class:`sdlgm.training.step.Objective` logs."""
    means = torch.stack([codes[:, 0]] * 3).mean(-1)
    return torch.cat([means, (torch.count_nonzero(codes) / rows).view(1)])
