"""Keys in the names of folders: columns only if they are named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sdlgm.data.partitions import NamedKeys, partition_keys
from sdlgm.errors import DataError

TABLE = pa.table({"a": [1, 2, 3]})
NAME = Path("year=2024/share=0.5/city=Bad%20Ems/zone=__HIVE_DEFAULT_PARTITION__/part-0.parquet")


def test_keys_and_values_are_read_from_folders_only() -> None:
    keys = {"year": "2024", "share": "0.5", "city": "Bad Ems", "zone": None}
    assert partition_keys(NAME) == keys
    assert partition_keys(Path("plain/=x/a=1.parquet")) == {}


def test_a_key_is_a_column_only_if_it_is_named() -> None:
    assert NamedKeys().add(TABLE, NAME) is TABLE
    found = NamedKeys(read=["a", "year", "share"], kept=["city", "zone"]).add(TABLE, NAME)
    assert found.select(["year", "share"]).to_pylist() == [{"year": 2024, "share": 0.5}] * 3
    assert found.select(["city", "zone"]).to_pylist() == [{"city": "Bad Ems", "zone": None}] * 3


def test_the_files_own_column_goes_before_a_key() -> None:
    table = TABLE.append_column("year", pa.array([7, 8, 9]))
    assert NamedKeys(read=["year"]).add(table, NAME) is table


def test_a_key_that_a_model_reads_must_be_a_number() -> None:
    with pytest.raises(DataError, match="city = 'Bad Ems', which is not a number"):
        NamedKeys(read=["city"]).add(TABLE, NAME)
