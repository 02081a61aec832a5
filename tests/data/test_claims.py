"""Files of data that claim more than they hold."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdlgm.data import label_sets, named
from sdlgm.data.parquet_footer import column_chunks
from sdlgm.data.tables import read_rows
from sdlgm.errors import DataError


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (10, 100000000000)}"), "cut short"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}", bytes(48)), "."),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}", bytes(48)), "objects"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 4000), "read as npy"),
        (b"PK\x03\x04" + bytes(60), "cannot be read as npy"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", bytes(4)), "."),
    ],
)
def test_odd_arrays_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_rows(path)


def test_a_small_parquet_file_of_many_values_is_refused(tmp_path: Path) -> None:
    zeros = pa.array(np.zeros(1_000_000, np.float32))
    table = pa.table({str(place): zeros for place in range(60)})
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 400_000
    with pytest.raises(DataError, match="claims a table of 60,000,000 numbers"):
        read_rows(path)


def test_too_many_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a," * 150_000 + "b\n" + "1," * 150_000 + "2\n")
    with pytest.raises(DataError, match="SDLGM_MAX_COLUMNS"):
        read_rows(path)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".parquet"])
def test_a_pipe_is_refused_and_not_waited_for(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file"):
        read_rows(path)


def test_footers_are_read_as_pyarrow_reads_them(tmp_path: Path) -> None:
    table = pa.table({"a": [[1, 2], [], None, [3]], "b": ["x", "y", None, "é"], "c.d": [1.5] * 4})
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, row_group_size=3)
    about = pq.read_metadata(path)
    columns = [
        about.row_group(group).column(place)
        for group in range(about.num_row_groups)
        for place in range(about.num_columns)
    ]
    assert [(chunk.values, chunk.size) for chunk in column_chunks(path)] == [
        (each.num_values, each.total_uncompressed_size) for each in columns
    ]
    assert [chunk.column for chunk in column_chunks(path)][:3] == ["a", "b", "c.d"]


def test_an_archive_is_not_inflated_beyond_the_limit(tmp_path: Path) -> None:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=9) as archive:
        for _ in range(400):
            archive.write(bytes(2**20))
    path = tmp_path / "x.gz"
    path.write_bytes(file.getvalue())
    known = hashlib.sha256(file.getvalue()).hexdigest()
    for sha256 in ("0" * 64, known):
        with pytest.raises(DataError, match="SDLGM_MAX_INFLATED_BYTES"):
            named._read_checked(path, (sha256,))


def test_entities_and_many_columns_of_label_sets_are_refused() -> None:
    arff = "@relation x\n@attribute a numeric\n@attribute l {0,1}\n@data\n1,0\n"
    entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    xml = f'<!DOCTYPE l [<!ENTITY e0 "l">{entities}]><l><label name="&e9;"/></l>'
    with pytest.raises(DataError, match="entities"):
        label_sets.parse(arff, xml)
    columns = "".join(f"@attribute a{place} numeric\n" for place in range(101_000))
    began = time.process_time()
    with pytest.raises(DataError, match="SDLGM_MAX_COLUMNS"):
        label_sets.parse(f"@relation x\n{columns}@data\n", '<l><label name="a1"/></l>')
    assert time.process_time() - began < 30
