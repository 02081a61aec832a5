"""Sparse rows: checked like dense ones, with the same batches."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from sdlgm.data import Rows, SparseRows, Summary
from sdlgm.errors import DataError
from sdlgm.nn import data_statistics


@pytest.fixture
def table() -> np.ndarray:
    """Rows of probabilities, most of them 0; one row is empty."""
    rng = np.random.default_rng(0)
    values = rng.random((23, 7), np.float32) * (rng.random((23, 7)) < 0.3)
    values[4] = 0
    return values.astype(np.float32)


def both(table: np.ndarray, *, dynamic: bool = False) -> tuple[SparseRows, Rows]:
    dense = Rows(torch.from_numpy(table.copy()), dynamic=dynamic)
    return SparseRows(sp.csr_array(table), dynamic=dynamic), dense


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("index", [slice(2, 9), slice(20, 99), torch.tensor([5, 0, 5, 22])])
def test_batches_are_those_of_dense_rows(
    index: slice | torch.Tensor, dynamic: bool, table: np.ndarray
) -> None:
    sparse, dense = both(table, dynamic=dynamic)
    batch = sparse.batch(index, seeded())
    assert batch.dtype == torch.float32
    assert torch.equal(batch, dense.batch(index, seeded()))
    assert (set(batch.unique().tolist()) <= {0, 1}) == dynamic


@pytest.mark.parametrize("dynamic", [False, True])
def test_all_rows_are_yielded_in_order(dynamic: bool, table: np.ndarray) -> None:
    sparse, dense = both(table, dynamic=dynamic)
    mine, theirs = (list(rows.batches(5, seeded())) for rows in (sparse, dense))
    assert [len(batch) for batch in mine] == [5, 5, 5, 5, 3]
    assert all(map(torch.equal, mine, theirs))
    # No bits are drawn here.
    assert torch.equal(torch.cat(list(sparse.grey().split(5))), torch.from_numpy(table))


def test_sizes_and_range(table: np.ndarray) -> None:
    sparse, _ = both(table)
    assert (len(sparse), sparse.shape, sparse.n_inputs) == (23, (23, 7), 7)
    assert sparse.summary == Summary(0.0, float(table.max()), whole=False)
    # Zeros that are not stored are values, too.
    assert both(table.clip(0.5))[0].summary.low == 0
    assert both(-np.ceil(table))[0].summary == Summary(-1.0, 0.0, whole=True)
    assert SparseRows(sp.csr_array((2, 3), dtype=np.float32)).summary == Summary(0.0, 0.0, True)


def test_different_tables_have_different_digests(table: np.ndarray) -> None:
    digest = both(table)[0].sha256()
    assert both(table)[0].sha256() == digest
    other = table.copy()
    other[1, 1] += 1
    wider = np.pad(table, [(0, 0), (0, 1)])
    assert len({digest, both(other)[0].sha256(), both(wider)[0].sha256()}) == 3


def test_the_first_value_that_is_not_finite_is_named(table: np.ndarray) -> None:
    table[6, 2] = np.nan
    table[9, 0] = np.inf
    with pytest.raises(DataError, match=r"X has 2 values .* \(nan\) in row 6, column 2"):
        SparseRows(sp.csr_array(table), name="X")
    with pytest.raises(DataError, match="rows and columns"):
        SparseRows(sp.csr_array((0, 3), dtype=np.float32))


def test_probabilities_of_bits_are_refused_outside_of_0_to_1(table: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"X \(values from 0 to 2\): .*probabilities of bits"):
        SparseRows(sp.csr_array(2 * np.ceil(table)), dynamic=True, name="X")


@pytest.mark.parametrize("block", [1, 4, None])
def test_statistics_are_those_of_dense_rows(block: int | None, table: np.ndarray) -> None:
    sparse, dense = both(table)
    weights = torch.from_numpy(np.random.default_rng(1).integers(0, 3, 23))
    for mine, theirs in zip(
        data_statistics(sparse.grey(), block, weights=weights),
        data_statistics(dense.grey(), block, weights=weights),
        strict=True,
    ):
        assert torch.equal(torch.as_tensor(mine), torch.as_tensor(theirs))
