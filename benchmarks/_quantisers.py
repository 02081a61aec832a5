"""Quantisers of real-valued vectors with one interface: those of faiss, an autoencoder, and ours.

Each is fitted by its constructor. ``encode`` returns one row of codes for each vector, ``decode``
the vectors that codes stand for, and ``symbols`` the codes as integers, one column for each
codebook. ``bits`` is the length of a code in which every symbol takes its fixed number of bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks._vector_sets import Rows
from sdlgm import SDLGMTransformer
from sdlgm.errors import SDLGMError

__all__ = ["METHODS", "NotPossibleError", "Ours", "Quantiser", "fit", "needs_faiss"]

Symbols = NDArray[np.integer[Any]]
IMAGE_COMPONENTS = 64
"""Principal components that the quantisers of faiss encode where rows have more than 256 values."""


class NotPossibleError(Exception):
    """A method has no code of this size."""


class Quantiser(Protocol):
    """A fitted quantiser."""

    def encode(self, rows: Rows) -> Any:
        """Return the codes of the rows."""
        ...

    def decode(self, codes: Any) -> Rows:
        """Return the rows that the codes stand for."""
        ...

    def symbols(self, codes: Any) -> Symbols:
        """Return the codes as integers, ``(rows, codebooks)``."""
        ...

    def bits(self, codes: Any) -> float:
        """Return the number of bits of a code of fixed length."""
        ...

    def used(self, codes: Any) -> float:
        """Return the share of all features, entries of codebooks or latents that are in a code."""
        ...


class Affine:
    """Principal components, a rotation, or zeros behind the values: what precedes a quantiser."""

    def __init__(self, matrix: Rows, mean: Rows) -> None:
        self.matrix, self.mean = matrix, mean

    @classmethod
    def fit(cls, rows: Rows, width: int | None) -> Affine:
        """Return the leading principal components of the rows, or the identity for ``None``."""
        if width is None:
            return cls(np.eye(rows.shape[1], dtype=np.float32), np.zeros(rows.shape[1], np.float32))
        mean = rows.mean(0)
        _, vectors = np.linalg.eigh(np.cov((rows - mean).T))
        return cls(vectors[:, ::-1][:, :width].astype(np.float32), mean)

    def rotated(self, seed: int) -> Affine:
        """Return the same values under a random rotation."""
        size = self.matrix.shape[1]
        values = np.random.default_rng(seed).standard_normal((size, size))
        return Affine(self.matrix @ np.linalg.qr(values)[0].astype(np.float32), self.mean)

    def padded(self, multiple: int) -> Affine:
        """Return the same values with zeros up to a multiple."""
        extra = -self.matrix.shape[1] % multiple
        return Affine(np.pad(self.matrix, ((0, 0), (0, extra))), self.mean)

    def forward(self, rows: Rows) -> Rows:
        """Map the rows."""
        return np.ascontiguousarray((rows - self.mean) @ self.matrix)

    def back(self, values: Rows) -> Rows:
        """Map back."""
        return values @ self.matrix.T + self.mean


class Faiss:
    """A quantiser of faiss whose code is a row of bytes."""

    def __init__(self, before: Affine, quantiser: Any, rows: Rows) -> None:
        self.before, self.quantiser = before, quantiser
        quantiser.train(before.forward(rows))

    def encode(self, rows: Rows) -> Any:
        """Return the bytes of the rows."""
        return self.quantiser.compute_codes(self.before.forward(rows))

    def decode(self, codes: Any) -> Rows:
        """Return the decoded rows."""
        return self.before.back(self.quantiser.decode(codes))

    def symbols(self, codes: Any) -> Symbols:
        """Return the bytes: a codebook has 256 entries."""
        return codes

    def bits(self, codes: Any) -> float:
        """Return eight times the number of bytes."""
        return 8.0 * codes.shape[1]

    def used(self, codes: Any) -> float:
        """Return the share of the 256 values of each byte that occur."""
        return sum(len(np.unique(column)) for column in codes.T) / (256 * codes.shape[1])


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise SDLGMError(
            "The quantisers pq, opq, rq, lsq and rabitq are part of the package faiss-cpu, which "
            "is not installed. Install it with pip install 'sdlgm[vectors]', or choose other "
            "--methods."
        ) from error
    faiss.omp_set_num_threads(1)
    return faiss


def _components(rows: Rows) -> Affine:
    return Affine.fit(rows, IMAGE_COMPONENTS if rows.shape[1] > 256 else None)


def _pq(rows: Rows, n_bytes: int, seed: int) -> Quantiser:
    before = _components(rows).padded(n_bytes)
    quantiser = _faiss().ProductQuantizer(before.matrix.shape[1], n_bytes, 8)
    quantiser.cp.seed = seed
    return Faiss(before, quantiser, rows)


def _opq(rows: Rows, n_bytes: int, seed: int) -> Quantiser:
    before = _components(rows)
    width = before.matrix.shape[1]
    rotation = _faiss().OPQMatrix(width, n_bytes, width - width % n_bytes)
    rotation.train(before.forward(rows))
    matrix = _faiss().vector_to_array(rotation.A).reshape(-1, width)
    before = Affine(before.matrix @ matrix.T, before.mean)
    quantiser = _faiss().ProductQuantizer(len(matrix), n_bytes, 8)
    quantiser.cp.seed = seed
    return Faiss(before, quantiser, rows)


def _rq(rows: Rows, n_bytes: int, seed: int) -> Quantiser:
    before = _components(rows)
    quantiser = _faiss().ResidualQuantizer(before.matrix.shape[1], n_bytes, 8)
    quantiser.cp.seed = seed
    return Faiss(before, quantiser, rows)


def _lsq(rows: Rows, n_bytes: int, seed: int) -> Quantiser:
    before = _components(rows)
    quantiser = _faiss().LocalSearchQuantizer(before.matrix.shape[1], n_bytes, 8)
    quantiser.random_seed = seed
    return Faiss(before, quantiser, rows)


def _rabitq(rows: Rows, n_bytes: int, seed: int) -> Quantiser:
    """One sign a component, and two float32 numbers a row."""
    width = 8 * (n_bytes - 8)
    if width <= 0:
        raise NotPossibleError("RaBitQ needs 8 bytes for two numbers besides the bits of a row")
    before = Affine.fit(rows, min(width, rows.shape[1])).rotated(seed)
    faiss = _faiss()
    return Faiss(before, faiss.RaBitQuantizer(before.matrix.shape[1], faiss.METRIC_L2), rows)


class SparseAutoencoder:
    """An autoencoder whose k largest latents are kept, each as an index and a value of 8 bits.

    As in Gao et al. (2024): a linear encoder with ReLU, a linear decoder with rows of norm one, and
    an auxiliary loss by which latents that have not been active for an epoch learn the residual.
    """

    def __init__(
        self,
        rows: Rows,
        n_bytes: int,
        seed: int,
        epochs: int | None = None,
        latents: int | None = None,
    ) -> None:
        # More latents fit better as long as several of them remain active.
        latents = (256 if n_bytes <= 6 else 4096) if latents is None else latents
        self.latents = latents
        self.active = int(8 * n_bytes // (math.log2(latents) + 8))
        if self.active < 1:
            raise NotPossibleError("an index and a value need more bytes")
        torch.manual_seed(seed)
        self.before = _components(rows)
        rows = self.before.forward(rows)
        self.mean = torch.from_numpy(rows.mean(0))
        self.scale = float(rows.std())
        width = rows.shape[1]
        self.decoder = F.normalize(torch.randn(latents, width)).requires_grad_()
        self.encoder = self.decoder.detach().clone().T.requires_grad_()
        self.bias = torch.zeros(latents, requires_grad=True)
        self._train(torch.from_numpy(rows), 30 if epochs is None else epochs)
        with torch.no_grad():
            values = self._latents(self._scaled(rows)).topk(self.active).values
            self.largest = values.max(0).values.clamp(min=1e-6).numpy()

    def _scaled(self, rows: Rows | Tensor) -> Tensor:
        return (torch.as_tensor(rows) - self.mean) / self.scale

    def _latents(self, rows: Tensor) -> Tensor:
        return F.relu(rows @ self.encoder + self.bias)

    def _train(self, rows: Tensor, epochs: int, batch: int = 512) -> None:
        adam = torch.optim.Adam([self.encoder, self.decoder, self.bias], 2e-3)
        steps = epochs * math.ceil(len(rows) / batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
        idle = torch.zeros(self.latents)
        for _ in range(epochs):
            for chosen in torch.randperm(len(rows)).split(batch):
                x = self._scaled(rows[chosen])
                latents = self._latents(x)
                values, index = latents.topk(self.active)
                residual = x - self._sum(index, values)
                idle += len(chosen)
                idle[index[values > 0]] = 0
                loss = residual.square().mean() + self._auxiliary(x, residual.detach(), idle, rows)
                adam.zero_grad()
                loss.backward()
                adam.step()
                schedule.step()
                with torch.no_grad():
                    self.decoder.copy_(F.normalize(self.decoder))

    def _auxiliary(self, x: Tensor, residual: Tensor, idle: Tensor, rows: Tensor) -> Tensor:
        dead = idle > len(rows)
        if not dead.any():
            return x.new_zeros(())
        latents = (x @ self.encoder + self.bias).masked_fill(~dead, -math.inf)
        values, index = latents.topk(min(int(dead.sum()), 4 * self.active))
        return (residual - self._sum(index, values)).square().mean() / 32

    def _sum(self, index: Tensor, values: Tensor) -> Tensor:
        """Return the sum of some rows of the decoder with weights."""
        return F.embedding_bag(index, self.decoder, per_sample_weights=values, mode="sum")

    @torch.no_grad()
    def encode(self, rows: Rows) -> Any:
        """Return indices and 8-bit values, ``(rows, 2 k)``, the largest value first."""
        values, index = self._latents(self._scaled(self.before.forward(rows))).topk(self.active)
        levels = np.rint(values.numpy() / self.largest * 255).clip(0, 255)
        return np.concatenate([index.numpy(), levels.astype(np.int64)], axis=1)

    @torch.no_grad()
    def decode(self, codes: Any) -> Rows:
        """Return the decoded rows."""
        index, levels = np.split(codes, 2, axis=1)
        values = torch.from_numpy((levels * (self.largest / 255)).astype(np.float32))
        scaled = self._sum(torch.from_numpy(np.ascontiguousarray(index)), values)
        return self.before.back((scaled * self.scale + self.mean).numpy())

    def symbols(self, codes: Any) -> Symbols:
        """Return indices and values."""
        return codes

    def bits(self, codes: Any) -> float:
        """Return the bits of k indices and k values."""
        return self.active * (math.log2(self.latents) + 8)

    def used(self, codes: Any) -> float:
        """Return the share of the latents that are active in a row."""
        return len(np.unique(codes[:, : self.active])) / self.latents


STATES = 256
"""States of a slot: 255 features, or closed, so that a slot takes one byte."""


class Ours:
    """Our code with one slot a group: a slot holds one of 255 features, or is closed."""

    def __init__(self, rows: Rows, n_bytes: int, seed: int, epochs: int | None = None) -> None:
        self.model = SDLGMTransformer(
            n_components=(STATES - 1) * n_bytes,
            budget=n_bytes,
            scaling="common",
            epochs=epochs,
            sparse_output=True,
            random_state=seed,
            accelerator="cpu",
        )
        self.model.fit(rows)

    def encode(self, rows: Rows) -> sp.csr_array:
        """Return the counts of the features, sparse."""
        return self.model.transform(rows)

    def decode(self, codes: sp.csr_array) -> Rows:
        """Return the decoded rows."""
        return self.model.inverse_transform(codes).astype(np.float32)

    def symbols(self, codes: sp.csr_array) -> Symbols:
        """Return the feature of each group, or 255 where its slot is closed."""
        symbols = np.full((codes.shape[0], self.model.budget), STATES - 1)
        places = codes.tocoo()
        symbols[places.row, places.col // (STATES - 1)] = places.col % (STATES - 1)
        return symbols

    def bits(self, codes: sp.csr_array) -> float:
        """Return the bits of a code of fixed length."""
        return 8.0 * self.model.budget

    def used(self, codes: sp.csr_array) -> float:
        """Return the share of the features that are in a code."""
        return float((codes.sum(0) > 0).mean())

    def over_budget(self, codes: sp.csr_array) -> int:
        """Return the number of rows whose counts exceed the budget."""
        return int((codes.sum(1) > self.model.budget).sum())


METHODS = ("pq", "opq", "rq", "rabitq", "sae", "ours", "lsq")
"""All methods, the slowest last."""
_FAISS: dict[str, Callable[[Rows, int, int], Quantiser]] = {
    "pq": _pq,
    "opq": _opq,
    "rq": _rq,
    "lsq": _lsq,
    "rabitq": _rabitq,
}


def needs_faiss(methods: list[str]) -> None:
    """Raise if a method is part of faiss, and faiss is not installed.

    Raises
    ------
    SDLGMError
        See above.
    """
    if set(methods) & set(_FAISS):
        _faiss()


def fit(method: str, rows: Rows, n_bytes: int, seed: int, epochs: int | None) -> Quantiser:
    """Fit a method to the rows.

    Raises
    ------
    NotPossibleError
        If the method has no code of this size.
    """
    if method in _FAISS:
        return _FAISS[method](rows, n_bytes, seed)
    kind = SparseAutoencoder if method == "sae" else Ours
    return kind(rows, n_bytes, seed, epochs)
