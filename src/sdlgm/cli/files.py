"""The commands that turn data into files, and files into data: codes, lossless files, ONNX."""

from __future__ import annotations

import typing

from jsonargparse import Namespace

from sdlgm.cli.parser import Parser, add_split
from sdlgm.cli.show import say
from sdlgm.config import CodeMethod
from sdlgm.errors import SDLGMError

__all__ = [
    "compress",
    "compress_parser",
    "decode",
    "decode_parser",
    "decompress",
    "decompress_parser",
    "encode",
    "encode_parser",
    "export",
    "export_parser",
]


def encode_parser() -> Parser:
    """Return the options of ``sdlgm encode``."""
    parser = Parser(
        "encode RUN DATA OUT [options]",
        description="Encode data: one row of indices and counts a sample, never more features "
        "than the budget. Where DATA is a folder or a pattern of Parquet files, or OUT a folder, "
        "the files are encoded one by one in bounded memory, each into a file of its name under "
        "OUT; called again after a stop, files that are done are passed over.",
        epilog="""examples:
  sdlgm encode runs/digits mnist-5k codes.parquet --split test
  sdlgm encode runs/digits mnist-5k codes.sdz --split test
  sdlgm encode runs/metrics new.csv codes.parquet --code mode
  sdlgm encode runs/digits mnist-5k codes.parquet --code best --candidates 64 --max-active 10
  sdlgm encode runs/metrics lake/ codes/ --keep host time --engine ray
  sdlgm encode runs/metrics 'lake/2026-*/*.parquet' codes/""",
    )
    parser.add_argument("run", help="Folder of the run.")
    parser.add_argument(
        "data",
        help="A built-in data set, a .csv, .parquet or .npy file, or a folder or pattern (in "
        "quotes) of Parquet files.",
    )
    parser.add_argument(
        "out", help="File of codes to write, .parquet or .sdz; a folder for a folder or pattern."
    )
    parser.add_argument(
        "--format",
        choices=("parquet", "sdz"),
        default=None,
        help="parquet: lists of indices and counts, which anything reads. sdz: entropy-coded "
        "blocks with checksums, a few bytes a code. Default: what the suffix of OUT names; for "
        "folders parquet, the only one there.",
    )
    add_split(parser, "all")
    parser.add_argument(
        "--code",
        choices=typing.get_args(CodeMethod),
        default=None,
        help="Draw the code from the posterior, take a most probable one, round the expected "
        "counts, or take the best of several by what sample and code cost together. Default: "
        "mode, the only one for folders.",
    )
    parser.add_argument("--candidates", type=int, default=16, help="Codes that best compares.")
    parser.add_argument(
        "--max_active",
        type=int,
        default=None,
        help="Largest number of features in a code; the most probable ones stay. Default: the "
        "budget.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Source of bits and codes.")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default=None,
        help="For folders: this process (local, the default), or Ray, with an actor for each CPU "
        "but one. The files are the same.",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        default=None,
        help="For folders: the model's columns in the order of its training data, or one column "
        "of lists. Default: all but those of --keep.",
    )
    parser.add_argument(
        "--keep", nargs="+", default=None, help="For folders: columns to pass through."
    )
    return parser


def encode(options: Namespace) -> None:
    """Encode a table, or a folder of Parquet files."""
    from sdlgm.codec import encode_file
    from sdlgm.progress import progress_bar
    from sdlgm.scale import is_dataset
    from sdlgm.training import Run

    if is_dataset(options.data, options.out):
        _encode_dataset(options)
        return
    for name in ("engine", "columns", "keep"):
        if options[name] is not None:
            raise SDLGMError(f"--{name} is for folders of Parquet files: let DATA or OUT be one.")
    run = Run.open(options.run)
    rows = run.load_rows(options.data).rows(options.split)
    with progress_bar("encoding", len(rows)) as update:
        number = encode_file(
            run.model,
            rows,
            options.out,
            code=options.code or "mode",
            candidates=options.candidates,
            max_active=options.max_active,
            seed=options.seed,
            file_format=options.format,
            progress=lambda done: update(done, {}),
        )
    say(f"{options.out}: {number:,} codes of at most {run.config.model.budget} active features.")


def _encode_dataset(options: Namespace) -> None:
    from sdlgm.scale import encode_dataset

    if options.split != "all":
        raise SDLGMError(f"A folder has no splits: --split {options.split} is for single files.")
    if options.seed:
        raise SDLGMError(
            f"Nothing is drawn for a folder: --seed {options.seed} is for single files."
        )
    if options.format == "sdz" or options.max_active is not None:
        given = "--format sdz" if options.format == "sdz" else f"--max-active {options.max_active}"
        raise SDLGMError(
            f"A folder becomes Parquet files of most probable codes: {given} is for single files."
        )
    report = encode_dataset(
        options.run,
        options.data,
        options.out,
        engine=options.engine or "local",
        columns=options.columns,
        keep=options.keep or (),
        code=options.code or "mode",
    )
    before = report.files - report.encoded_files
    say(
        f"{options.out}: {report.rows:,} rows in {report.files:,} files"
        + (f", {before:,} of them encoded before" if before else "")
        + f"; {report.encoded_rows:,} rows in {report.seconds:.1f} s."
    )


def decode_parser() -> Parser:
    """Return the options of ``sdlgm decode``."""
    parser = Parser(
        "decode RUN CODES OUT [options]",
        description="Decode codes to the mean of the data that they stand for.",
        epilog="""examples:
  sdlgm decode runs/digits codes.parquet decoded.npy
  sdlgm decode runs/digits broken.sdz decoded.npy --salvage""",
    )
    parser.add_argument("run", help="Folder of the run that encoded them.")
    parser.add_argument("codes", help="File of codes, .parquet or .sdz.")
    parser.add_argument("out", help="File to write: .npy, .csv or .parquet.")
    parser.add_argument(
        "--salvage",
        action="store_true",
        help="Of a damaged .sdz file, decode the sound blocks; the rows of the others are NaN, and "
        "are named.",
    )
    return parser


def decode(options: Namespace) -> None:
    """Decode a file of codes."""
    from sdlgm.codec import Damage, decode_file
    from sdlgm.data import write_rows
    from sdlgm.training import Run

    lost: list[Damage] = []
    on_damage = lost.append if options.salvage else None
    decoded = decode_file(Run.open(options.run).model, options.codes, on_damage=on_damage)
    write_rows(options.out, decoded)
    for damage in lost:
        say(f"{options.codes}: {damage} is damaged; NaN in its place.")
    say(f"{options.out}: {len(decoded):,} rows of {decoded.shape[1]} columns.")


def export_parser() -> Parser:
    """Return the options of ``sdlgm export``."""
    parser = Parser(
        "export RUN --out FILE [options]",
        description="Write the encoder or the decoder of a run, or a saved classifier, as one ONNX "
        "file, for machines without torch. Needs the extra onnx.",
        epilog="""examples:
  sdlgm export runs/digits --format onnx --out encoder.onnx
  sdlgm export runs/digits --out encoder-int8.onnx --quantize int8
  sdlgm export runs/digits --out sampler.onnx --code sample
  sdlgm export runs/digits --out decoder.onnx --part decoder
  sdlgm export tags --out tags.onnx --part classifier    # of SDLGMClassifier.save("tags")""",
    )
    parser.add_argument("run", help="Folder of the run, or of a saved estimator.")
    parser.add_argument("--format", choices=("onnx",), default="onnx", help="Format of the file.")
    parser.add_argument("--out", type=str, required=True, help="File to write.")
    parser.add_argument(
        "--part",
        choices=("encoder", "decoder", "classifier"),
        default="encoder",
        help="Half of a model, or a saved classifier as a whole.",
    )
    parser.add_argument(
        "--code",
        choices=("mode", "sample"),
        default="mode",
        help="Of the encoder: take a most probable code, or draw one from uniform numbers that are "
        "a second input.",
    )
    parser.add_argument(
        "--quantize", choices=("int8",), default=None, help="Weights of 8 bits. Default: 32."
    )
    return parser


def export(options: Namespace) -> None:
    """Write a part of a model as ONNX."""
    from sdlgm.export import export_run

    path = export_run(
        options.run,
        options.out,
        part=options.part,
        code=options.code,
        quantize=options.quantize,
    )
    say(f"{path}: {options.part}, {path.stat().st_size:,} bytes.")


def compress_parser() -> Parser:
    """Return the options of ``sdlgm compress``."""
    parser = Parser(
        "compress RUN DATA OUT [options]",
        description="Compress bits or integers without loss, to about the model's negative ELBO. "
        "Of grey values that the run binarises, the drawn bits are compressed.",
        epilog="example:\n  sdlgm compress runs/digits mnist-5k digits.sdl --split test",
    )
    parser.add_argument("run", help="Folder of the run.")
    parser.add_argument("data", help="A built-in data set, or a .csv, .parquet or .npy file.")
    parser.add_argument("out", help="File to write (.sdl).")
    add_split(parser, "all")
    parser.add_argument("--seed", type=int, default=0, help="Source of drawn bits.")
    return parser


def compress(options: Namespace) -> None:
    """Compress data without loss."""
    from sdlgm.codec import compress_file
    from sdlgm.progress import progress_bar
    from sdlgm.training import Run

    run = Run.open(options.run)
    rows = run.load_rows(options.data).rows(options.split)
    with progress_bar("compressing", len(rows)) as update:
        found = compress_file(
            run.model,
            rows,
            options.out,
            seed=options.seed,
            progress=lambda done: update(done, {}),
        )
    say(
        f"{options.out}: {found.rows:,} rows, {found.file_bits // 8:,} bytes, "
        f"{found.file_bits / found.rows:.2f} bits a row ({found.initial_bits} initial bits in all)."
    )


def decompress_parser() -> Parser:
    """Return the options of ``sdlgm decompress``."""
    parser = Parser(
        "decompress RUN FILE OUT",
        description="Give back compressed data, bit by bit as they were.",
        epilog="example:\n  sdlgm decompress runs/digits digits.sdl digits.npy",
    )
    parser.add_argument("run", help="Folder of the run that compressed them.")
    parser.add_argument("file", help="File of compressed data (.sdl).")
    parser.add_argument("out", help="File to write: .npy, .csv or .parquet.")
    return parser


def decompress(options: Namespace) -> None:
    """Give compressed data back."""
    from sdlgm.codec import decompress_file
    from sdlgm.data import write_rows
    from sdlgm.training import Run

    values = decompress_file(Run.open(options.run).model, options.file)
    write_rows(options.out, values)
    say(f"{options.out}: {len(values):,} rows of {values.shape[1]} columns.")
