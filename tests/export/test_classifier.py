"""A classifier as ONNX: probabilities and sets of labels as those of the estimator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import load_digits

from sdlgm.cli import main
from sdlgm.errors import ConfigError, ModelFileError, SDLGMWarning
from sdlgm.estimators import EstimatorNotFittedError, SDLGMClassifier, SDLGMTransformer
from sdlgm.export import dense_codes, export_classifier, export_run, open_session


def real_data() -> tuple[np.ndarray, np.ndarray]:
    """Digits, and what can be said of each: even, above four, a multiple of three, round, nine."""
    x, digit = load_digits(return_X_y=True)
    facts = [digit % 2 == 0, digit > 4, digit % 3 == 0, np.isin(digit, (0, 6, 8, 9)), digit == 9]
    return x.astype(np.float32), np.stack(facts, 1).astype(int)


SETTINGS: dict[str, dict[str, Any]] = {
    "standard": {},
    "quantile": {"inputs": "quantile", "normalisation": "layer"},
    "counts": {"inputs": "counts"},
    "bins": {"inputs": "bins", "bins": 3, "activation": "gelu"},
    "none": {"inputs": "none", "hidden": ()},
    "cap": {"max_labels": 4, "threshold": 0.02, "min_labels": 0},
    "floor": {"min_labels": 2, "threshold": 0.9},
    "per label": {"threshold": "per_label", "min_labels": 2},
    "relaxed": {"label_likelihood": "relaxed", "temperature": 2.0},
    "generative": {"variant": "generative"},
    "conditional": {"variant": "conditional", "latent_features": 4, "latent_budget": 2},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_probabilities_and_labels_are_those_of_the_estimator(name: str, tmp_path: Path) -> None:
    x, y = real_data()
    settings = {"members": 5, "epochs": 3, "hidden": (12,), "random_state": 0, **SETTINGS[name]}
    model = SDLGMClassifier(**settings).fit(x[:300], y[:300])
    if name == "cap":
        model.max_labels_ = 2  # fewer than some rows have over the threshold
    session = open_session(export_classifier(model, tmp_path / "c.onnx"))
    for rows in (x[300:301], x[300:307], x[300:900], x[300:900] + 0.5, -9 * x[300:400]):
        rows = rows.astype(np.float32)
        proba, labels, _ = session.run(None, {"x": rows})
        expected = model.predict_proba(rows)
        # A recalibration moves log-odds, whose rounding no probability near 0 or 1 shows.
        rounding = 2e-6 if model.network_.recalibration is None else 1e-5
        np.testing.assert_allclose(proba, expected, atol=rounding)
        predicted = model.predict(rows)
        assert labels.dtype == predicted.dtype == np.int64
        same = (labels == predicted).all(1)
        near = np.sort(expected, axis=1)  # neighbours within rounding may change places
        tied = (np.diff(near, axis=1) < 2 * rounding).any(1)
        tied |= (np.abs(expected - model.threshold_) < 2 * rounding).any(1)
        assert (same | tied).all()
        assert same.mean() > 0.95
        sums = labels.sum(1)
        assert sums.min() >= model.min_labels_
        assert sums.max() <= model.max_labels_
    if name == "cap":
        assert ((expected > model.threshold_).sum(1) > 2).any()
    about = session.get_modelmeta().custom_metadata_map
    assert (about["part"], about["K"], about["members"]) == ("classifier", "5", "5")


def test_a_classifier_fitted_on_sparse_rows_takes_dense_rows(tmp_path: Path) -> None:
    x, y = real_data()
    model = SDLGMClassifier(members=5, epochs=2, hidden=(8,), random_state=0)
    model.fit(sp.csr_array(x[:200]), sp.csr_array(y[:200]))
    session = open_session(export_classifier(model, tmp_path / "c.onnx"))
    proba, labels, _ = session.run(None, {"x": x[200:300]})
    np.testing.assert_allclose(proba, model.predict_proba(x[200:300]), atol=2e-6)
    assert (labels == model.predict(x[200:300]).toarray()).all(1).mean() > 0.95


def test_only_a_fitted_classifier_can_be_exported(tmp_path: Path) -> None:
    with pytest.raises(EstimatorNotFittedError, match="not fitted"):
        export_classifier(SDLGMClassifier(), tmp_path / "c.onnx")
    with pytest.raises(ConfigError, match="Only an SDLGMClassifier can be exported"):
        export_classifier("forest", tmp_path / "c.onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_saved_classifier_is_exported_by_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    x, y = real_data()
    model = SDLGMClassifier(members=2, epochs=3, hidden=(12,), random_state=0).fit(x[:300], y[:300])
    model.save(tmp_path / "tags")
    whole = tmp_path / "tags.onnx"
    given = ["export", str(tmp_path / "tags"), "--part", "classifier", "--out"]
    assert main([*given, str(whole)]) == 0
    expected = model.predict_proba(x[300:500])
    proba, labels, _ = open_session(whole).run(None, {"x": x[300:500]})
    np.testing.assert_allclose(proba, expected, atol=1e-5)
    assert (labels == model.predict(x[300:500])).mean() > 0.999
    capfd.readouterr()
    assert main([*given, str(whole), "--quantize", "int8"]) == 1
    assert "cannot be quantised" in capfd.readouterr().err
    assert main(["export", str(tmp_path / "tags"), "--out", str(whole)]) == 1
    assert "--part classifier" in capfd.readouterr().err


def test_a_saved_transformer_is_exported_like_a_run(tmp_path: Path) -> None:
    x, _ = real_data()
    settings = {"n_components": 16, "budget": 4, "epochs": 10, "code": "mode", "random_state": 0}
    model = SDLGMTransformer(**settings).fit(x[:300])
    model.save(tmp_path / "codes")
    with pytest.warns(SDLGMWarning, match="searched for by default"):
        session = open_session(export_run(tmp_path / "codes", tmp_path / "encoder.onnx"))
    indices, counts, *_ = session.run(None, {"x": x[300:500]})
    assert (dense_codes(indices, counts, 16) == model.transform(x[300:500])).all(1).mean() > 0.98
    with pytest.raises(ModelFileError, match="not a SDLGMClassifier"):
        export_run(tmp_path / "codes", tmp_path / "no.onnx", part="classifier")


@pytest.mark.parametrize("inputs", ["standard", "quantile", "bins", "counts", "none"])
def test_a_row_that_is_not_finite_gets_no_labels(inputs: str, tmp_path: Path) -> None:
    x, y = real_data()
    settings: dict[str, Any] = {"members": 2, "epochs": 2, "hidden": (8,), "inputs": inputs}
    model = SDLGMClassifier(**settings, random_state=0).fit(x[:300], y[:300])
    session = open_session(export_classifier(model, tmp_path / "c.onnx"))
    rows = x[300:308].astype(np.float32)
    clean = session.run(["probabilities", "labels"], {"x": rows})
    rows[2, 3], rows[5, 0] = np.nan, -np.inf
    proba, labels, valid = session.run(None, {"x": rows})
    assert valid.tolist() == [True, True, False, True, True, False, True, True]
    assert np.isnan(proba[~valid]).all()
    assert not labels[~valid].any()
    np.testing.assert_array_equal(proba[valid], clean[0][valid])
    np.testing.assert_array_equal(labels[valid], clean[1][valid])
