"""The report: one self-contained file with all its parts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sdlgm.config import ModelConfig, TrainingConfig
from sdlgm.errors import SDLGMError
from sdlgm.report import feature_use, write_report
from sdlgm.training import Run, fit


def test_the_page_is_complete_and_self_contained(run: Run, tmp_path: Path) -> None:
    path = write_report(run, tmp_path / "report.html")
    page = path.read_text()
    metrics = run.metrics
    for part in (
        f"{metrics['negative_elbo']:.2f}",
        f"{metrics['nll_bound']:.2f}",
        f"{metrics['relaxed_objective']:.2f}",
        "lower is better",
        "not a\n    bound",
        "M = 10",
        "Binomial prior",
        "features are used",
        "data:image/png;base64,",
        metrics["model_sha256"],
    ):
        assert part in page, part
    assert page.count("<svg") == 3
    outside = re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page)
    assert outside == []
    assert "<script" not in page


def test_the_page_is_reproducible(run: Run, tmp_path: Path) -> None:
    one, two = (write_report(run, tmp_path / name).read_bytes() for name in ("a.html", "b.html"))
    assert one == two


def test_dead_features_are_named() -> None:
    use = feature_use(torch.tensor([[1.0, 0, 0, 2], [0, 0, 0, 1]]))
    assert use.present.tolist() == [0.5, 0, 0, 1]
    assert use.dead == [1, 2]


def test_data_other_than_images_are_drawn_as_curves(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 7)).cumsum(1)
    np.save(tmp_path / "x.npy", values)
    run = fit(
        str(tmp_path / "x.npy"),
        ModelConfig(
            features=6,
            budget=3,
            groups=1,
            likelihood="gaussian",
            encoder_hidden=(8,),
            sparsity_hidden=(4,),
        ),
        TrainingConfig(iterations=30, validation_fraction=0.2, evaluate_every=10),
        out=tmp_path / "run",
        importance_samples=3,
        progress=False,
    )
    page = write_report(run).read_text()
    assert page.count("<svg") == 4
    assert "Samples, and the means" in page


@pytest.mark.usefixtures("without_jinja2")
def test_a_missing_extra_is_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match=r"needs jinja2: pip install 'sdlgm\[report\]'"):
        write_report(run, tmp_path / "r.html")
