"""Exports of a run: the file, the command and the errors."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import sdlgm
from sdlgm.cli import main
from sdlgm.errors import ConfigError, ModelFileError, SDLGMError
from sdlgm.export import (
    compare_encoder,
    dense_codes,
    export_run,
    open_session,
    read_model,
    write_model,
)
from sdlgm.export import graph as graph_module
from sdlgm.models import model_sha256
from sdlgm.random import generator
from sdlgm.training import Run


@pytest.fixture(scope="module")
def encoder(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_run(run, tmp_path_factory.mktemp("onnx") / "encoder.onnx")


def bits(run: Run) -> torch.Tensor:
    rows = run.dataset.test
    return rows.batch(slice(None), generator(0, "evaluation bits"))


def test_codes_of_real_digits_are_those_of_torch(run: Run, encoder: Path) -> None:
    found = compare_encoder(run.model, encoder, bits(run), batch=50)
    assert found.n_samples == len(run.dataset.test)
    assert found.presence_difference < 1e-5
    assert found.identical >= 0.99
    assert found.changed_counts <= 0.02
    assert found.reconstruction == pytest.approx(found.reconstruction_torch, abs=0.05)


def test_an_encoder_that_0_1_exported_can_be_compared(
    run: Run, encoder: Path, tmp_path: Path
) -> None:
    """Version 0.1 called the key of the largest grey value "white"."""
    model = read_model(encoder)
    about = {entry.key: entry.value for entry in model.metadata_props}
    about["white"] = about.pop("maximum_grey_value")
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, about)
    path = write_model(model, tmp_path / "old.onnx")
    assert compare_encoder(run.model, path, bits(run)) == compare_encoder(
        run.model, encoder, bits(run)
    )


def test_an_8_bit_encoder_is_close_on_real_digits(run: Run, encoder: Path, tmp_path: Path) -> None:
    path = export_run(run.folder, tmp_path / "q.onnx", quantize="int8")
    found = compare_encoder(run.model, path, bits(run))
    assert 1e-6 < found.presence_difference < 0.2
    assert found.identical > 0.7
    layers = {node.op_type for node in read_model(path).graph.node}
    assert "MatMulInteger" in layers
    assert not layers & {"Gemm", "MatMul"}


def test_a_draw_from_the_same_numbers_equals_encode(run: Run, tmp_path: Path) -> None:
    path = export_run(run, tmp_path / "s.onnx", code="sample")
    x, model = bits(run), run.model
    expected = model.encode(run.dataset.test, "sample", seed=0)
    noise = generator(0, "evaluation codes")
    slots = model.config.budget // model.groups
    uniforms = torch.rand((len(x) * model.groups, slots), dtype=torch.float64, generator=noise)
    given = {"x": x.numpy() * 16, "uniforms": uniforms.view(len(x), -1).numpy()}
    indices, counts, *_ = open_session(path).run(None, given)
    codes = dense_codes(indices, counts, model.config.features)
    assert (codes == expected.numpy()).all(1).mean() > 0.99


def test_the_file_describes_itself_and_is_complete(run: Run, encoder: Path) -> None:
    model = read_model(encoder)
    onnx.checker.check_model(model, full_check=True)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about == {
        "sdlgm_version": sdlgm.__version__, "opset": "20", "part": "encoder", "code": "mode",
        "model_sha256": model_sha256(run.model), "K": "12", "L0": "4", "groups": "2",
        "likelihood": "bernoulli", "inputs": "64", "binarisation": "dynamic",
        "maximum_grey_value": "16",
    }  # fmt: skip
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    content = encoder.read_bytes()
    for place in (str(run.folder), str(encoder.parent), str(Path(sdlgm.__file__).parent)):
        assert place.encode() not in content
    assert [o.name for o in model.graph.output] == ["indices", "counts", "n_active", "presence"]


def test_equal_runs_give_equal_bytes(run: Run, encoder: Path, tmp_path: Path) -> None:
    assert export_run(run, tmp_path / "again.onnx").read_bytes() == encoder.read_bytes()


def test_the_command_exports_all_parts(
    run: Run, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = str(run.folder)
    assert main(["export", folder, "--format", "onnx", "--out", "e.onnx"]) == 0
    assert main(["export", folder, "--out", "d.onnx", "--part", "decoder"]) == 0
    assert "d.onnx: decoder," in capfd.readouterr().err
    assert main(["export", folder, "--out", "q.onnx", "--quantize", "int8"]) == 0
    encode, decode = open_session("e.onnx"), open_session("d.onnx")
    grey = run.dataset.test.values.float().numpy()
    indices, counts, *_ = encode.run(None, {"x": grey})
    decoded = decode.run(None, {"indices": indices, "counts": counts})[0]
    blank = np.abs(grey / 16 - (grey / 16).mean(0)).mean()
    assert np.abs(decoded - grey / 16).mean() < blank
    assert {path.name for path in in_tmp.iterdir()} == {"e.onnx", "d.onnx", "q.onnx"}


def test_help_has_examples(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["export", "--help"])
    assert done.value.code == 0
    out = capfd.readouterr().out
    assert "sdlgm export runs/digits --out encoder.onnx" in out
    assert "--quantize" in out


def test_a_folder_without_a_run_is_an_error(
    in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "nowhere", "--out", "e.onnx"]) == 1
    assert "nowhere holds no run" in capfd.readouterr().err
    Path("half").mkdir()
    Path("half/config.yaml").write_text("data: digits\n")
    with pytest.raises(ModelFileError, match="half holds no finished model"):
        export_run("half", "e.onnx")
    assert not Path("e.onnx").exists()


def test_settings_that_do_not_fit_are_errors(run: Run, encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.onnx"
    for wrong, message in (
        ({"part": "middle"}, "part must be one of encoder, decoder, classifier, got"),
        ({"quantize": "int4"}, "quantize must be 'int8' or None, got 'int4'"),
        ({"part": "decoder", "code": "sample"}, "A decoder chooses no code"),
    ):
        with pytest.raises(ConfigError, match=message):
            export_run(run, out, **wrong)  # type: ignore[arg-type]
    decoder = export_run(run, tmp_path / "d.onnx", part="decoder")
    with pytest.raises(ConfigError, match="is not an encoder of this model with code"):
        compare_encoder(run.model, decoder, bits(run))
    with pytest.raises(SDLGMError, match=r"x\.onnx does not exist"):
        open_session(out)
    with pytest.raises(SDLGMError, match=r"x\.onnx does not exist"):
        read_model(out)
    out.write_bytes(encoder.read_bytes()[:-1000])
    with pytest.raises(SDLGMError, match=r"x\.onnx is not an ONNX model"):
        read_model(out)
    with pytest.raises(SDLGMError, match=r"x\.onnx is not an ONNX model"):
        open_session(out)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(
    missing: str,
    run: Run,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec

    def hidden(name: str, *more: Any) -> Any:
        return None if name == missing else find(name, *more)

    monkeypatch.setattr(graph_module.importlib.util, "find_spec", hidden)
    assert main(["export", str(run.folder), "--out", "e.onnx", "--quantize", "int8"]) == 1
    err = capfd.readouterr().err
    assert f'needs {missing}, which is not installed: pip install "sdlgm[onnx]"' in err
    assert list(in_tmp.iterdir()) == []


def test_ctrl_c_leaves_the_old_file(
    run: Run, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("e.onnx").write_text("old")
    write = Path.write_bytes

    def interrupted(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    assert main(["export", str(run.folder), "--out", "e.onnx"]) == 130
    assert "interrupted" in capfd.readouterr().err
    assert [(path.name, path.read_text()) for path in in_tmp.iterdir()] == [("e.onnx", "old")]
