"""Where results go: files that appear whole or not at all, and nothing of the user's is destroyed.

A temporary file has a name of ours and is locked while its process lives. So a later command knows
the leftovers of a killed one and removes them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO

from sdlgm.errors import ConfigError, OutputError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "LOCK",
    "OURS",
    "atomic_folder",
    "atomic_path",
    "check_output",
    "check_space",
    "locked",
    "named",
    "only_locked",
    "same_file",
    "strangers_in",
    "swap_folders",
    "sweep",
    "writing",
]

LOCK = ".lock"
"""Name of the file that is locked while a folder is written."""

OURS = frozenset(
    {
        "checkpoint.safetensors",
        "columns.json",
        "config.json",
        "config.yaml",
        "estimator.json",
        "estimator.safetensors",
        "log.jsonl",
        "metrics.json",
        "mlflow",
        "mlflow.json",
        "model.safetensors",
        "replaces.json",
        "report.html",
        "tensorboard",
        LOCK,
    }
)
"""Names of the files and folders that a run, a model or an estimator consists of."""

_TEMPORARY = re.compile(r"\.sdlgm-[0-9a-f]{12}(\.[A-Za-z0-9]+)?")
_CANNOT_WRITE = {
    errno.ENOSPC: "there is no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "it would be larger than this system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.ELOOP: "it is a symbolic link to itself",
    errno.EISDIR: "it is a folder",
    errno.EIO: "the disk reports an error",
    errno.EBUSY: "it is in use",
}


# --- one file -----------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block succeeds.

    Readers see the old file or the new one, never a part of it, even after a crash. A symbolic link
    stays a link: the file that it points to is replaced. An existing file keeps its mode. A device
    or a FIFO is written to, after the block.

    Raises
    ------
    OutputError
        If the file cannot be written; the message names ``path``. The old file is intact then.
    """
    path = Path(path)
    with writing(path):
        if _is_special(path):
            with _written_to(path) as temporary:
                yield temporary
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = _mode(target)
        with _temporary(target) as (temporary, handle):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(mode)
            if sys.platform == "win32":
                os.close(handle)
            temporary.replace(target)


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn a failure to write inside the block into an :class:`OutputError` that names ``path``."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise _explained(path, error) from None


def _explained(path: Path | str, error: OSError) -> OSError:
    """Return the error to raise for ``error``, which may also come from reading an input."""
    if error.errno is None and re.search(r"\d+ requested and \d+ written", str(error)):
        error = OSError(errno.ENOSPC, "")  # numpy's words
    if error.errno not in _CANNOT_WRITE:
        return error
    found = error.filename
    if found is not None and not _belongs(Path(os.fsdecode(found)), Path(path)):
        return error
    advice = {
        errno.ENOSPC: " Free some space, or write elsewhere.",
        errno.EDQUOT: " Free some space, or write elsewhere.",
    }.get(error.errno, "")
    old = " The file that was there is unchanged." if _is_file(Path(path)) else ""
    return OutputError(f"{path} cannot be written: {_CANNOT_WRITE[error.errno]}.{old}{advice}")


def _belongs(found: Path, path: Path) -> bool:
    """Whether an error about ``found`` is one about writing ``path``: the file or its folders."""
    place = Path(path).absolute()
    real = Path(os.path.realpath(path))
    found = found.absolute()
    near = {place, real, *place.parents, *real.parents}
    return found in near or found.parent in {place.parent, real.parent, place, real}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _is_special(path: Path) -> bool:
    """Whether a path must be written to in place: a device, a FIFO, or a descriptor."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    # A descriptor may lead to a regular file, but one in /dev/shm is like any other.
    parts = path.absolute().parts
    descriptor = parts[1:2] == ("proc",) or (
        parts[1:2] == ("dev",) and parts[2:3] in (("fd",), ("stdout",), ("stderr",))
    )
    return not stat.S_ISREG(mode) or descriptor


@contextlib.contextmanager
def _written_to(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose content is appended to a special file."""
    with tempfile.TemporaryDirectory(prefix="sdlgm-") as folder:
        temporary = Path(folder) / f"content{path.suffix}"
        temporary.touch()
        yield temporary
        with temporary.open("rb") as content, path.open("ab") as file:
            shutil.copyfileobj(content, file)


def _mode(target: Path) -> int:
    """Return the mode of a file to write: that of the file it replaces, or the usual one."""
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        return _usual(0o666)
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    return mode


def _usual(mode: int) -> int:
    """Return the mode that the system gives to new files or folders."""
    mask = os.umask(0)
    os.umask(mask)
    return mode & ~mask


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[tuple[Path, int]]:
    """Yield a new locked file beside ``target``, and its descriptor; remove it if it is left."""
    while True:
        temporary = target.with_name(f".sdlgm-{secrets.token_hex(6)}{_plain_suffix(target)}")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else another process swept it before it was locked
            break
        os.close(handle)
    try:
        yield temporary, handle
    finally:
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.close(handle)


def _plain_suffix(target: Path) -> str:
    return target.suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,16}", target.suffix) else ""


def sweep(folder: Path | str) -> None:
    """Remove the temporary files and folders that killed processes left in a folder."""
    folder = Path(folder)
    try:
        found = [name for name in os.listdir(folder) if _TEMPORARY.fullmatch(name)]  # noqa: PTH208
    except OSError:
        return
    for name in found:
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY if (folder / name).is_dir() else os.O_RDWR
            handle = os.open(folder / name, flags | getattr(os, "O_NOFOLLOW", 0))
            try:
                mode = os.fstat(handle).st_mode
                if stat.S_ISREG(mode) and _try_lock(handle):
                    (folder / name).unlink()
                elif stat.S_ISDIR(mode) and _try_lock(handle):
                    shutil.rmtree(folder / name, ignore_errors=True)
            finally:
                os.close(handle)


def _try_lock(handle: int) -> bool | None:
    """Lock an open file, until it is closed; the system closes it on a kill.

    Return whether it is locked now; ``None`` if the system has no locks.
    """
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


# --- a folder of files --------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_folder(folder: Path | str, names: Collection[str]) -> Iterator[Path]:
    """Yield an empty folder whose files replace those of ``folder`` if the block succeeds.

    Readers see all of the old files or all of the new ones, also after a crash, as far as the
    system can exchange two folders at one stroke (Linux). If ``folder`` holds other files, is a
    mount point or a current folder, it stays, and the complete new files are renamed into it one
    after another.

    Parameters
    ----------
    folder
        The folder; it is made if it does not exist.
    names
        Names of the files that belong together. Those that the block does not write are removed.

    Raises
    ------
    OutputError
        If a file cannot be written; the message names ``folder``. The old files are intact then.
    """
    folder = Path(folder)
    with writing(folder):
        target = Path(os.path.realpath(folder))
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = _is_alone(target, names)
        with _temporary_folder(target.parent if beside else target) as staged:
            try:
                yield staged
            except OutputError as error:
                raise OutputError(str(error).replace(str(staged), str(folder))) from None
            if beside and _is_alone(target, names):
                staged.chmod(
                    stat.S_IMODE(target.stat().st_mode) if target.exists() else _usual(0o777)
                )
                swap_folders(staged, target)
            else:
                _move_files(staged, target, names)


def _is_alone(target: Path, names: Collection[str]) -> bool:
    """Whether a folder can be replaced as a whole: it holds nothing else, and is not in use."""
    if not os.access(target.parent, os.W_OK):
        return False
    if not target.exists():
        return True
    with contextlib.suppress(OSError):
        if Path.cwd().is_relative_to(target):
            return False
    return not os.path.ismount(target) and all(
        entry.name in names or _TEMPORARY.fullmatch(entry.name) for entry in target.iterdir()
    )


@contextlib.contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new locked folder in another, after sweeping that; remove it if it is left."""
    parent.mkdir(exist_ok=True)
    sweep(parent)
    while True:
        folder = parent / f".sdlgm-{secrets.token_hex(6)}"
        folder.mkdir(mode=0o700)
        if sys.platform == "win32":
            handle = None
            break
        handle = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.exists():  # else another process swept it before it was locked
            break
        os.close(handle)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _move_files(staged: Path, target: Path, names: Collection[str]) -> None:
    """Put the files of a folder into another one, whose other files of such names are removed."""
    written = [path.name for path in staged.iterdir()]
    with contextlib.ExitStack() as stack:
        for name in written:
            temporary = stack.enter_context(atomic_path(target / name))
            shutil.copyfile(staged / name, temporary)
    for name in set(names) - set(written):
        (target / name).unlink(missing_ok=True)


def swap_folders(new: Path, target: Path) -> None:
    """Replace a folder by another, at one stroke where the system can; remove the old one."""
    if not target.exists():
        new.rename(target)
    elif _exchange(new, target):
        shutil.rmtree(new, ignore_errors=True)
    else:
        old = target.with_name(f"{target.name}.old")
        target.rename(old)
        try:
            new.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders by Linux's ``renameat2``; return whether that was possible."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    here, exchange = -100, 2
    return rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


# --- before anything is written -----------------------------------------------------------------


def check_output(out: Path | str, inputs: Iterable[Path | str] = (), what: str = "--out") -> Path:
    """Check that a file can be written and is none of the inputs; sweep leftovers beside it.

    Parameters
    ----------
    out
        The file that a command will write.
    inputs
        The files and folders that it reads. Of the folder of a run or a model, the files that it
        consists of are inputs; other files may be replaced.
    what
        What messages call ``out``.

    Raises
    ------
    ConfigError
        If ``out`` is empty, an input, or a folder.
    OutputError
        If its folder cannot be written to.
    """
    path = named(out, what)
    for given in inputs:
        source = Path(given)
        if same_file(path, source):
            raise ConfigError(f"{what} {out} is the input {given}. Name another file.")
        if not source.is_dir():
            continue
        parts = [source / name for name in OURS - {"report.html"}]
        if any(same_file(path, part) for part in parts):
            raise ConfigError(f"{what} {out} belongs to the input {given}. Name another file.")
    if path.is_dir():
        raise ConfigError(f"{what} {out} is a folder. Name a file in it.")
    with writing(path):
        if _is_special(path):
            return path
        target = Path(os.path.realpath(path))
        _mode(target)
        _check_rights(target.parent)
        sweep(target.parent)
    return path


def named(out: Path | str, what: str = "--out") -> Path:
    """Return a path; an empty text is not one, though Python takes it for the current folder."""
    if not isinstance(out, str | os.PathLike):
        raise ConfigError(
            f"{what} must be a path, got an object of type {type(out).__name__}. Is the order of "
            "the arguments right?"
        )
    if not str(out).strip():
        raise ConfigError(f"{what} is empty. Is a shell variable unset? Name a path.")
    return Path(out)


def _check_rights(folder: Path) -> None:
    """Raise ``OSError`` unless a file can be made in a folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    handle, name = tempfile.mkstemp(prefix=".sdlgm-", dir=folder)
    os.close(handle)
    Path(name).unlink()


def same_file(path: Path, other: Path) -> bool:
    """Whether two paths name one file, also through links, and also if it does not exist yet."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    try:
        return path.samefile(other)
    except OSError:
        return False


def check_space(folder: Path, size: int) -> None:
    """Raise :class:`OutputError` if the disk of a folder has fewer than ``size`` bytes free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OutputError(
            f"{folder} has {free / 1e6:,.1f} MB of free space, but about {size / 1e6:,.1f} MB "
            "will be written. Free some space, or choose another folder."
        )


# --- folders ------------------------------------------------------------------------------------


def strangers_in(folder: Path) -> list[str]:
    """Return the names in a folder that no run, model or estimator of ours has."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.name not in OURS and not _TEMPORARY.fullmatch(entry.name)
    )


def only_locked(folder: Path) -> bool:
    """Whether a folder is empty but for a lock and leftovers, which are swept."""
    sweep(folder)
    return all(entry.name == LOCK for entry in folder.iterdir())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made if it does not exist, while the block runs.

    A killed process holds no lock. A folder that was made here is removed if it stays empty.

    Raises
    ------
    ConfigError
        If another process holds the lock.
    OutputError
        If the folder cannot be written to.
    """
    with writing(folder):
        made = _make(folder)
        handle = _open_lock(folder)
    try:
        yield
    finally:
        # Unlink first: who opened this file meanwhile sees that it is not the folder's any more.
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
        handle.close()
        for each in made:
            with contextlib.suppress(OSError):
                each.rmdir()


def _open_lock(folder: Path) -> IO[str]:
    path = folder / LOCK
    while True:
        file = path.open("a+", encoding="utf-8")
        if _try_lock(file.fileno()) is False:
            file.seek(0)
            holder = file.read(200).strip()
            file.close()
            raise ConfigError(
                f"{folder} is being written by another process"
                f"{f' ({holder})' if holder else ''}. Wait until it ends, or choose another folder."
            )
        try:
            current = path.stat()
        except FileNotFoundError:
            current = None
        if current is not None and os.path.samestat(current, os.fstat(file.fileno())):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            return file
        file.close()


def _make(folder: Path) -> list[Path]:
    """Make a folder with its parents; return those that did not exist, the deepest first."""
    made = []
    each = folder
    while not each.exists():
        made.append(each)
        each = each.parent
    folder.mkdir(parents=True, exist_ok=True)
    return made
