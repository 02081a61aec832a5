"""Encode a Spark DataFrame with ``mapInArrow``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from sdlgm.scale.arrow_encoder import ArrowEncoder

__all__ = ["encode_frame"]


def encode_frame(frame: Any, encoder: ArrowEncoder) -> Any:
    """Return the codes of a Spark DataFrame as a DataFrame with the columns of ``encoder.schema``.

    Spark has no unsigned integers: ``indices`` and ``counts`` become arrays of int, ``n_active``
    becomes an int. Each Python worker loads the model once, from the same path on every machine.
    """
    from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

    given = to_arrow_schema(frame.schema)
    encoder.columns = encoder.inputs(given)
    numbers = {
        "indices": pa.list_(pa.int32()),
        "counts": pa.list_(pa.int32()),
        "n_active": pa.int32(),
    }
    schema = pa.schema([(f.name, numbers.get(f.name, f.type)) for f in encoder.schema(given)])

    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in encoder.encode_batches(batches):
            yield batch.cast(schema)

    return frame.mapInArrow(encode, from_arrow_schema(schema))
