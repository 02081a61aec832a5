"""Files of data sets, from a folder that the user names or from the network."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from sdlgm.errors import DataError
from sdlgm.limits import read_bytes

__all__ = ["fetch", "read_known"]


def fetch(
    folder: str,
    file: str,
    url: str,
    sha256: str,
    read: Callable[[Path], bytes],
    instead: str = "",
) -> bytes:
    """Return the content of a file from ``$SDLGM_DATA/folder``; download it if it is not there.

    Parameters
    ----------
    folder, file
        Path of the file below the folder that ``SDLGM_DATA`` names.
    url
        Address of the folder to download it from, with a slash at its end.
    sha256
        Digest of the file at that address.
    read
        Reads and checks the file.
    instead
        Sentence of the error message that says what to use without a network.

    Raises
    ------
    DataError
        If the file is not there and cannot be downloaded (the message names both ways to provide
        it), or if ``read`` refuses it.
    """
    named = os.environ.get("SDLGM_DATA")
    if named:
        local = Path(named) / folder / file
        if local.is_file():
            return read(local)
    remedies = (
        f"Either put {file} into a folder {folder}/ and set the environment variable SDLGM_DATA to "
        f"the folder above it{f' (now {named})' if named else ''}, or connect to the internet so "
        f"that it can be downloaded from {url}. {instead}"
    ).strip()
    try:
        import pooch
    except ImportError:
        raise DataError(
            f"{file} must be downloaded, which needs the package pooch: pip install "
            f"'sdlgm[data]'. {remedies}"
        ) from None
    try:
        path = pooch.retrieve(
            url + file,
            known_hash=sha256,
            fname=f"{folder.replace('/', '-')}-{file}",
            path=pooch.os_cache("sdlgm"),
            progressbar=False,
        )
    except Exception as error:  # each network layer has errors of its own
        reason = type(error).__name__
        raise DataError(f"{file} could not be downloaded ({reason}). {remedies}") from None
    return read(Path(path))


def read_known(sha256: str, path: Path) -> bytes:
    """Return the content of a file whose SHA-256 is known.

    Raises
    ------
    DataError
        If the file has another digest.
    """
    content = read_bytes(path, "data_bytes", DataError)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path} is not the file it should be: its SHA-256 is {found[:12]}..., expected "
            f"{sha256[:12]}... Delete it and download it again."
        )
    return content
