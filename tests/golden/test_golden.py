"""Every format that was ever released loads, and gives what it gave.

Integers must be equal. Real numbers are compared to 1e-5: other processors add in another order.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdlgm.codec import decode_file, describe, read_codes
from sdlgm.estimators import load
from sdlgm.models import load_model

HERE = Path(__file__).parent
NEAR = 1e-5


def expected(folder: Path) -> dict[str, Any]:
    with np.load(folder / "expected.npz", allow_pickle=False) as file:
        return dict(file)


def check(found: Any, wanted: np.ndarray) -> None:
    found = np.asarray(found)
    assert found.dtype == wanted.dtype
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=0, atol=NEAR)
    else:
        np.testing.assert_array_equal(found, wanted)


def folders(pattern: str) -> list[Path]:
    found = sorted(HERE.glob(pattern))
    assert found
    return found


@pytest.mark.parametrize("folder", folders("model-*"), ids=lambda path: path.name)
def test_models_and_their_codes(folder: Path) -> None:
    wanted, saved = expected(folder), load_model(folder)
    with torch.no_grad():
        codes = saved.model.posterior(torch.from_numpy(wanted["x"])).mode
    check(codes, wanted["codes"])
    check(saved.model.decode(codes), wanted["decoded"])
    about, batches = read_codes(folder / "codes.parquet", describe(saved))
    assert about.n_codes == len(codes)
    check(torch.cat(list(batches)), wanted["codes"])
    check(decode_file(saved, folder / "codes.parquet"), wanted["decoded"])


@pytest.mark.parametrize("folder", folders("c*-*"), ids=lambda path: path.name)
def test_classifiers_and_counters(folder: Path) -> None:
    wanted, estimator = expected(folder), load(folder)
    for method in wanted.keys() - {"x"}:
        check(getattr(estimator, method)(wanted["x"]), wanted[method])


@pytest.mark.parametrize("folder", folders("transformer-*"), ids=lambda path: path.name)
def test_transformers(folder: Path) -> None:
    wanted, estimator = expected(folder), load(folder)
    codes = estimator.transform(wanted["x"])
    check(codes, wanted["transform"])
    check(estimator.inverse_transform(codes), wanted["decoded"])


def test_golden_files_are_small_and_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    files = {path: path.read_bytes() for path in HERE.glob("*-*/*")}
    assert sum(map(len, files.values())) < 500_000
    runpy.run_path(str(HERE / "make.py"), run_name="__main__")
    assert capsys.readouterr().out.count("is kept") == len({path.parent for path in files})
    assert {path: path.read_bytes() for path in HERE.glob("*-*/*")} == files
