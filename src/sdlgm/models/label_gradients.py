"""Gradients of a discriminative model of labels without autograd.

The matrix products of a small network take less time than what autograd does around its
operations. So the products of the backward pass are written out for the model that is fitted by
default; for all others there is autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdlgm.models.supervised import LabelModelConfig, SupervisedSDLGM
from sdlgm.nn.ensemble import drop_, kept_scale, product, weight_gradient
from sdlgm.objectives.labels import presence_gradients

__all__ = ["label_gradients", "written_out"]


def written_out(config: LabelModelConfig) -> bool:
    """Return whether :func:`label_gradients` is for models of this shape."""
    return (
        not config.decoder
        and not config.latent_features
        and not config.input_noise
        and config.activation == "relu"
        and config.normalisation == "none"
    )


@torch.no_grad()
def label_gradients(
    model: SupervisedSDLGM,
    x: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    noise: torch.Generator | None,
) -> Tensor:
    """Set the gradients of all parameters; return the mean loss of the labels (nats).

    Parameters
    ----------
    model
        A model that is :func:`written_out`.
    x
        Inputs, shape ``(members, b, inputs)``; they are overwritten.
    labels, weights
        See :func:`~sdlgm.objectives.labels.presence_gradients`; the batch is ``(members, b)``.
    noise
        Source of dropout; ``None`` disables it.
    """
    config, layers = model.config, model.encoder.linear_layers()
    read = [drop_(x, config.input_dropout, noise)]
    for layer in layers:
        hidden = product(read[-1], layer.weight, layer.bias).relu_()
        read.append(drop_(hidden, config.dropout, noise))
    heads = (model.feature_head, model.gate_head)
    weight = torch.cat([head.weight for head in heads], -1)
    bias = torch.cat([head.bias for head in heads], -1)
    logits = product(read[-1], weight, bias)
    loss, into_gates, into_features = presence_gradients(
        config.budget, logits[..., -1], logits[..., :-1], labels, weights
    )
    grad = torch.cat([into_features, into_gates.unsqueeze(-1)], -1)
    widths = [head.weight.shape[-1] for head in heads]
    of_weights = weight_gradient(read[-1], grad).split(widths, -1)
    of_biases = grad.sum(1, keepdim=True).split(widths, -1)
    for head, of_weight, of_bias in zip(heads, of_weights, of_biases, strict=True):
        _gradient(head.weight).copy_(of_weight)
        _gradient(head.bias).copy_(of_bias)
    scale = 1.0 if noise is None else kept_scale(config.dropout)
    for place in reversed(range(len(layers))):
        # A hidden unit that is not 0 has passed the activation and the dropout.
        grad = torch.bmm(grad, weight.mT).mul_(read[place + 1].sign_().mul_(scale))
        weight, bias = layers[place].weight, layers[place].bias
        torch.bmm(read[place].mT, grad, out=_gradient(weight))
        torch.sum(grad, 1, keepdim=True, out=_gradient(bias))
    return loss


def _gradient(parameter: Tensor) -> Tensor:
    """Return where the gradient of a parameter is stored, which stays in the cache."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad
