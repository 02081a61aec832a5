"""The user's files: one table in three formats."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sdlgm.config import DataConfig
from sdlgm.data import load_data, read_rows, read_table, write_rows
from sdlgm.errors import DataError


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_tables_survive_a_round_trip(
    suffix: str, tmp_path: Path, generator: torch.Generator
) -> None:
    values = torch.randn(20, 3, generator=generator)
    write_rows(tmp_path / f"a{suffix}", values)
    rows, shape = read_rows(tmp_path / f"a{suffix}")
    torch.testing.assert_close(rows.values.float(), values)
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
    with pytest.raises(DataError, match=r"\(inf, or a number beyond 3.4e38\) in row 0, column 1"):
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a;b\n1,5;2\n", "has semicolons between its columns.*sep=';', decimal=','"),
        (b"a\tb\n1\t2\n", "has tabs between its columns"),
        (b"a|b\n1|2\n", "has bars between its columns"),
        (b"a;b;c\n1;2\n", "has semicolons between its columns.*sep=';', decimal=','"),
        (b'a;note\n1;"x;y"\n', "has semicolons between its columns"),
        (b'"size, cm";b\n1,5;2\n', "has semicolons between its columns"),
        (b"size, cm;b\n1.5;2\n", "has semicolons between its columns"),
        (b"sep=;\na;b;c\n1;2;3\n", "has semicolons between its columns"),
        (b"a\tb\tc\n1\t2\n", "has tabs between its columns.*sep='.t'"),
        (b"a;b", "has semicolons between its columns"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "is compressed, not lines with commas"),
        (b"PK\x03\x04 and more", "is a workbook or a zip archive"),
        ("a,b\n1,2\n".encode("utf-16"), "is text in UTF-16"),
        ("ä,b\n1,2\n".encode("latin1"), r"not in UTF-8 \(byte 0 is 0xe4\). Save it in UTF-8"),
        ("a,b\n1,ä\n".encode("latin1"), r"not in UTF-8 \(byte 6 is 0xe4\)"),
    ],
)
def test_what_is_not_lines_with_commas_is_called_what_it_is(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path / "a.csv")


@pytest.mark.parametrize("content", ["1;2;3\n", "1,5;2,5\n2,5;3,5\n", "1;2\n1;2;3\n"])
def test_other_separators_are_named_in_files_without_names_too(
    content: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError, match="has semicolons between its columns"):
        read_table(tmp_path / "a.csv", header=False)


@pytest.mark.parametrize("name", ["a;b", '"a;b"', "a|b"])
def test_a_column_of_numbers_may_have_a_separator_in_its_name(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{name}\n1\n2\n")
    assert read_rows(tmp_path / "a.csv")[0].values.tolist() == [[1], [2]]


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffa,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4\r\n",
        "a,b\r1,2\r3,4\r",
        "a,b\n1,2\n3,4",
        'a,b\n"1","2"\n\n3, 4\n',
        '"a;x",b\n1,2\n3,4\n',
    ],
)
def test_files_of_other_programs_with_commas_are_read(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode())
    assert read_rows(tmp_path / "a.csv")[0].values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.skipif(os.fsencode("ä") != "ä".encode(), reason="names are not in UTF-8 here")
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_a_name_that_is_not_in_utf_8_is_said(suffix: str, tmp_path: Path) -> None:
    write_rows(tmp_path / f"a{suffix}", torch.ones(2, 2))
    other = tmp_path / os.fsdecode(b"\xe4" + suffix.encode())
    (tmp_path / f"a{suffix}").rename(other)
    with pytest.raises(DataError, match="is not in UTF-8, which files of data need. Rename it"):
        read_rows(other)
