"""Vectors to 8 bytes and back: fit, encode, and search with exact queries."""

import numpy as np
from sklearn.datasets import load_digits

from sdlgm import SDLGMTransformer

X = load_digits().data  # or your embeddings, one in a row: np.load("embeddings.npy")
train, base, queries = X[:800], X[800:-100], X[-100:]

# 8 groups of 255 features. A slot holds one of them or is closed: one byte a group.
model = SDLGMTransformer(8 * 255, budget=8, scaling="common", sparse_output=True, random_state=0)
codes = model.fit(train).transform(base)
decoded = model.inverse_transform(codes)

error = ((base - decoded) ** 2).sum() / ((base - base.mean(0)) ** 2).sum()
print(f"{base.shape[1] * 4} bytes as float32, 8 as a code; variance kept: {1 - error:.0%}")


def nearest(rows: np.ndarray) -> np.ndarray:
    """Return the ten nearest rows of each query."""
    distances = (rows**2).sum(1) - 2 * queries @ rows.T
    return distances.argsort(1)[:, :10]


pairs = zip(nearest(base), nearest(decoded), strict=True)
shared = np.mean([len(set(exact) & set(found)) / 10 for exact, found in pairs])
print(f"recall 10@10 of exact queries against decoded rows: {shared:.2f}")
