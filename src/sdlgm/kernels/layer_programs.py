"""The programs of :mod:`sdlgm.kernels.layers`, which describes their arguments.

A program works on one row at a time; ``BLOCK`` is a power of two of at least ``WIDTH`` columns.
"""

# Triton reads the source of these functions: no annotations but tl.constexpr.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202, D103, N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _normal_cdf(x):
    return 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _standardise(x, inside, eps, WIDTH: tl.constexpr):
    """Return a row centred and scaled, and the scale."""
    centred = tl.where(inside, x - tl.sum(x, 0) / WIDTH, 0.0)
    rate = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / WIDTH + eps)
    return centred * rate, rate


@triton.jit
def forward(
    products, bias, scale, shift, residual, out, eps,
    ADD: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    x = tl.load(products + row * WIDTH + column, mask=inside, other=0.0)
    x += tl.load(bias + column, mask=inside, other=0.0)
    standard, _ = _standardise(x, inside, eps, WIDTH)
    y = standard * tl.load(scale + column, mask=inside, other=0.0)
    y += tl.load(shift + column, mask=inside, other=0.0)
    y = y * _normal_cdf(y)
    if ADD:
        y += tl.load(residual + row * WIDTH + column, mask=inside, other=0.0)
    tl.store(out + row * WIDTH + column, y, mask=inside)


@triton.jit
def backward(
    products, bias, scale, shift, grads, out, sums, number, eps,
    STEPS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    offset = tl.load(bias + column, mask=inside, other=0.0)
    factor = tl.load(scale + column, mask=inside, other=0.0)
    constant = tl.load(shift + column, mask=inside, other=0.0)
    of_bias = tl.zeros([BLOCK], tl.float32)
    of_scale = tl.zeros([BLOCK], tl.float32)
    of_shift = tl.zeros([BLOCK], tl.float32)
    for step in range(STEPS):
        row = program.to(tl.int64) * STEPS + step
        here = inside & (row < number)
        place = row * WIDTH + column
        x = tl.load(products + place, mask=here, other=0.0) + offset
        standard, rate = _standardise(x, inside, eps, WIDTH)
        y = standard * factor + constant
        density = 0.3989422804014327 * tl.exp(-0.5 * y * y)
        grad = tl.load(grads + place, mask=here, other=0.0) * (_normal_cdf(y) + y * density)
        of_scale += grad * standard
        of_shift += grad
        grad *= factor
        mean = tl.sum(grad, 0) / WIDTH
        slope = tl.sum(grad * standard, 0) / WIDTH
        grad = tl.where(inside, rate * (grad - mean - standard * slope), 0.0)
        of_bias += grad
        tl.store(out + place, grad, mask=here)
    start = program * 3 * WIDTH
    tl.store(sums + start + column, of_bias, mask=inside)
    tl.store(sums + start + WIDTH + column, of_scale, mask=inside)
    tl.store(sums + start + 2 * WIDTH + column, of_shift, mask=inside)
