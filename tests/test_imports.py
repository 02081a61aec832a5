"""Imports go one way, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_imports_go_one_way() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_help_and_settings_import_nothing_heavy() -> None:
    code = (
        "import sys, sdlgm, sdlgm.cli, sdlgm.config\n"
        "try: sdlgm.cli.main(['fit', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'sklearn', 'matplotlib', 'lightning_fabric'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_name_brings_only_what_it_needs() -> None:
    layer = "import torch, sdlgm.nn\nsdlgm.nn.linear(2, 3, torch.Generator())"
    optional = {"pandas", "polars", "matplotlib", "onnx", "ray", "mlflow", "tensorboard"}
    cases = {
        "import sdlgm": {"torch", "numpy", "scipy", "sklearn", "pyarrow", "lightning_fabric"},
        f"from sdlgm import SDLGM, GatedMultinomial\n{layer}": {
            "scipy", "sklearn", "pyarrow", "rich", "sympy",
        },
        "from sdlgm import fit": {"scipy", "sklearn", "pyarrow", "lightning_fabric", "rich"},
    }  # fmt: skip
    for statement, heavy in cases.items():
        code = (
            f"{statement}\nimport sys\n"
            f"sys.exit(', '.join({heavy | optional!r} & set(sys.modules)) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, f"{statement}: {done.stderr}"


def test_public_names_can_be_had() -> None:
    import sdlgm

    for name in sdlgm.__all__:
        assert getattr(sdlgm, name) is not None
    assert set(sdlgm._HOME) == set(sdlgm.__all__) - {"__version__"}
