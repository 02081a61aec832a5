"""The core on Spark; needs Java and pyspark, and is passed over without them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from scale.conftest import COLUMNS
from sdlgm.scale import ArrowEncoder
from sdlgm.scale.spark import encode_frame
from sdlgm.training import Run

KEEP = ["host", "time"]


def test_spark_gives_the_codes_of_the_core(
    scale_run: Run, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("needs Java")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    encoder = ArrowEncoder(scale_run.folder, columns=COLUMNS, keep=KEEP)
    session = (
        sql.SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", 333)
        .getOrCreate()
    )
    try:
        codes = encode_frame(session.read.parquet(str(lake / "a.parquet")), encoder)
        found = {row["time"]: row for row in codes.collect()}
    finally:
        session.stop()
    table = encoder(pq.read_table(lake / "a.parquet"))
    assert len(found) == len(table)
    for row in table.to_pylist():
        assert found[row["time"]].asDict() == row
