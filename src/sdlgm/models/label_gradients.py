"""Gradients of a discriminative model of labels without autograd.

The matrix products of a small network take less time than what autograd does around its
operations. So the products of the backward pass are written out for the model that is fitted by
default; for all others there is autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdlgm.models.supervised import LabelModelConfig, SupervisedSDLGM
from sdlgm.nn.ensemble import drop_, kept_scale
from sdlgm.objectives.labels import presence_gradients

__all__ = ["LabelGradients", "written_out"]


def written_out(config: LabelModelConfig) -> bool:
    """Return whether :class:`LabelGradients` is for models of this shape."""
    return (
        not config.decoder
        and not config.latent_features
        and not config.input_noise
        and config.activation == "relu"
        and config.normalisation == "none"
    )


class LabelGradients:
    """Computes the loss of batches and the gradients of all parameters of a model.

    Parameters
    ----------
    model
        A model that is :func:`written_out`, on its final device.
    """

    def __init__(self, model: SupervisedSDLGM) -> None:
        self.config = model.config
        self._layers = [(each.weight, each.bias) for each in model.encoder.linear_layers()]
        self._features = model.feature_head.weight, model.feature_head.bias
        self._gates = model.gate_head.weight, model.gate_head.bias

    @torch.no_grad()
    def __call__(
        self, x: Tensor, labels: Tensor, weights: Tensor | None, noise: torch.Generator | None
    ) -> Tensor:
        """Set the gradients; return the mean loss of the labels (nats).

        Parameters
        ----------
        x
            Inputs, shape ``(members, b, inputs)``; they are overwritten.
        labels
            0 or 1, shape ``(members, b, K)``, in the type of the model.
        weights
            Weight of each label, of a shape that broadcasts with that of ``labels``, or ``None``.
        noise
            Source of dropout; ``None`` disables it.
        """
        share = self.config.dropout
        read = [drop_(x, self.config.input_dropout, noise)]
        for weight, bias in self._layers:
            read.append(drop_(torch.baddbmm(bias, read[-1], weight).relu_(), share, noise))
        last = read.pop()
        # The heads are computed transposed: they may have few outputs, see EnsembleLinear.
        gates, features = (
            torch.baddbmm(bias.mT, weight.mT, last.mT)
            for weight, bias in (self._gates, self._features)
        )
        loss, of_gates, of_features = presence_gradients(
            self.config.budget,
            gates,
            features,
            labels.mT,
            None if weights is None else torch.atleast_2d(weights).mT,
        )
        for (weight, bias), grad in ((self._features, of_features), (self._gates, of_gates)):
            torch.bmm(last.mT, grad.mT, out=_gradient(weight))
            torch.sum(grad, 2, keepdim=True, out=_gradient(bias).mT)
        grad = torch.bmm(of_features.mT, self._features[0].mT)
        grad.baddbmm_(of_gates.mT, self._gates[0].mT)
        scale = 1.0 if noise is None else kept_scale(share)
        for weight, bias in reversed(self._layers):
            # A hidden unit that is not 0 has passed the activation and the dropout.
            grad.mul_(last.sign_().mul_(scale))
            last = read.pop()
            torch.bmm(last.mT, grad, out=_gradient(weight))
            torch.sum(grad, 1, keepdim=True, out=_gradient(bias))
            if read:
                grad = torch.bmm(grad, weight.mT)
        return loss


def _gradient(parameter: Tensor) -> Tensor:
    """Return where the gradient of a parameter is stored: one place, which stays in the cache."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad
