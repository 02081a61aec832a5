"""The command line: ``sdlgm fit | resume | evaluate | encode | decode | report | info | ...``.

Every setting is a field of a dataclass in :mod:`sdlgm.config`; the same classes read YAML. A
command imports only what it needs, when it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

from jsonargparse import Namespace, set_parsing_settings

from sdlgm.cli.codes import COMPRESS, DECODE, DECOMPRESS, ENCODE, VECTORS
from sdlgm.cli.inspection import EVALUATE, EXPORT, INFO, REPORT
from sdlgm.cli.output import bug_report, complain, notes
from sdlgm.cli.parser import Command, Parser, underscored
from sdlgm.cli.start import starting_values
from sdlgm.cli.training import FIT, RESUME
from sdlgm.errors import ConfigError, SDLGMError
from sdlgm.interrupts import interruptible
from sdlgm.progress import silenced
from sdlgm.version import __version__

__all__ = ["COMMANDS", "main", "run"]

COMMANDS: dict[str, Command] = {
    "fit": FIT,
    "resume": RESUME,
    "evaluate": EVALUATE,
    "encode": ENCODE,
    "decode": DECODE,
    "compress": COMPRESS,
    "decompress": DECOMPRESS,
    "vectors": VECTORS,
    "export": EXPORT,
    "report": REPORT,
    "info": INFO,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 1 error, 2 usage, 130 interrupted)."""
    given = [underscored(token) for token in (sys.argv[1:] if arguments is None else arguments)]
    with interruptible() as received:
        status = _guarded(lambda: _run(given))
    return 130 if received else status


def _run(given: list[str]) -> None:
    """Parse a command line and run its command."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = Parser(
        prog="sdlgm",
        description="Sparse discrete codes under a hard budget.",
        epilog="""examples:
  sdlgm fit mnist-5k --out runs/digits
  sdlgm evaluate runs/digits
  sdlgm encode runs/digits mnist-5k --out codes.parquet
  sdlgm fit --help""",
    )
    parser.add_argument("--version", action="version", version=f"sdlgm {__version__}")
    commands = parser.add_subcommands(dest="command")
    for name, command in COMMANDS.items():
        child = command.parser() if name in given else Parser()
        if name == "fit" and name in given:
            child.set_defaults(starting_values(given))
        child.add_argument(
            "--quiet", action="store_true", help="Show no progress and no sentences on success."
        )
        commands.add_subcommand(name, child, help=command.summary)
        child.prog = f"sdlgm {name}"
    options = parser.parse_args(given)
    chosen = options[options.command]
    _check_given(chosen)
    with silenced(chosen.quiet), notes():
        COMMANDS[options.command].run(chosen)


def _check_given(options: Namespace) -> None:
    """Raise an error for an empty input, which Python takes for the current folder."""
    for name in ("run", "data", "codes", "file"):
        if isinstance(value := getattr(options, name, None), str) and not value.strip():
            raise ConfigError(f"{name.upper()} is empty. Is a shell variable unset? Name a path.")


def _guarded(task: Callable[[], None]) -> int:
    """Run a task, and turn every error into a sentence and an exit status."""
    try:
        try:
            task()
        except SystemExit:  # of --help, --version and wrong usage
            _flush()
            raise
        _flush()
    except SDLGMError as error:
        from sdlgm.training import Interrupted

        complain(f"sdlgm: {error}")
        return 130 if isinstance(error, Interrupted) else 1
    except KeyboardInterrupt:
        complain("sdlgm: interrupted; nothing was left half-written.")
        return 130
    except BrokenPipeError:  # such as of `sdlgm info RUN | head`
        _drop_output()
        return 1
    except OSError as error:
        complain(f"sdlgm: {error.filename or 'the output'}: {error.strerror or error}.")
        _drop_output()
        return 1
    except MemoryError as error:
        complain(f"sdlgm: this machine's memory is too small ({error or 'no more can be had'}).")
        return 1
    except Exception as error:
        if os.environ.get("SDLGM_DEBUG"):
            raise
        complain(f"sdlgm: {bug_report(error)}")
        return 1
    return 0


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_output() -> None:
    """Drop what could not be written; otherwise Python would try once more at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run() -> None:
    """Run the command of this process and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        # Names that the terminal's encoding lacks are escaped.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main())
