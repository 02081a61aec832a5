"""Run a benchmark: ``python -m benchmarks step_time --json OUT``."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path

import benchmarks


def main() -> None:
    """Run the benchmark named by the first argument with the remaining arguments."""
    names = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name[0] != "_"]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parsers = parser.add_subparsers(dest="name", required=True)
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in names}
    for name, module in modules.items():
        aliases = getattr(module, "NAMES", ())
        summary = str(module.__doc__).partition("\n")[0]
        child = parsers.add_parser(name, aliases=aliases, help=summary)
        module.add_arguments(child)
        child.add_argument(
            "--json", "--out", type=Path, default=None, help="File to write the numbers to."
        )
        child.set_defaults(benchmark=module.run)
    options = parser.parse_args()
    options.benchmark(options)


if __name__ == "__main__":
    main()
