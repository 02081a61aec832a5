"""A bounded run of the fuzzer; ``python -m tests.fuzz.run`` is the long one."""

from __future__ import annotations

import sys

import pytest
from tests.fuzz.run import fuzz


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits of memory")
def test_no_forged_or_damaged_file_crashes_or_exhausts_a_loader() -> None:
    found = fuzz(trials=1500, seed=20, workers=1, seconds=90)
    assert found["trials"] >= 100
    assert not found["failures"], found["failures"][:3]
    assert 0 < found["loaded"] < found["refused"]
