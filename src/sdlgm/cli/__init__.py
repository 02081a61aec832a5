"""The command line: ``sdlgm fit | resume | evaluate | encode | decode | report | info | ...``.

Every setting is a field of a dataclass in :mod:`sdlgm.config`; the same classes read YAML. A
command imports only what it needs, when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from jsonargparse import set_parsing_settings

from sdlgm.cli.codes import COMPRESS, DECODE, DECOMPRESS, ENCODE
from sdlgm.cli.inspection import EVALUATE, EXPORT, INFO, REPORT
from sdlgm.cli.output import bug_report, notes, say
from sdlgm.cli.parser import Command, Parser, underscored
from sdlgm.cli.start import starting_values
from sdlgm.cli.training import FIT, RESUME
from sdlgm.errors import SDLGMError
from sdlgm.interrupts import interruptible
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
    "export": EXPORT,
    "report": REPORT,
    "info": INFO,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status (0 done, 1 error, 2 usage, 130 interrupted)."""
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
    given = [underscored(token) for token in (sys.argv[1:] if arguments is None else arguments)]
    for name, command in COMMANDS.items():
        child = command.parser() if name in given else Parser()
        if name == "fit" and name in given:
            child.set_defaults(starting_values(given))
        commands.add_subcommand(name, child, help=command.summary)
        child.prog = f"sdlgm {name}"
    options = parser.parse_args(given)
    with interruptible() as received:
        status = _guarded(COMMANDS[options.command], options[options.command])
    return 130 if received else status


def _guarded(command: Command, options: object) -> int:
    """Run a command, and turn every error into a sentence and an exit status."""
    try:
        with notes():
            command.run(options)  # type: ignore[arg-type]
        sys.stdout.flush()
    except SDLGMError as error:
        from sdlgm.training import Interrupted

        say(f"sdlgm: {error}")
        return 130 if isinstance(error, Interrupted) else 1
    except KeyboardInterrupt:
        say("sdlgm: interrupted; nothing was left half-written.")
        return 130
    except BrokenPipeError:  # such as of `sdlgm info RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        say(f"sdlgm: {error.filename or 'the system'}: {error.strerror or error}.")
        return 1
    except Exception as error:
        if os.environ.get("SDLGM_DEBUG"):
            raise
        say(f"sdlgm: {bug_report(error)}")
        return 1
    return 0


def run() -> None:
    """Run the command of this process and exit with its status."""
    sys.exit(main())
