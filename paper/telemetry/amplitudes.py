"""Codes of telemetry windows whose features are atoms times amplitudes.

Each group of the model is an atom, and its features are the atom times one of a grid of amplitudes.
A code selects at most one feature of each group, so it says which atoms a window contains, and how
much of each. Windows are in units of the metric's deviation; only their means are sent beside them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paper.telemetry import methods
from paper.telemetry.codes import file_sizes
from paper.telemetry.methods import Windows
from paper.telemetry.profiles import LENGTH
from sdlgm import SDLGM, ModelConfig
from sdlgm.codec.ans import Stack
from sdlgm.inference.refitting import set_prior
from sdlgm.inference.slots import counts_of
from sdlgm.nn import data_statistics
from sdlgm.random import generator

__all__ = ["Amplitudes", "amplitude_numbers", "grid", "simple_atoms", "stream"]

STEP = 2.8
"""Step of the amplitudes at a weight of 1. It falls with the root of the weight."""
EVEN, RATIO, TOP = 8, 1.15, 110.0
"""Number of equal steps on each side of 0; ratio of the larger amplitudes; their least maximum."""
TURNS, RIDGE = 5, 1000.0
"""Rounds of search and refitting; penalty of an atom's distance from its start."""
SWEEPS = 4
"""Sweeps of the final search."""
LARGEST_CHANGE = 4096
"""Largest change of a mean that a stream can hold, in steps."""
BORROWED = 4.0
"""Counts of an atom's amplitudes that are distributed as those of all atoms."""


def simple_atoms(length: int = LENGTH) -> Tensor:
    """Return impulses, steps and boxes of norm 1, shape ``(G, length)``.

    Boxes have 2, 4, 8, ... samples, up to half of the length, and start at multiples of half their
    width. Steps have a mean of 0.
    """
    steps = torch.ones(length, length).tril()[:-1]
    parts = [torch.eye(length), steps - steps.mean(1, keepdim=True)]
    width = 2
    while width <= length // 2:
        starts = torch.arange(0, length - width + 1, width // 2)
        place = torch.arange(length) - starts.unsqueeze(1)
        parts.append(((place >= 0) & (place < width)).float())
        width *= 2
    return _unit(torch.cat(parts))


def grid(step: float, top: float = TOP) -> Tensor:
    """Return amplitudes in ascending order, symmetric, with 0 in the middle.

    They are multiples of a step: all up to ``EVEN``, then those with a ratio of about ``RATIO``,
    until one reaches ``top``.
    """
    sizes = list(range(1, EVEN + 1))
    while sizes[-1] * step < top:
        sizes.append(max(sizes[-1] + 1, round(sizes[-1] * RATIO)))
    positive = step * torch.tensor(sizes, dtype=torch.float32)
    return torch.cat([-positive.flip(0), torch.zeros(1), positive])


class Amplitudes:
    r"""Atoms, their amplitudes, and the prior of both, fitted by hard EM.

    Minimises the mean over windows of

    .. math:: J(z) = \Big\|x - \sum_g a_{z_g} d_g\Big\|^2 - \frac{1}{w} \log p(z)

    where :math:`d_g` are atoms of norm 1, :math:`a` the amplitudes, and :math:`a_{z_g} = 0` if
    group ``g`` is closed.

    Parameters
    ----------
    atoms
        Where the atoms start, shape ``(G, D)``, norm 1.
    values
        Amplitudes in ascending order, with 0 in the middle.
    weight
        The weight ``w`` of a squared error, in nats.
    """

    def __init__(self, atoms: Tensor, values: Tensor, weight: float) -> None:
        self.start = self.atoms = atoms
        self.values, self.weight = values, weight
        self.closed = len(values) // 2
        self.lengths = self._lengths(torch.full((0, len(atoms)), self.closed))

    def fit(self, x: Tensor, most: int) -> None:
        """Fit atoms and prior to windows ``(n, D)``; codes have at most ``most`` atoms at first."""
        for turn in range(TURNS):
            held = self.search(x, most, 1)
            self.lengths = self._lengths(held)
            if turn < TURNS - 1:
                self._refit(x, held)

    def search(self, x: Tensor, most: int, sweeps: int) -> Tensor:
        """Return the place of the amplitude of each atom, shape ``(n, G)``.

        The search adds one atom at a time, the one that lowers ``J`` most. Sweeps then replace the
        amplitude of one atom at a time by a better one, or open or close it.
        """
        products, gram = x @ self.atoms.T, self.atoms @ self.atoms.T
        held = torch.full(products.shape, self.closed)
        active, every = torch.arange(len(x)), torch.arange(len(self.atoms))
        for _ in range(most):
            cost, best = self._best(products[active], every)
            least, group = cost.masked_fill(held[active] != self.closed, 0.0).min(1)
            falls = least < 0
            active, group = active[falls], group[falls]
            if not len(active):
                break
            chosen = best[falls].gather(1, group.unsqueeze(1)).squeeze(1)
            held[active, group] = chosen
            products[active] -= self.values[chosen].unsqueeze(1) * gram[group]
        for _ in range(sweeps):
            before = held.clone()
            for atom in range(len(self.atoms)):
                self._improve(products, gram, held, atom)
            if torch.equal(before, held):
                break
        return held

    def decode(self, held: Tensor) -> Tensor:
        """Return the windows of codes, shape ``(n, D)``."""
        return self.values[held] @ self.atoms

    def model(self) -> SDLGM:
        """Return the model with these features and this prior."""
        groups, size = len(self.atoms), len(self.values) - 1
        config = ModelConfig(
            features=groups * size,
            budget=groups,
            likelihood="gaussian",
            encoder_hidden=(),
            decoder_hidden=(),
            sparsity_hidden=(),
        )
        width = self.atoms.shape[1]
        model = SDLGM(config, data_statistics(torch.eye(width)), generator(0, "weights"))
        opened = [n for n in range(len(self.values)) if n != self.closed]
        entries = self.values[opened].unsqueeze(-1) * self.atoms.unsqueeze(1)
        with torch.no_grad():
            model.likelihood.shift.zero_()  # type: ignore[operator]
            model.likelihood.unit.fill_(1.0)  # type: ignore[operator]
            model.likelihood.set_spread(math.sqrt(0.5 / self.weight))  # type: ignore[operator]
            model.rate_weight.fill_(1.0)
            model.output_head.weight.copy_(entries.flatten(0, 1).T)
            model.output_head.bias.zero_()
            set_prior(model, self.lengths[:, [*opened, self.closed]].neg().exp().double())
        return model

    def codes(self, held: Tensor) -> Tensor:
        """Return the codes of the model, shape ``(n, K)``."""
        size = len(self.values) - 1
        slots = torch.where(held == self.closed, size, held - (held > self.closed).long())
        return counts_of(slots, len(self.atoms), size)

    def _best(self, products: Tensor, group: Tensor | int) -> tuple[Tensor, Tensor]:
        """Return the least cost of atoms with an amplitude, and its place; 0 if none is better.

        Candidates are the amplitude that is nearest to the product, and the next two towards 0.
        """
        near = torch.bucketize(products, (self.values[1:] + self.values[:-1]) / 2)
        towards = (near < self.closed).long() - (near > self.closed).long()
        least, best = torch.zeros_like(products), torch.full_like(near, self.closed)
        for steps in range(3):
            place = near + steps * towards
            place = torch.where((place - self.closed) * towards > 0, self.closed, place)
            cost = self._cost(products, place, group)
            better = cost < least
            least, best = torch.where(better, cost, least), torch.where(better, place, best)
        return least, best

    def _cost(self, products: Tensor, place: Tensor, group: Tensor | int) -> Tensor:
        value = self.values[place]
        length = self.lengths[group, place] - self.lengths[group, self.closed]
        return value * (value - 2 * products) + length / self.weight

    def _improve(self, products: Tensor, gram: Tensor, held: Tensor, group: int) -> None:
        """Give an atom its best amplitude in all windows, with the others fixed, in place."""
        now = held[:, group]
        alone = products[:, group] + self.values[now]
        cost, best = self._best(alone, group)
        changed = cost < self._cost(alone, now, group) - 1e-5
        if changed.any():
            change = self.values[best[changed]] - self.values[now[changed]]
            products[changed] -= change.unsqueeze(1) * gram[group]
            held[changed, group] = best[changed]

    def _refit(self, x: Tensor, held: Tensor) -> None:
        """Fit the atoms by least squares, with a penalty of the distance from the start."""
        used = self.values[held].double()
        normal = used.T @ used + RIDGE * torch.eye(len(self.atoms), dtype=torch.float64)
        moments = used.T @ x.double() + RIDGE * self.start.double()
        self.atoms = _unit(torch.linalg.solve(normal, moments).float())

    def _lengths(self, held: Tensor) -> Tensor:
        """Return ``-log p`` of each outcome of each group: smoothed frequencies, ``(G, S)``.

        An atom borrows from the amplitudes of all atoms, which are made symmetric and smooth.
        """
        counts = torch.stack([torch.bincount(own, minlength=len(self.values)) for own in held.T])
        counts = counts.double()
        counts[:, self.closed] = 0
        base = 1 / (1 + (torch.arange(len(self.values)) - self.closed).abs().double())
        base[self.closed] = 0
        pool = counts.sum(0) + base
        pool = (pool + pool.flip(0)) / 2
        kernel = torch.tensor([[[1.0, 2, 3, 2, 1]]], dtype=torch.float64) / 9
        pool = (pool + torch.nn.functional.conv1d(pool[None, None], kernel, padding=2)[0, 0]) / 2
        pool[self.closed] = 0
        number = counts.sum(1, keepdim=True)
        open_share = (number + 0.5) / (len(held) + (1 if len(held) else 25))
        found = (counts + BORROWED * pool / pool.sum()) / (number + BORROWED) * open_share
        found[:, self.closed] = 1 - open_share.squeeze(1)
        return -found.clamp_min(1e-9).log().float()


def _unit(atoms: Tensor) -> Tensor:
    return atoms / atoms.norm(dim=1, keepdim=True)


def _centred(part: Windows) -> Tensor:
    """Return windows less their dequantised means."""
    return torch.from_numpy(part.values - part.mean).float()


@torch.no_grad()
def amplitude_numbers(
    train: Windows, past: Windows, test: Windows, *, weight: float, most: int
) -> dict[str, Any]:
    """Return bytes and error of codes of atoms and amplitudes, and sizes of their files.

    Parameters
    ----------
    train
        Overlapping training windows.
    past, test
        Training and test windows without overlap. The coder adapts to the first.
    weight
        Nats per unit of squared error.
    most
        Number of atoms that a search adds.
    """
    fit = Amplitudes(simple_atoms(), grid(STEP / math.sqrt(weight)), weight)
    fit.fit(_centred(train), most)
    held = [fit.search(_centred(part), most, SWEEPS) for part in (past, test)]
    before, sent = (np.asarray(own - fit.closed) for own in held)
    bits = methods.subset_bits(before, sent, (past.metric, test.metric))
    model, codes = fit.model(), fit.codes(held[1])
    entropy = -float(model.prior().log_prob(codes).mean()) / math.log(2)
    side = float(test.mean_bits(past).mean()) / 8
    levels = np.diff(test.levels, prepend=0).astype("<i2").tobytes()
    sizes = {"zstd_side": methods.zstd_bytes(levels), **dict(file_sizes(model, codes))}
    sizes["stream"] = len(stream(fit, held[1], past, test))
    return {
        "trade": weight,
        "features": model.config.features,
        "error": methods.rmse(test.values, test.mean + model.decode(codes).numpy()),
        "active": float((codes > 0).sum(-1).float().mean()),
        "prior_bytes": entropy / 8 + side,
        "bytes": float(bits.mean()) / 8 + side,
        "side_bytes": side,
        **{f"{name}_file_bytes": size / len(codes) for name, size in sizes.items()},
    }


def stream(fit: Amplitudes, held: Tensor, past: Windows, test: Windows) -> bytes:
    """Return means and codes of test windows in one stream, after reading it back.

    Both ends have the model, whose prior codes the atoms, and the frequencies of changes of the
    mean in the training windows. The stream starts with the number of windows, in 4 bytes.
    """
    before, sent = past.mean_changes(None), test.mean_changes(past)
    if np.abs(sent).max() > LARGEST_CHANGE:
        raise ValueError(f"A mean changes by more than {LARGEST_CHANGE} steps.")
    changes = np.arange(-LARGEST_CHANGE, LARGEST_CHANGE + 1)
    counts = np.round(1000 / (1 + changes**2)).clip(1)
    np.add.at(counts, before + LARGEST_CHANGE, 1000)
    groups = [np.asarray(own.neg().exp().double() * 2**24).round() for own in fit.lengths]
    symbols = np.asarray(held)
    stack = Stack()
    for column, weights in zip(symbols.T, groups, strict=True):
        stack.push(column, weights)
    stack.push(sent + LARGEST_CHANGE, counts)
    content = len(held).to_bytes(4, "little") + stack.content()

    stack, number = Stack(content[4:]), int.from_bytes(content[:4], "little")
    means = stack.pop(number, counts) - LARGEST_CHANGE
    codes = [stack.pop(number, weights) for weights in groups[::-1]][::-1]
    if not (np.array_equal(means, sent) and np.array_equal(np.stack(codes, 1), symbols)):
        raise RuntimeError("The stream does not contain what was written.")
    return content
