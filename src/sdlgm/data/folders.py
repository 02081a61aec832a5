"""Data sets of Parquet files: folders at any depth, and patterns."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from sdlgm.errors import DataError

__all__ = ["find_files", "is_folder", "root_of"]


def is_folder(data: str) -> bool:
    """Whether data are a folder or a pattern, not one file.

    Raises
    ------
    DataError
        If the name is empty, which Python takes for the current folder.
    """
    if not data.strip():
        raise DataError("The name of the data is empty. Is a shell variable unset? Name a path.")
    path = Path(data)
    return path.is_dir() or (glob.has_magic(data) and not path.is_file())


def root_of(data: str) -> Path:
    """Return the path that names in a data set are relative to: of a pattern, its fixed part."""
    path = Path(data)
    if path.exists() or not glob.has_magic(data):
        return path
    parts = path.parts
    return Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def find_files(
    data: str, out: Path | None = None, suffixes: tuple[str, ...] = (".parquet",)
) -> list[tuple[Path, Path]]:
    """Return the files of a data set in order, each with its name relative to the data set.

    Subfolders are searched, also those of Hive (``day=2/``) and of Spark (``x.parquet/``), and
    symbolic links to folders are followed. Names that start with ``.`` or ``_`` are skipped.

    Parameters
    ----------
    data
        A file, a folder, or a pattern such as ``lake/2026-*/*.parquet``.
    out
        A folder whose files are never part of the data set, as they are written from it.
    suffixes
        How the names of the files end. Other files in a folder are skipped; a pattern may not match
        any.

    Raises
    ------
    DataError
        If there are no files, or one is not a regular file.
    """
    path = Path(data)
    written = None if out is None else os.path.realpath(out)
    if path.is_dir():
        found = [(file, file.relative_to(path)) for file in _walk(path, written, ())]
        found = [(file, name) for file, name in found if file.suffix in suffixes]
    elif path.exists() or not glob.has_magic(data):
        found = [(path, Path(path.name))] if path.exists() else []
    else:
        root = root_of(data)
        found = []
        for match in sorted(root.glob(str(path.relative_to(root)))):
            inside = _walk(match, written, ()) if match.is_dir() else [match]
            found += [
                (file, file.relative_to(root))
                for file in inside
                if not _under(file, written) and (file is match or file.suffix in suffixes)
            ]
        found = [(f, name) for f, name in found if not any(p[0] in "._" for p in name.parts)]
    if not found:
        *more, last = map(_title, suffixes)
        kinds = f"{', '.join(more)} or {last}" if more else last
        raise DataError(f"There are no {kinds} files in {data}.")
    for file, _ in found:
        if file.suffix not in suffixes:
            raise DataError(f"{file} does not end in {' or '.join(suffixes)}.")
        try:
            regular = stat.S_ISREG(file.stat().st_mode)
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}.") from None
        if not regular:
            raise DataError(f"{file} is not a regular file.")
    return sorted(found)


def _title(suffix: str) -> str:
    return "Parquet" if suffix == ".parquet" else suffix


def _walk(folder: Path, out: str | None, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the files below a folder; a link to a folder that contains it is not followed."""
    try:
        about = folder.stat()
        here = (about.st_dev, about.st_ino)
        if here in above or (out is not None and os.path.realpath(folder) == out):
            return
        names = sorted(os.listdir(folder))  # noqa: PTH208 (names are filtered first)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from None
    for name in names:
        if name[0] in "._":
            continue
        path = folder / name
        if path.is_dir():
            yield from _walk(path, out, (*above, here))
        else:
            yield path


def _under(file: Path, folder: str | None) -> bool:
    """Whether a file lies below a folder, which is a real path."""
    return folder is not None and Path(folder) in Path(os.path.realpath(file)).parents
