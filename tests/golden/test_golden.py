"""Every released format loads and gives the same results.

Integers must be equal. Real numbers are compared to 1e-5, as processors differ in rounding.
"""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdlgm.codec import coding_prior, decode_file, decompress_file, describe, read_codes
from sdlgm.data import Rows
from sdlgm.errors import ModelFileError
from sdlgm.hub import load
from sdlgm.models import load_model, model_sha256
from sdlgm.training import Run, resume

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
    wanted, model = expected(folder), load_model(folder)
    codes = model.encode(wanted["x"])
    check(codes, wanted["codes"])
    check(model.decode(codes), wanted["decoded"])
    about, batches = read_codes(folder / "codes.parquet", describe(model))
    assert about.n_codes == len(codes)
    check(torch.cat(list(batches)), wanted["codes"])
    check(decode_file(model, folder / "codes.parquet"), wanted["decoded"])


def test_a_model_without_all_fields_has_the_networks_of_its_version() -> None:
    """The first models of 0.1 had neither residual layers nor joint gates, and no such fields."""
    described = json.loads((HERE / "model-1" / "config.json").read_text())
    assert not {"residual", "joint_gates"} & described["config"].keys()
    model = load_model(HERE / "model-1")
    assert (model.config.residual, model.config.joint_gates) == (False, False)
    assert model_sha256(model) == described["sha256"]


@pytest.mark.parametrize("folder", folders("run-*"), ids=lambda path: path.name)
def test_runs_and_their_files(folder: Path) -> None:
    wanted, run = expected(folder), Run.open(folder)
    assert run.config.model == run.model.config
    assert run.metrics["model_sha256"] == model_sha256(run.model) == model_sha256(load(folder))
    assert run.log[-1]["step"] == run.config.training.iterations
    assert len(run.dataset.test) == run.metrics["n_samples"]
    codes = run.model.encode(Rows(torch.from_numpy(wanted["x"])))
    check(codes, wanted["codes"])
    check(torch.cat(list(read_codes(folder / "codes.sdz", describe(run.model))[1])), codes.numpy())
    check(decode_file(run.model, folder / "codes.sdz"), wanted["decoded"])
    check(decompress_file(run.model, folder / "data.sdl"), wanted["x"])


@pytest.mark.parametrize("name", ["mixture-3", "masked-3", "levels-3"])
def test_codes_and_data_under_structured_priors(name: str) -> None:
    folder = HERE / name
    wanted, model = expected(folder), load_model(folder)
    assert int.from_bytes((folder / "codes.sdz").read_bytes()[8:12], "little") == 3
    prior = coding_prior(model)
    codes = torch.cat(list(read_codes(folder / "codes.sdz", describe(model), prior=prior)[1]))
    check(codes, wanted["codes"])
    check(decode_file(model, folder / "codes.sdz"), wanted["decoded"])
    rows = Rows(torch.from_numpy(wanted["x"]))
    check(model.encode(rows), wanted["mode"])
    check(decompress_file(model, folder / "data.sdl"), wanted["x"])


def test_a_training_that_0_1_began_must_be_finished_with_it(tmp_path: Path) -> None:
    stopped = shutil.copytree(HERE / "stopped-1", tmp_path / "run")
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    with pytest.raises(ModelFileError, match="Finish this training with the version of sdlgm that"):
        resume(stopped, progress=False)
    assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before


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
