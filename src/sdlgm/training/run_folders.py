"""Where a run is written: a new folder, or one beside the run that it replaces when it is done."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from sdlgm.errors import ConfigError, ModelFileError
from sdlgm.folders import MODEL, SETTINGS, holds_metrics, holds_run
from sdlgm.outputs import OURS, locked, named, strangers_in, swap_folders, sweep, writing
from sdlgm.storage import read_json, write_json
from sdlgm.training.checkpoint import FILE as CHECKPOINT

__all__ = ["check_folder", "place", "replaced_by", "replacing", "starting"]

MARKER = "replaces.json"
"""File of a run that will replace another one; it holds the name of that folder."""


def check_folder(out: Path | str, overwrite: bool, read_settings: Callable[[Path], object]) -> Path:
    """Check that a run may be written to a folder; nothing is changed.

    ``read_settings`` reads a ``config.yaml`` and raises ``ConfigError`` if it is not one of ours.

    Raises
    ------
    ConfigError
        Unless the folder is new or empty, or holds a run and nothing else, and ``overwrite``.
    """
    folder = named(out, "--out")
    if os.path.lexists(folder) and not folder.exists():
        raise ConfigError(f"{folder} is a symbolic link to nothing. Choose another folder.")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file. A run needs a folder of its own.")
    if not _entries(folder):
        return folder
    _refuse_strangers(folder, read_settings)
    if not overwrite:
        raise ConfigError(
            f"{folder} holds a run already. Continue it (sdlgm resume {folder}), replace it "
            "(--overwrite), or choose another folder."
        )
    if os.path.ismount(folder):
        raise ConfigError(
            f"{folder} is a mount point and cannot be replaced. Choose a folder in it."
        )
    return folder


def _entries(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with writing(folder):
        sweep(folder)
        return [each.name for each in folder.iterdir() if each.name != ".lock"]


def _refuse_strangers(folder: Path, read_settings: Callable[[Path], object]) -> None:
    """Raise :class:`ConfigError` unless a folder that is not empty holds a run and nothing else."""
    strangers = strangers_in(folder)
    if not strangers and holds_run(folder):
        try:
            read_settings(folder / SETTINGS)
            if (folder / MODEL).exists() and not _is_model(folder / MODEL):
                strangers = [MODEL]
        except (ConfigError, UnicodeDecodeError):
            strangers = [SETTINGS]
    elif not strangers:
        strangers = _entries(folder)
    if strangers:
        shown = ", ".join(strangers[:4]) + (", ..." if len(strangers) > 4 else "")
        raise ConfigError(
            f"{folder} is not empty and not a run alone ({shown}). Nothing in it is touched. "
            "Choose a new folder, an empty one, or one that holds a run and nothing else."
        )


def _is_model(path: Path) -> bool:
    try:
        about = read_json(path)
    except ModelFileError:
        return False
    return isinstance(about, dict) and about.get("format") == "sdlgm-model"


def place(out: Path) -> Path:
    """Return where to train a run for a folder: there, or in a folder beside the run that it has.

    Raises
    ------
    ConfigError
        If the folder beside it is in use for something else.
    """
    if not _entries(out):
        return out
    target = Path(os.path.realpath(out))
    beside = target.with_name(f"{target.name}.new")
    if os.path.lexists(beside) and _entries(beside) and replaced_by(beside) != target:
        raise ConfigError(
            f"{beside} is in the way: the new run is trained there until it is complete. Rename or "
            "remove it, or choose another folder."
        )
    return beside


def replaced_by(folder: Path) -> Path | None:
    """Return the folder that a run replaces when it is complete, or ``None``."""
    path = folder / MARKER
    if not path.is_file():
        return None
    found = read_json(path)
    name = found.get("folder") if isinstance(found, dict) else None
    real = Path(os.path.realpath(folder))
    if not isinstance(name, str) or f"{name}.new" != real.name:
        return None
    return real.with_name(name)


@contextlib.contextmanager
def starting(out: Path, folder: Path) -> Iterator[None]:
    """Lock the folders of a run that starts; if it fails before its first checkpoint, remove it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(folder))
        if folder != out:
            stack.enter_context(locked(out))
        _clear(folder)
        try:
            if folder != out:
                if (out / "mlflow").is_dir():  # runs of earlier trainings, which MLflow keeps
                    shutil.copytree(out / "mlflow", folder / "mlflow")
                write_json(folder / MARKER, {"folder": Path(os.path.realpath(out)).name})
            yield
        except BaseException:
            if not (folder / CHECKPOINT).exists() and not holds_metrics(folder):
                _clear(folder)
            raise


def _clear(folder: Path) -> None:
    """Remove what belongs to a run from a folder."""
    for name in OURS - {".lock"}:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """When the block has completed the run in a folder, put it in the place of the one it replaces.

    Yield the folder where the run will be.
    """
    target = replaced_by(folder)
    if target is None:
        yield folder
        return
    yield target
    with writing(target):
        swap_folders(folder, target)
        (target / MARKER).unlink(missing_ok=True)
