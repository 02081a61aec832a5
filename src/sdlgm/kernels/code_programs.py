"""The programs of :mod:`sdlgm.kernels.codes`, which describes their arguments.

A program works on tiles of ``ROWS`` rows (a row is a group of a sample, or a slot) and ``BLOCK``
columns, the features and as many more as make a power of two. Columns beyond the features have
probability 0.
"""

# Triton reads the source of these functions: no annotations but tl.constexpr, and no helpers of
# Python.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202, D103, N803

from __future__ import annotations

import triton
import triton.language as tl

NONE = tl.constexpr(float("-inf"))


@triton.jit
def _log_sigmoid(x):
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def _log_softmax(logits):
    """Normalise rows; padding is -inf and stays so."""
    shifted = logits - tl.max(logits, 1)[:, None]
    return shifted - tl.log(tl.sum(tl.exp(shifted), 1))[:, None]


@triton.jit
def _log_ratio(probs, log_q, log_p):
    """Return log_q - log_p where the probabilities are positive, and 0 elsewhere."""
    return tl.where(probs > 0.0, log_q - log_p, 0.0)


@triton.jit
def draw(
    gates, features, uniform, counts, number, draws,
    SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) // draws * ROWS + tl.arange(0, ROWS)
    which = tl.program_id(0) % draws
    column = tl.arange(0, BLOCK)
    here = row < number
    inside = here[:, None] & (column < WIDTH)[None, :]
    place = row.to(tl.int64)[:, None] * WIDTH + column[None, :]
    logits = tl.load(features + place, mask=inside, other=NONE)
    logits = tl.where(here[:, None], logits, 0.0)
    cdf = tl.cumsum(tl.exp(_log_softmax(logits)).to(tl.float64), 1)
    whole = tl.max(cdf, 1)
    opened = tl.exp(_log_sigmoid(tl.load(gates + row, mask=here, other=0.0))).to(tl.float64)
    found = tl.zeros([ROWS, BLOCK], tl.float32)
    for slot in range(SLOTS):
        at = (row.to(tl.int64) * draws + which) * SLOTS + slot
        noise = tl.load(uniform + at, mask=here, other=0.0)
        # Given an open gate, the number is uniform between 0 and the gate's probability.
        point = noise * (whole / opened)
        index = tl.minimum(tl.sum((cdf <= point[:, None]).to(tl.int32), 1), WIDTH - 1)
        hit = (column[None, :] == index[:, None]) & (noise < opened)[:, None]
        found += hit.to(tl.float32)
    start = which.to(tl.int64) * number * WIDTH
    tl.store(counts + start + place, found, mask=inside)


@triton.jit
def kl(
    q_gates, q_features, p_gates, p_features, gates, features, p_number,
    TOTAL: tl.constexpr, GROUPS: tl.constexpr, EXACT: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    sample = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    of_gates = tl.zeros([ROWS], tl.float32)
    of_features = tl.zeros([ROWS], tl.float32)
    for first in range(0, GROUPS, ROWS):
        group = first + tl.arange(0, ROWS)
        here = group < GROUPS
        inside = here[:, None] & (column < WIDTH)[None, :]
        row = sample.to(tl.int64) * GROUPS + group
        other = row % p_number
        gate_q = tl.load(q_gates + row, mask=here, other=0.0)
        gate_p = tl.load(p_gates + other, mask=here, other=0.0)
        log_q = tl.load(
            q_features + row[:, None] * WIDTH + column[None, :], mask=inside, other=NONE
        )
        log_p = tl.load(
            p_features + other[:, None] * WIDTH + column[None, :], mask=inside, other=NONE
        )
        log_q = _log_softmax(tl.where(here[:, None], log_q, 0.0))
        log_p = _log_softmax(tl.where(here[:, None], log_p, 0.0))
        probs = tl.exp(log_q)
        divergence = tl.sum(probs * _log_ratio(probs, log_q, log_p), 1)
        opened = tl.exp(_log_sigmoid(gate_q))
        closed = tl.exp(_log_sigmoid(-gate_q))
        open_ratio = _log_ratio(opened, _log_sigmoid(gate_q), _log_sigmoid(gate_p))
        closed_ratio = _log_ratio(closed, _log_sigmoid(-gate_q), _log_sigmoid(-gate_p))
        of_gates += tl.where(here, opened * open_ratio + closed * closed_ratio, 0.0)
        weight = opened if EXACT else 1.0
        of_features += tl.where(here, weight * divergence, 0.0)
    tl.store(gates + sample, TOTAL * tl.sum(of_gates, 0))
    tl.store(features + sample, TOTAL * tl.sum(of_features, 0))


@triton.jit
def kl_backward(
    q_gates, q_features, p_gates, p_features, gates_grad, features_grad,
    q_gates_out, q_features_out, prior_out, number, p_number,
    TOTAL: tl.constexpr, GROUPS: tl.constexpr, EXACT: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    here = row < number
    inside = here[:, None] & (column < WIDTH)[None, :]
    other = row % p_number
    gate_q = tl.load(q_gates + row, mask=here, other=0.0)
    gate_p = tl.load(p_gates + other, mask=here, other=0.0)
    place = row[:, None] * WIDTH + column[None, :]
    log_q = tl.load(q_features + place, mask=inside, other=NONE)
    log_p = tl.load(p_features + other[:, None] * WIDTH + column[None, :], mask=inside, other=NONE)
    log_q = _log_softmax(tl.where(here[:, None], log_q, 0.0))
    log_p = _log_softmax(tl.where(here[:, None], log_p, 0.0))
    grad_gates = TOTAL * tl.load(gates_grad + row // GROUPS, mask=here, other=0.0)
    grad_features = TOTAL * tl.load(features_grad + row // GROUPS, mask=here, other=0.0)
    probs = tl.exp(log_q)
    weighted = probs * _log_ratio(probs, log_q, log_p)
    divergence = tl.sum(weighted, 1)
    opened = tl.exp(_log_sigmoid(gate_q))
    closed = tl.exp(_log_sigmoid(-gate_q))
    log_odds = _log_ratio(opened, _log_sigmoid(gate_q), _log_sigmoid(gate_p))
    log_odds -= _log_ratio(closed, _log_sigmoid(-gate_q), _log_sigmoid(-gate_p))
    slope = grad_gates * log_odds
    weight = grad_features
    if EXACT:
        slope += grad_features * divergence
        weight *= opened
    tl.store(q_gates_out + row, slope * opened * closed, mask=here)
    grad_q = weight[:, None] * (weighted - probs * divergence[:, None])
    tl.store(q_features_out + place, grad_q, mask=inside)
    start = row // p_number * p_number * (WIDTH + 1)
    grad_gate_p = grad_gates * (tl.exp(_log_sigmoid(gate_p)) - opened)
    tl.store(prior_out + start + other, grad_gate_p, mask=here)
    place = (start + p_number + other * WIDTH)[:, None] + column[None, :]
    tl.store(prior_out + place, weight[:, None] * (tl.exp(log_p) - probs), mask=inside)


@triton.jit
def reinmax(
    gates, features, counts, grads, gates_out, features_out, number,
    TOTAL: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    column = tl.arange(0, BLOCK)
    here = row < number
    inside = here[:, None] & (column < WIDTH)[None, :]
    place = row[:, None] * WIDTH + column[None, :]
    logits = tl.load(features + place, mask=inside, other=NONE)
    chosen = tl.exp(_log_softmax(tl.where(here[:, None], logits, 0.0)))
    opened = tl.exp(_log_sigmoid(tl.load(gates + row, mask=here, other=0.0)))
    count = tl.load(counts + place, mask=inside, other=0.0)
    grad = tl.load(grads + place, mask=inside, other=0.0)
    probs = (0.5 * TOTAL) * opened[:, None] * chosen  # L0 / 2 times p
    p_dot_g = tl.sum(probs * grad, 1)[:, None]
    n_dot_g = tl.sum(count * grad, 1)[:, None]
    outcome = (grad - n_dot_g / TOTAL) * probs + 0.5 * count * (grad - p_dot_g * (2.0 / TOTAL))
    total = tl.sum(tl.where(inside, outcome, 0.0), 1)
    tl.store(gates_out + row, total, mask=here)
    tl.store(features_out + place, outcome - chosen * total[:, None], mask=inside)


@triton.jit
def _minus_gumbel(seed, row, place):
    """Return log(-log(1 - u)) for uniform numbers of 31 bits between 0 and 1."""
    zero = place * 0
    bits, _, _, _ = tl.philox(seed, place, zero + row, zero, zero)
    u = ((bits >> 1).to(tl.float32) + 0.5) * 4.656612873077393e-10
    u = tl.minimum(u, 0.99999994)
    # Near 0, where the largest noise comes from, 1 - u would round away the digits of u.
    small = u * (1.0 + u * (0.5 + u * (0.33333334 + u * 0.25)))
    return tl.log(tl.where(u < 0.01, small, -tl.log(1.0 - u)))


@triton.jit
def _gates(logit, temperature, seed, row, slot):
    """Return relaxed gates (eq. 8), and the numbers of which they are the sigmoid."""
    one = slot * 0 + 1
    bits, _, _, _ = tl.philox(seed, slot, one * row, one, one)
    # Logistic noise is the difference of two Gumbel noises. It is symmetric: one bit is the sign.
    half = ((bits >> 1).to(tl.float32) + 0.5) * 2.3283064365386963e-10
    noise = tl.log(1.0 - half) - tl.log(half)
    noise = tl.where((bits & 1) == 0, noise, -noise)
    # A gate that is always open has an infinite logit.
    scaled = (tl.minimum(tl.maximum(logit, -1.0e19), 1.0e19) + noise) / temperature
    return tl.sigmoid(scaled), scaled


@triton.jit
def mix(
    gates, features, gate_temperature, temperature, seeds, codes, number,
    SLOTS: tl.constexpr, SHARES: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // SHARES).to(tl.int64)
    share = tl.program_id(0) % SHARES
    column = tl.arange(0, BLOCK)
    seed = tl.load(seeds)
    logit = tl.load(gates + row)
    gate_tau = tl.load(gate_temperature + row)
    rate = 1.0 / tl.load(temperature + row)
    logits = tl.load(features + row * WIDTH + column, mask=column < WIDTH, other=NONE)
    code = tl.zeros([BLOCK], tl.float32)
    for first in range(0, SLOTS, ROWS * SHARES):
        slot = first + share * ROWS + tl.arange(0, ROWS)
        weight, _ = _gates(logit, gate_tau, seed, row.to(tl.int32), slot)
        weight = tl.where(slot < SLOTS, weight, 0.0)
        noise = _minus_gumbel(seed, row.to(tl.int32), slot[:, None] * BLOCK + column[None, :])
        chosen = tl.exp(_log_softmax((logits[None, :] - noise) * rate))
        code += tl.sum(weight[:, None] * chosen, 0)
    start = (share.to(tl.int64) * number + row) * WIDTH
    tl.store(codes + start + column, code, mask=column < WIDTH)


@triton.jit
def mix_backward(
    gates, features, gate_temperature, temperature, seeds, grads, out, number,
    SLOTS: tl.constexpr, SHARES: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // SHARES).to(tl.int64)
    share = tl.program_id(0) % SHARES
    column = tl.arange(0, BLOCK)
    seed = tl.load(seeds)
    logit = tl.load(gates + row)
    gate_tau = tl.load(gate_temperature + row)
    rate = 1.0 / tl.load(temperature + row)
    logits = tl.load(features + row * WIDTH + column, mask=column < WIDTH, other=NONE)
    grad = tl.load(grads + row * WIDTH + column, mask=column < WIDTH, other=0.0)
    slope = tl.zeros([BLOCK], tl.float32)
    of_rate = tl.zeros([ROWS], tl.float32)
    of_gate = tl.zeros([ROWS], tl.float32)
    of_tau = tl.zeros([ROWS], tl.float32)
    for first in range(0, SLOTS, ROWS * SHARES):
        slot = first + share * ROWS + tl.arange(0, ROWS)
        weight, inside = _gates(logit, gate_tau, seed, row.to(tl.int32), slot)
        weight = tl.where(slot < SLOTS, weight, 0.0)
        noise = _minus_gumbel(seed, row.to(tl.int32), slot[:, None] * BLOCK + column[None, :])
        scaled = (logits[None, :] - noise) * rate
        chosen = tl.exp(_log_softmax(scaled))
        slot_grad = tl.sum(chosen * grad[None, :], 1)
        of_scaled = slot_grad * weight * (1.0 - weight)
        of_gate += of_scaled
        of_tau += of_scaled * inside
        # The gradient with respect to the scaled logits of each slot.
        inner = weight[:, None] * chosen * (grad[None, :] - slot_grad[:, None])
        slope += tl.sum(inner, 0)
        of_rate += tl.sum(tl.where(chosen > 0.0, inner * scaled, 0.0), 1)
    start = (share.to(tl.int64) * number + row) * (WIDTH + 3)
    tl.store(out + start + column, slope * rate, mask=column < WIDTH)
    tl.store(out + start + WIDTH, tl.sum(of_gate, 0) / gate_tau)
    tl.store(out + start + WIDTH + 1, -tl.sum(of_tau, 0) / gate_tau)
    tl.store(out + start + WIDTH + 2, -tl.sum(of_rate, 0) * rate)
