"""The layout and kept columns in files of codes and data, and claims that are refused."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest

from sdlgm.codec.passed import pack_passed, unpack_passed
from sdlgm.data import Columns
from sdlgm.errors import CodeFileError

LAYOUT = Columns(("a", "b"), ("int8", "int8"), order=("host", "a", "b"))


def forged(stream: bytes, layout: bytes = b"") -> bytes:
    parts = (layout, zlib.compress(stream))
    return b"".join(struct.pack("<Q", len(part)) + part for part in parts)


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def refused(content: bytes, rows: int = 3, width: int = 2) -> str:
    with pytest.raises(CodeFileError) as caught:
        unpack_passed(content, "x.sdz", rows, width)
    return str(caught.value)


def test_layout_and_columns_come_back_with_the_number_of_bytes() -> None:
    kept = pa.table({"host": pa.array(["x", "y", "x"]).dictionary_encode()})
    for columns, table in ((LAYOUT, kept), (LAYOUT, None), (None, kept)):
        content = pack_passed(columns, table, 3)
        found, size = unpack_passed(content + b"more", "x.sdz", 3, 2)
        assert size == len(content)
        assert found.columns == columns
        assert found.kept is None if table is None else table.equals(found.kept)
    assert pack_passed(None, None, 3) == b""


def test_kept_columns_of_every_plain_type_come_back() -> None:
    times = pa.array([0, None, 2], pa.timestamp("ns", "Europe/Berlin"))
    kept = pa.table(
        {
            "nothing": pa.nulls(3),
            "view": pa.array(["x", None, "y" * 40], pa.string_view()),
            "bytes": pa.array([b"", None, b"z" * 40], pa.binary_view()),
            "uuid": pa.array([b"0" * 16, None, b"1" * 16], pa.binary(16)),
            "key": pa.array([b"0" * 16, None, b"1" * 16], pa.uuid()),
            "time": times,
            "price": pa.array([None, 1, 2], pa.decimal128(20, 3)),
            "half": pa.array(np.arange(3, dtype=np.float16)),
            "place": pa.array([{"x": 1, "y": [None, "a"]}, None, {"x": None, "y": None}]),
            "level": pa.array(["low", None, "high"]).dictionary_encode(),
        }
    )
    found, _ = unpack_passed(pack_passed(None, kept, 3), "x.sdz", 3, 2)
    assert found.kept is not None
    assert found.kept.schema.equals(kept.schema, check_metadata=True)
    assert found.kept.equals(kept)
    empty, _ = unpack_passed(pack_passed(None, kept.slice(0, 0), 0), "x.sdz", 0, 2)
    assert empty.kept is not None
    assert empty.kept.schema == kept.schema


def test_another_number_of_rows_or_columns_is_refused() -> None:
    kept = pa.table({"host": ["x", "y", "x"]})
    with pytest.raises(CodeFileError, match="3 rows of columns to keep for 4 rows"):
        pack_passed(None, kept, 4)
    content = pack_passed(LAYOUT, kept, 3)
    assert "has 3 rows of kept columns for 4 rows" in refused(content, rows=4)
    assert "describes 2 columns, but its codes or data are of 5" in refused(content, width=5)


def test_streams_that_grow_in_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = pa.table({"a": np.zeros(3)})
    for compression in ("zstd", "lz4"):
        assert "compressed twice" in refused(forged(stream(kept, compression)))
    text = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0], pa.int8()), pa.array(["x" * 4000]))
    assert unpack_passed(forged(stream(pa.table({"a": text}))), "x.sdz", 3, 2)[0].kept is not None
    monkeypatch.setenv("SDLGM_MAX_CELLS", "100")
    monkeypatch.setenv("SDLGM_MAX_CELLS_PER_BYTE", "0001")
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 3000), pa.array(["x" * 4000]))
    assert "SDLGM_MAX_CELLS" in refused(forged(stream(pa.table({"a": long}))), rows=3000)
    monkeypatch.setenv("SDLGM_MAX_INFLATED_BYTES", "1000")
    assert "SDLGM_MAX_INFLATED_BYTES" in refused(forged(bytes(10**6)))


def test_types_whose_values_can_share_memory_are_refused() -> None:
    ends, values = pa.array([3], pa.int32()), pa.array(["x"])
    for column in (
        pa.nulls(3),
        pa.RunEndEncodedArray.from_arrays(ends, values),
        pa.array(["x"] * 3, pa.string_view()),
        pa.FixedSizeListArray.from_arrays(pa.nulls(27), 9),
        pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), pa.nulls(3)),
    ):
        assert "which cannot be kept" in refused(forged(stream(pa.table({"a": column}))))


def test_values_that_point_outside_of_the_file_are_refused() -> None:
    content = stream(pa.table({"a": ["x", "y", "z"]}))
    offsets = struct.pack("<4i", 0, 1, 2, 3)
    assert offsets in content
    wrong = content.replace(offsets, struct.pack("<4i", 0, 1, 2, 2**30))
    assert "damaged" in refused(forged(wrong))
