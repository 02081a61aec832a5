"""Every public entry point on a GPU, real or pretended: no tensor is on the wrong device.

On a machine with a GPU, ``pytest -m gpu`` runs what needs it.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch

import sdlgm
from helpers import SMALL, stopped_run, tiny_model, untrained_run
from pretend_gpu import CPU, GPU, pretended
from sdlgm import SDLGMClassifier, SDLGMCounter, SDLGMTransformer, environment
from sdlgm.baselines import PoissonCounter, SoftmaxCounter
from sdlgm.cli import main
from sdlgm.codec import (
    compress_file,
    decode_file,
    decompress_file,
    describe,
    encode_file,
    write_codes,
)
from sdlgm.config import DataConfig, ModelConfig, TrainingConfig
from sdlgm.data import Rows
from sdlgm.environment import placed
from sdlgm.errors import CodeFileError
from sdlgm.export import additive_codebooks, decoder_graph, encoder_graph
from sdlgm.inference import (
    choose_codes,
    default_code,
    document_weights,
    evaluate,
    query_weights,
    refine_posterior,
    refit_decoder,
    refit_prior,
    scores,
    search_codes,
)
from sdlgm.report import write_report
from sdlgm.scale import ArrowEncoder
from sdlgm.training import Run, resume, train

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(params=["pretended", pytest.param("real", marks=needs_gpu)])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """A machine with a GPU; whether it is real."""
    if request.param == "real":
        yield True
        return
    with pretended(monkeypatch):
        yield False


def test_a_gpu_refuses_to_mix(gpu: bool) -> None:
    x, y = torch.ones(3, device=GPU), torch.ones(3)
    assert x.device == GPU
    assert (x + 1).device == GPU
    assert (x + torch.tensor(1.0)).device == GPU
    assert x.cpu().device == CPU
    for call in (lambda: x + y, lambda: torch.cat([x, y]), lambda: y[x.long()]):
        with pytest.raises(RuntimeError, match="same device"):
            call()
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device=GPU, generator=torch.Generator())


def test_a_placed_network_is_a_copy_until_it_changes(gpu: bool) -> None:
    model = tiny_model()
    there = placed(model, GPU)
    assert there.device == GPU
    assert model.device == CPU
    assert placed(model, GPU) is there
    assert placed(there, GPU) is there
    with torch.no_grad():
        model.output_head.bias.add_(1)
    assert placed(model, GPU) is not there


LIKELIHOODS = ("bernoulli", "gaussian", "poisson", "categorical")


def rows_for(likelihood: str, number: int = 20) -> Rows:
    source = np.random.default_rng(0)
    if likelihood == "gaussian":
        return Rows(torch.from_numpy(source.normal(size=(number, 5)).astype(np.float32)))
    high = {"bernoulli": 2, "poisson": 4, "categorical": 3}[likelihood]
    return Rows(torch.from_numpy(source.integers(0, high, (number, 5)).astype(np.float32)))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("code", ["mode", "mean", "sample", "best", "search"])
def test_codes_of_a_model_on_the_gpu_are_on_the_cpu(gpu: bool, likelihood: str, code: str) -> None:
    model, rows = tiny_model(likelihood=likelihood), rows_for(likelihood)
    there = placed(model, GPU)
    codes = there.encode(rows, code)
    assert codes.device == CPU
    assert there.decode(codes).device == CPU
    assert all(part.device == CPU for part in there.sample(3, torch.Generator()))
    if code in ("mode", "mean", "search"):
        assert torch.equal(codes, model.encode(rows, code))
        torch.testing.assert_close(there.decode(codes), model.decode(codes))
    codes = choose_codes(
        there, rows.values.to(GPU), code, generator=torch.Generator(), max_active=2
    )
    assert codes.device == GPU


STRUCTURED: dict[str, dict[str, Any]] = {
    "mixture": {"prior": "mixture", "mixture_components": 3},
    "autoregressive": {"prior": "autoregressive", "prior_hidden": (8,)},
    "levels": {"levels": 2, "prior": "autoregressive", "prior_hidden": (8,), "level_hidden": (8,)},
}


@pytest.mark.parametrize("kind", STRUCTURED)
@pytest.mark.parametrize("code", ["mode", "sample", "best", "search"])
def test_codes_of_structured_models(gpu: bool, kind: str, code: str) -> None:
    model = tiny_model(features=8, budget=4, groups=4, **STRUCTURED[kind])
    there, rows = placed(model, GPU), rows_for("bernoulli")
    codes = there.encode(rows, code)
    assert codes.device == CPU
    if code == "mode":
        assert torch.equal(codes, model.encode(rows, code))
    assert all(part.device == CPU for part in there.sample(3, torch.Generator()))


@pytest.mark.parametrize("kind", STRUCTURED)
def test_structured_models_are_trained_and_measured(gpu: bool, kind: str, tmp_path: Path) -> None:
    shape = ModelConfig(
        features=8,
        budget=4,
        groups=4,
        encoder_hidden=(8,),
        sparsity_hidden=(4,),
        **STRUCTURED[kind],
    )
    training = TrainingConfig(iterations=4, batch_size=10, validation_fraction=0.1)
    run = sdlgm.fit(
        "digits", shape, training, out=tmp_path / "run", importance_samples=2, progress=False
    )
    evaluate(
        placed(run.model, GPU),
        rows_for_run(run),
        importance_samples=2,
        refine_steps=int(kind != "levels"),
    )


def rows_for_run(run: Run) -> Rows:
    rows = run.load_rows().rows
    assert isinstance(rows, Rows)
    return rows.subset(torch.arange(20))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_evaluation_and_refinement(gpu: bool, likelihood: str) -> None:
    model, rows = placed(tiny_model(likelihood=likelihood), GPU), rows_for(likelihood)
    found = evaluate(model, rows, importance_samples=3, refine_steps=2)
    assert found.n_samples == 20
    refined = refine_posterior(model, rows.values, 2, generator=torch.Generator())
    assert refined.mode.device == GPU


QUADRATIC = {
    "likelihood": "gaussian",
    "features": 8,
    "budget": 2,
    "groups": 2,
    "decoder_hidden": (),
}


def test_search_with_a_linear_decoder(gpu: bool) -> None:
    model, rows = tiny_model(**QUADRATIC), rows_for("gaussian")
    there = placed(model, GPU)
    assert default_code(model.config) == "search"
    codes = there.encode(rows)
    assert torch.equal(codes, model.encode(rows))
    assert torch.equal(there.encode(rows, max_active=1), model.encode(rows, max_active=1))
    assert torch.equal(there.encode(rows.values.to(GPU)), codes)
    better = search_codes(there, rows.values, torch.zeros_like(codes), weight=torch.ones(20))
    assert better.device == CPU
    assert evaluate(there, rows, importance_samples=3).code_bits is not None
    refit_decoder(there, rows.values, codes)
    refit_prior(there, codes)


@pytest.mark.parametrize("model", [QUADRATIC, {"likelihood": "gaussian"}])
def test_scores_and_weights(gpu: bool, model: dict[str, Any]) -> None:
    there, rows = placed(tiny_model(**model), GPU), rows_for("gaussian")
    codes = there.encode(rows, "mode")
    assert scores(there, rows.values, codes).device == CPU
    assert query_weights(there, rows.values.numpy()).shape[0] == 20
    assert document_weights(there, codes).shape[0] == 20


@pytest.mark.parametrize(
    "objective",
    [{}, {"objective": "paper"}, {"estimator": "vimco"}, {"estimator": "muprop"},
     {"estimator": "slope_annealed_st"}, {"gradient_clip": 1.0}],
)  # fmt: skip
def test_a_run_is_trained_and_measured(
    gpu: bool, tmp_path: Path, objective: dict[str, Any]
) -> None:
    training = TrainingConfig(
        iterations=6, batch_size=10, validation_fraction=0.1, evaluate_every=3, patience=5,
        **objective,
    )  # fmt: skip
    run = sdlgm.fit(
        "digits", SMALL, training, out=tmp_path / "run", importance_samples=2, progress=False
    )
    assert run.config.training.accelerator == "gpu"
    assert run.metrics["device"] == torch.cuda.get_device_name(GPU)
    assert run.model.device == CPU


def test_a_run_of_real_numbers_is_searched_and_refitted(gpu: bool, tmp_path: Path) -> None:
    table = tmp_path / "table.npy"
    np.save(table, np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32))
    model = ModelConfig(likelihood="gaussian", features=12, budget=3, encoder_hidden=(8,))
    training = TrainingConfig(iterations=4, batch_size=20, turns=2, rate=5.0)
    pytest.importorskip("matplotlib")
    run = sdlgm.fit(
        DataConfig(str(table)), model, training, out=tmp_path / "run", progress=False,
        importance_samples=2,
    )  # fmt: skip
    assert run.config.training.objective == "rate_distortion"
    page = write_report(run, progress=False)
    assert page.is_file()


def test_a_trained_model_is_where_it_was(gpu: bool) -> None:
    model = tiny_model()
    train(model, rows_for("bernoulli"), TrainingConfig(iterations=2, batch_size=5))
    assert model.device == CPU
    model.posterior(rows_for("bernoulli").values)


def test_a_stopped_run_continues(gpu: bool, tmp_path: Path) -> None:
    training = TrainingConfig(iterations=6, batch_size=10, checkpoint_every=2)
    options = {"importance_samples": 2, "progress": False}
    whole = sdlgm.fit("digits", SMALL, training, out=tmp_path / "whole", **options)
    stopped = stopped_run(tmp_path / "stopped", training, 3)
    resumed = resume(stopped, **options)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


def test_a_transformer(gpu: bool) -> None:
    for settings in ({}, {"objective": "elbo"}, {"likelihood": "bernoulli"}, {"code": "best"}):
        X = rows_for(settings.get("likelihood", "gaussian"), 60).values.numpy()
        model = SDLGMTransformer(
            8, 2, epochs=1, batch_size=20, turns=2, random_state=0, encoder_hidden=(8,),
            sparsity_hidden=(4,), **settings,
        ).fit(X)  # fmt: skip
        assert model.model_.device == CPU
        codes = model.transform(X)
        assert model.inverse_transform(codes).shape == X.shape
        assert np.isfinite(model.score(X))
        model.sample(3)
        model.scores(X, codes)
        model.query_weights(X)
        model.document_weights(codes)
        model.partial_fit(X).partial_fit(X)
        pickle.dumps(model)


LABELS = np.random.default_rng(0).integers(0, 2, (60, 4))


@pytest.mark.parametrize(
    "settings",
    [{}, {"variant": "generative"}, {"variant": "conditional", "latent_features": 3},
     {"label_likelihood": "relaxed"}, {"inputs": "bins", "class_weight": "balanced"},
     {"patience": 2}, {"likelihood": "bernoulli", "variant": "generative"}],
)  # fmt: skip
@pytest.mark.parametrize("sparse", [False, True])
def test_a_classifier(gpu: bool, settings: dict[str, Any], sparse: bool) -> None:
    X = rows_for(settings.get("likelihood", "gaussian"), 60).values.numpy()
    if sparse and settings.get("inputs") == "bins":
        pytest.skip("bins are dense")
    X = sp.csr_array(X) if sparse else X
    model = SDLGMClassifier(
        epochs=2, members=2, folds=2, hidden=(8,), dropout=0.1, input_noise=0.1, random_state=0,
        **settings,
    ).fit(X, LABELS)  # fmt: skip
    assert next(model.network_.model.parameters()).device == CPU
    assert model.predict(X).shape == LABELS.shape
    assert model.predict_proba(X).shape == LABELS.shape
    assert len(model.predict_counts(X)) == 60
    model.top_k(X, 2)
    pickle.dumps(model)


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_a_classifier_whose_gradients_are_written_out(gpu: bool, dropout: float) -> None:
    X = rows_for("gaussian", 60).values.numpy()
    Y = LABELS.astype(float)
    Y[::7, 0] = np.nan
    model = SDLGMClassifier(
        epochs=2, members=2, folds=2, hidden=(8, 6), dropout=dropout, random_state=0,
    ).fit(X, Y, sample_weight=np.arange(1.0, 61.0))  # fmt: skip
    assert next(model.network_.model.parameters()).device == CPU
    assert model.predict(X).shape == LABELS.shape


@pytest.mark.parametrize(
    "settings",
    [{"hidden": (8,)}, {"encoder": "conv", "channels": (2, 3)}, {"hidden": (8,), "tied": False},
     {"encoder": "columns", "image_columns": 2, "channels": (2, 3)},
     {"encoder": "conv", "channels": (2,), "image_columns": 2, "shuffle_columns": True,
      "shift": 1, "rotation": 5, "test_orders": 2, "test_shift": 1}],
)  # fmt: skip
def test_a_counter(gpu: bool, settings: dict[str, Any]) -> None:
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 16)).astype(np.uint8)
    X = images.reshape(40, -1) if settings.get("encoder") is None else images
    y = np.random.default_rng(0).multinomial(2, [0.3, 0.3, 0.4], 40)[:, :2]
    model = SDLGMCounter(
        epochs=2, batch_size=10, random_state=0, validation_fraction=0.2, patience=2, **settings
    ).fit(X, y)
    assert next(model.network_.parameters()).device == CPU
    assert model.predict(X).shape == y.shape
    assert model.predict_mean(X).shape == y.shape
    assert model.predict_proba(X).shape == y.shape
    assert model.predict_total(X).shape == (40, model.budget_ + 1)
    pickle.dumps(model)


@pytest.mark.parametrize("counter", [PoissonCounter, SoftmaxCounter])
def test_the_counters_of_the_baselines(gpu: bool, counter: type[SDLGMCounter]) -> None:
    y = np.random.default_rng(0).multinomial(2, [0.3, 0.3, 0.4], 40)[:, :2]
    X = rows_for("gaussian", 40).values.numpy()
    model = counter(hidden=(8,), epochs=2, random_state=0).fit(X, y)
    assert model.predict_total(X).shape == (40, 3)
    assert model.predict_mean(X).shape == y.shape


def test_the_preset_of_vectors(gpu: bool, tmp_path: Path) -> None:
    table = tmp_path / "table.npy"
    np.save(table, np.random.default_rng(0).normal(size=(600, 16)).astype(np.float32))
    model, training = sdlgm.preset("vectors", features=64, iterations=3, turns=2)
    run = sdlgm.fit(
        str(table), model, training, out=tmp_path / "run", progress=False, importance_samples=2
    )
    there = placed(run.model, GPU)
    rows = run.load_rows().rows
    codes = there.encode(rows)
    assert int(codes.sum(1).max()) <= model.budget
    torch.testing.assert_close(there.decode(codes), run.model.decode(codes))
    additive_codebooks(there)


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_products_are_exact_whatever_the_caller_has_set(gpu: bool, precision: str) -> None:
    model = placed(tiny_model(encoder_hidden=(64, 64)), GPU)
    codes = model.encode(rows_for("bernoulli"))
    before = model.decode(codes)
    try:
        torch.set_float32_matmul_precision(precision)
        assert torch.equal(model.decode(codes), before)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_command_line_names_the_gpu_once(
    gpu: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("constriction")
    pytest.importorskip("matplotlib")
    environment._announce.cache_clear()
    run = str(tmp_path / "run")
    small = "--features 8 --budget 2 --encoder-hidden [8] --sparsity-hidden [4] --iterations 3"
    quick = ["--importance-samples", "2"]
    assert main(["fit", "digits", "--out", run, *small.split(), *quick]) == 0
    assert main(["evaluate", run, *quick, "--json"]) == 0
    named = f"Using the GPU {torch.cuda.get_device_name(GPU)}."
    printed = capfd.readouterr()
    assert printed.err.count(named) == 1
    assert "Using" not in printed.out
    for command in (
        ["encode", run, "digits", "--out", f"{tmp_path}/codes.sdz"],
        ["decode", run, f"{tmp_path}/codes.sdz", "--out", f"{tmp_path}/decoded.npy"],
        ["compress", run, "digits", "--out", f"{tmp_path}/digits.sdl", "--accelerator", "gpu"],
        ["decompress", run, f"{tmp_path}/digits.sdl", "--out", f"{tmp_path}/digits.npy"],
        ["report", run, "--accelerator", "cpu"],
        ["evaluate", run, *quick, "--refine-steps", "2"],
    ):
        assert main(command) == 0, command


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["bernoulli", "poisson", "categorical"])
def test_a_lossless_file_of_a_gpu_is_restored_there_alone(
    gpu: bool, likelihood: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("constriction")
    model, rows = tiny_model(likelihood=likelihood), rows_for(likelihood, 150)
    path = tmp_path / "data.sdl"
    compress_file(placed(model, GPU), rows, path)
    restored = decompress_file(model, path)  # moves the model where it must be
    assert torch.equal(restored.float(), rows.values)
    monkeypatch.setattr("sdlgm.environment.number_of_gpus", lambda: 0)
    with pytest.raises(CodeFileError, match=r"compressed on a GPU \(torch.*--accelerator cpu"):
        decompress_file(model, path)


def test_a_lossless_file_of_a_cpu_is_restored_on_the_cpu(gpu: bool, tmp_path: Path) -> None:
    pytest.importorskip("constriction")
    model, rows = tiny_model(), rows_for("bernoulli", 150)
    compress_file(model, rows, tmp_path / "data.sdl")
    restored = decompress_file(placed(model, GPU), tmp_path / "data.sdl")
    assert torch.equal(restored.float(), rows.values)


@pytest.mark.parametrize("name", ["codes.parquet", "codes.sdz"])
def test_files_of_codes_do_not_depend_on_the_device(gpu: bool, name: str, tmp_path: Path) -> None:
    if name.endswith(".sdz"):
        pytest.importorskip("constriction")
    model, rows = tiny_model(), rows_for("bernoulli", 50)
    there, paths = placed(model, GPU), (tmp_path / f"cpu-{name}", tmp_path / f"gpu-{name}")
    for each, path in zip((model, there), paths, strict=True):
        encode_file(each, rows, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    torch.testing.assert_close(decode_file(there, paths[0]), decode_file(model, paths[0]))
    write_codes(tmp_path / name, [there.encode(rows).to(GPU)], describe(there))


def test_arrow_batches(gpu: bool, tmp_path: Path) -> None:
    table = tmp_path / "table.npy"
    np.save(table, rows_for("gaussian").values.numpy())
    run = untrained_run(tmp_path, table, likelihood="gaussian")
    batch = pa.RecordBatch.from_arrays(
        [pa.array(column) for column in np.load(table).T], names=[str(i) for i in range(5)]
    )
    found = [ArrowEncoder(run.folder, accelerator=name)(batch) for name in ("cpu", "gpu")]
    assert found[0].equals(found[1])


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_an_exported_model_may_be_on_the_gpu(gpu: bool, part: str) -> None:
    pytest.importorskip("onnx")
    graph = encoder_graph if part == "encoder" else decoder_graph
    model = tiny_model()
    on_cpu, on_gpu = graph(model), graph(placed(model, GPU))
    assert on_cpu.SerializeToString() == on_gpu.SerializeToString()
