"""Kernels for hidden layers: bias, LayerNorm, GELU and the residual connection at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdlgm.kernels.launch import blank, launch, parts, power

__all__ = ["norm_gelu"]

PROGRAMS = 256
"""Programs of the backward pass, each of which sums the gradients of some rows' parameters."""


def norm_gelu(
    products: Tensor,
    bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    residual: Tensor | None = None,
) -> Tensor:
    r"""Return :math:`r + \mathrm{GELU}(\mathrm{LayerNorm}(x + b))`, differentiable once.

    Only ``products`` are saved for backward, where the rest is computed again. The gradients of
    the three vectors are summed in the same pass as that of the products.

    Parameters
    ----------
    products
        The layer's matrix products :math:`x`, shape ``(*batch, width)``.
    bias
        The layer's bias :math:`b`, shape ``(width,)``.
    scale, shift, eps
        Parameters of the LayerNorm.
    residual
        What to add (:math:`r`), of the shape of the products.
    """
    out: Tensor = _NormGELU.apply(products, bias, scale, shift, residual, eps)
    return out


class _NormGELU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        products: Tensor,
        bias: Tensor,
        scale: Tensor,
        shift: Tensor,
        residual: Tensor | None,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(products, bias, scale, shift)
        ctx.eps, out = eps, blank(products)
        width = products.shape[-1]
        _run(
            "forward", products.numel() // width, products, bias, scale, shift,
            products if residual is None else residual, out, eps,
            ADD=residual is not None, WIDTH=width, ROWS=1, BLOCK=power(width),
        )  # fmt: skip
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        products, bias, scale, shift = ctx.saved_tensors
        width = products.shape[-1]
        number = products.numel() // width
        out, steps = blank(products), parts(number, PROGRAMS)
        programs = parts(number, max(1, steps))
        sums = products.new_empty(programs, 3, width)
        _run(
            "backward", programs, products, bias, scale, shift, grad, out, sums, number, ctx.eps,
            STEPS=steps, WIDTH=width, ROWS=1, BLOCK=power(width),
        )  # fmt: skip
        return out, *sums.sum(0).unbind(), grad if ctx.needs_input_grad[4] else None, None


def _run(name: str, number: int, *arguments: Any, **constants: Any) -> None:
    """Launch a program, whose module imports Triton."""
    from sdlgm.kernels import layer_programs

    launch(getattr(layer_programs, name), number, *arguments, **constants)
