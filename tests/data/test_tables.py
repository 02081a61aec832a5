"""The user's files: one table in three formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sdlgm.config import DataConfig
from sdlgm.data import load_data, read_rows, write_rows
from sdlgm.errors import DataError


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_tables_survive_a_round_trip(
    suffix: str, tmp_path: Path, generator: torch.Generator
) -> None:
    values = torch.randn(20, 3, generator=generator)
    write_rows(tmp_path / f"a{suffix}", values)
    rows, shape = read_rows(tmp_path / f"a{suffix}")
    torch.testing.assert_close(rows.values.to(values.dtype), values)
    assert shape is None
    data = load_data(DataConfig(str(tmp_path / f"a{suffix}"), test_fraction=0.25), "gaussian")
    assert (len(data.train), len(data.test)) == (15, 5)


def test_arrays_of_images_keep_their_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((6, 4, 3), dtype=np.uint8))
    rows, shape = read_rows(tmp_path / "a.npy")
    assert rows.values.shape == (6, 12)
    assert rows.values.dtype == torch.uint8
    assert shape == (4, 3)


def test_missing_and_too_large_values_are_refused_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,load\n1,2\n3,\n")
    with pytest.raises(DataError, match="row 1, column 'load'"):
        read_rows(tmp_path / "a.csv")
    np.save(tmp_path / "a.npy", np.array([[1.0, 1e300]]))
    with pytest.raises(DataError, match=r"\(inf\) in row 0, column 1"):
        read_rows(tmp_path / "a.npy")


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    def read(name: str, content: str | bytes) -> None:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        read_rows(path)

    with pytest.raises(DataError, match="not numbers: city"):
        read("a.csv", "x,city\n1,Rome\n")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        read("a.parquet", "x,y\n1,2\n")
    with pytest.raises(DataError, match="cannot be read as npy"):
        read("a.npy", b"\x93NUMPY")
    with pytest.raises(DataError, match="cannot be read as csv"):
        read("b.csv", "")
    with pytest.raises(DataError, match="rows and columns"):
        read("c.csv", "x,y\n")
    with pytest.raises(DataError, match="does not exist"):
        read_rows(tmp_path / "none.csv")
    with pytest.raises(DataError, match="must end in .csv"):
        write_rows(tmp_path / "a.txt", torch.zeros(1, 1))
    np.save(tmp_path / "s.npy", np.array([["a", "b"]]))
    with pytest.raises(DataError, match="not numbers"):
        read_rows(tmp_path / "s.npy")
    np.save(tmp_path / "o.npy", np.array([[None, {}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as npy"):
        read_rows(tmp_path / "o.npy")
