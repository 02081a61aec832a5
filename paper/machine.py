"""A description of the machine on which something was timed."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

__all__ = ["as_text", "machine"]


def machine() -> dict[str, Any]:
    """Return processor, system, cores, load and versions."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": load,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def as_text(description: dict[str, Any]) -> str:
    """Format a description as one line."""
    load = "unknown" if description["load"] is None else f"{description['load']:.1f}"
    return (
        f"{description['processor']}, {description['cores']} cores, load {load}, "
        f"torch {description['torch']}"
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
