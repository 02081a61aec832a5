"""The commands that turn data into files and files into data: codes and lossless files."""

from __future__ import annotations

import typing
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from sdlgm.cli.output import complain, say
from sdlgm.cli.parser import Command, Parser, add_accelerator, add_split, add_table_options
from sdlgm.config import CodeMethod, VectorFormat, WeightMetric
from sdlgm.errors import SDLGMError
from sdlgm.outputs import check_output, locked, named, only_locked

if TYPE_CHECKING:
    from sdlgm.scale import Report
    from sdlgm.training import LoadedRows, Run

__all__ = ["COMPRESS", "DECODE", "DECOMPRESS", "ENCODE", "VECTORS"]


def _encode_parser() -> Parser:
    parser = Parser(
        "encode RUN DATA --out CODES [options]",
        description="Encode data: each row becomes the indices and counts of its active features, "
        "never more than the budget. If DATA is a folder or a pattern of Parquet files, or CODES a "
        "folder, each file is encoded in bounded memory into a file of the same name under CODES; "
        "after a stop, the same command skips the files that are done.",
        epilog="""examples:
  sdlgm encode runs/digits mnist-5k --split test --out codes.parquet
  sdlgm encode runs/digits mnist-5k --split test --out codes.sdz
  sdlgm encode runs/digits mnist-5k --code best --max-active 10 --out codes.parquet
  sdlgm encode runs/metrics lake/ --keep host time --engine ray --out codes/
  sdlgm encode runs/metrics 'lake/2026-*/*.parquet' --out codes/""",
    )
    parser.add_argument("run", help="Folder of the run.")
    parser.add_argument(
        "data",
        help="A built-in data set, a .csv, .parquet or .npy file, or a folder or (quoted) pattern "
        "of Parquet files.",
    )
    parser.add_argument(
        "--out",
        required=True,
        help="File of codes to write, .parquet or .sdz; a folder for a folder or pattern.",
    )
    parser.add_argument(
        "--format",
        choices=("parquet", "sdz"),
        default=None,
        help="parquet: lists of indices and counts, for any other program. sdz: entropy-coded "
        "blocks with checksums, a few bytes per code. Default: the suffix of CODES; a folder is "
        "always parquet.",
    )
    add_split(parser, "all")
    parser.add_argument(
        "--code",
        choices=typing.get_args(CodeMethod),
        default=None,
        help="Take the most probable code, round the expected counts, draw from the posterior, "
        "take the best of several candidates by the length of sample and code together, or search "
        "for it. A folder takes mode and search. Default: search for models of real numbers with "
        "a linear decoder, else mode.",
    )
    parser.add_argument(
        "--candidates",
        type=int,
        default=16,
        help="Codes that best compares, and that the beam of search keeps.",
    )
    parser.add_argument(
        "--max_active",
        type=int,
        default=None,
        help="Largest number of active features; the most probable ones are kept. Default: the "
        "budget.",
    )
    _add_prefix(parser)
    parser.add_argument("--seed", type=int, default=0, help="Seed of drawn bits and codes.")
    add_accelerator(
        parser,
        None,
        "Device to compute on. Default: auto, which is the GPU if there is one; for folders cpu, "
        "so that codes are the same on every machine.",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default=None,
        help="For folders: this process (local, the default), or Ray with one actor per CPU but "
        "one. The files are the same.",
    )
    add_table_options(parser, folders=True)
    return parser


def _encode(options: Namespace) -> None:
    from sdlgm.codec import encode_file
    from sdlgm.environment import device_of, placed
    from sdlgm.progress import progress_bar
    from sdlgm.scale import is_dataset
    from sdlgm.training import Run

    if is_dataset(options.data, options.out):
        _encode_folder(options)
        return
    if options.engine is not None:
        raise SDLGMError(
            "--engine is for folders of Parquet files: DATA or CODES must be a folder."
        )
    check_output(options.out, (options.run, options.data))
    run = Run.open(options.run)
    rows, columns, kept, _ = _load_rows(run, options)
    with progress_bar("encoding", len(rows)) as update:
        number = encode_file(
            placed(run.model, device_of(options.accelerator or "auto")),
            rows,
            options.out,
            code=options.code,
            candidates=options.candidates,
            max_active=options.max_active,
            seed=options.seed,
            prefix=options.prefix,
            file_format=options.format,
            columns=columns,
            kept=kept,
            progress=lambda done: update(done, {}),
        )
    budget = options.prefix or run.config.model.budget
    say(f"{options.out}: {number:,} codes with at most {budget} active features each.")


def _add_prefix(parser: Parser) -> None:
    """Add the option for codes of a smaller budget."""
    parser.add_argument(
        "--prefix",
        type=int,
        default=None,
        help="Keep so many groups of each code, one of the prefixes of the model. Default: all.",
    )


def _load_rows(run: Run, options: Namespace) -> LoadedRows:
    """Load the rows that a command names: all rows, unless there is a split."""
    return run.load_rows(
        options.data,
        options.split or "all",
        columns=options.columns,
        keep=options.keep,
        header=options.header,
    )


def _encode_folder(options: Namespace) -> None:
    from sdlgm.scale import encode_dataset

    if options.split not in (None, "all"):
        raise SDLGMError(f"A folder has no splits: --split {options.split} is for single files.")
    if options.seed:
        raise SDLGMError(
            f"Nothing is drawn for a folder: --seed {options.seed} is for single files."
        )
    for given, asked in (
        ("--format sdz", options.format == "sdz"),
        (f"--max-active {options.max_active}", options.max_active is not None),
        (f"--prefix {options.prefix}", options.prefix is not None),
    ):
        if asked:
            raise SDLGMError(
                f"A folder becomes Parquet files of whole codes: {given} is for single files."
            )
    report = encode_dataset(
        options.run,
        options.data,
        options.out,
        engine=options.engine or "local",
        columns=options.columns,
        keep=options.keep,
        code=options.code,
        accelerator=options.accelerator or "cpu",
    )
    say(f"{options.out}: {_counted(report, 'encoded')}")


def _counted(report: Report, done: str) -> str:
    before = report.files - report.encoded_files
    return (
        f"{report.rows:,} rows in {report.files:,} files"
        + (f", {before:,} of them {done} before" if before else "")
        + f"; {report.encoded_rows:,} rows in {report.seconds:.1f} s."
    )


def _decode_parser() -> Parser:
    parser = Parser(
        "decode RUN CODES --out FILE [options]",
        description="Decode codes to the mean of the data that they stand for.",
        epilog="""examples:
  sdlgm decode runs/digits codes.parquet --out decoded.npy
  sdlgm decode runs/words codes.sdz --prefix 4 --out coarse.npy   # fit --prefixes '[4]'
  sdlgm decode runs/digits broken.sdz --out decoded.npy --salvage
  sdlgm decode runs/metrics codes/ --out decoded/      # Parquet files of the same names""",
    )
    parser.add_argument("run", help="Folder of the run, or of the model, that encoded them.")
    parser.add_argument("codes", help="File of codes, .parquet or .sdz, or a folder of such files.")
    parser.add_argument(
        "--out",
        required=True,
        help="File to write: .npy, .csv or .parquet; a new or empty folder for a folder.",
    )
    parser.add_argument(
        "--salvage",
        action="store_true",
        help="Decode the sound blocks of a damaged .sdz file. The rows of the others are NaN and "
        "are listed.",
    )
    parser.add_argument(
        "--means",
        action="store_true",
        help="Write the decoded means as they are. Default: columns of integers or bools are "
        "rounded to such if the likelihood is one of counts, levels or bits.",
    )
    _add_prefix(parser)
    add_accelerator(parser)
    return parser


def _decode(options: Namespace) -> None:
    if Path(options.codes).is_dir():
        _decode_folder(options)
    else:
        check_output(options.out, (options.run, options.codes))
        _decode_one(options)


def _decode_folder(options: Namespace) -> None:
    """Decode each file of codes into a Parquet file of the same name, one file at a time."""

    def decode(file: Path, out: Path) -> None:
        _decode_one(Namespace(**{**vars(options), "codes": str(file), "out": str(out)}))

    _restore_folder(
        options.codes,
        options.out,
        (".parquet", ".sdz"),
        lambda name: name.with_suffix(".parquet"),
        decode,
    )


def _restore_folder(
    source: str,
    out: str,
    suffixes: tuple[str, ...],
    renamed: Callable[[Path], Path],
    restore: Callable[[Path, Path], None],
) -> None:
    """Restore each file of a folder under its name, one file at a time, into a new folder."""
    from sdlgm.data.folders import find_files

    folder = named(out)
    if folder.exists() and not (folder.is_dir() and only_locked(folder)):
        raise SDLGMError(
            f"--out {folder} must be a new or empty folder, because {source} is a folder."
        )
    files = find_files(source, folder, suffixes)
    names = [renamed(name) for _, name in files]
    counted = Counter(names)
    twice = next((name for name in names if counted[name] > 1), None)
    if twice:
        raise SDLGMError(f"Two files of {source} would both be restored to {twice}.")
    with locked(folder):
        for (file, _), name in zip(files, names, strict=True):
            restore(file, folder / name)


def _decode_one(options: Namespace) -> None:
    from sdlgm.codec import Damage, decode_table
    from sdlgm.data import Columns, write_rows
    from sdlgm.environment import device_of, placed
    from sdlgm.models import load_model
    from sdlgm.progress import progress_bar

    lost: list[Damage] = []
    on_damage = lost.append if options.salvage else None
    model = placed(load_model(options.run), device_of(options.accelerator))
    known = Columns.read(options.run)
    with progress_bar("decoding", None) as update:
        decoded, columns, kept = decode_table(
            model, options.codes, known, lambda done: update(done, {}), on_damage, options.prefix
        )
    whole = model.config.likelihood != "gaussian" and not options.means
    write_rows(options.out, decoded, columns, kept, whole=whole)
    for damage in lost:
        complain(f"{options.codes}: {damage} is damaged; its rows are NaN.")
    say(f"{options.out}: {len(decoded):,} rows of {decoded.shape[1]} columns.")


def _compress_parser() -> Parser:
    parser = Parser(
        "compress RUN DATA --out FILE [options]",
        description="Compress bits or integers without loss, to about the model's negative ELBO. "
        "If the run binarises grey values, the drawn bits are compressed. If DATA is a folder or a "
        "pattern of files, or FILE a folder, each file is compressed into NAME.sdl under FILE; "
        "after a stop, the same command skips the files that are done.",
        epilog="""examples:
  sdlgm compress runs/digits mnist-5k --split test --out digits.sdl
  sdlgm compress runs/counts lake/ --keep host time --out packed/""",
    )
    parser.add_argument("run", help="Folder of the run.")
    parser.add_argument(
        "data",
        help="A built-in data set, a .csv, .parquet or .npy file, or a folder or (quoted) pattern "
        "of such files.",
    )
    parser.add_argument(
        "--out", required=True, help="File to write (.sdl); a folder for a folder or pattern."
    )
    add_accelerator(
        parser,
        "cpu",
        "Device to compute on. A file that was compressed on a GPU can be restored on such a GPU "
        "alone.",
    )
    add_split(parser, "all")
    add_table_options(parser, folders=True)
    parser.add_argument("--seed", type=int, default=0, help="Seed of drawn bits.")
    return parser


def _compress(options: Namespace) -> None:
    from sdlgm.codec import compress_file
    from sdlgm.environment import device_of, placed
    from sdlgm.progress import progress_bar
    from sdlgm.scale import is_dataset
    from sdlgm.training import Run

    if is_dataset(options.data, options.out):
        _compress_folder(options)
        return
    check_output(options.out, (options.run, options.data))
    run = Run.open(options.run)
    rows, columns, kept, _ = _load_rows(run, options)
    with progress_bar("compressing", len(rows)) as update:
        found = compress_file(
            placed(run.model, device_of(options.accelerator)),
            rows,
            options.out,
            seed=options.seed,
            columns=columns,
            kept=kept,
            progress=lambda done: update(done, {}),
        )
    say(
        f"{options.out}: {found.rows:,} rows, {found.file_bits // 8:,} bytes, "
        f"{found.file_bits / found.rows:.2f} bits per row ({found.initial_bits} initial bits in "
        "all)."
    )


def _compress_folder(options: Namespace) -> None:
    from sdlgm.scale import compress_dataset

    if options.split not in (None, "all"):
        raise SDLGMError(f"A folder has no splits: --split {options.split} is for single files.")
    report = compress_dataset(
        options.run,
        options.data,
        options.out,
        columns=options.columns,
        keep=options.keep,
        header=options.header,
        seed=options.seed,
        accelerator=options.accelerator,
    )
    say(f"{options.out}: {_counted(report, 'compressed')}")


def _decompress_parser() -> Parser:
    parser = Parser(
        "decompress RUN FILE --out DATA",
        description="Restore compressed data exactly, on the kind of device that compressed them.",
        epilog="""examples:
  sdlgm decompress runs/digits digits.sdl --out digits.npy
  sdlgm decompress runs/counts packed/ --out lake/     # a.csv.sdl becomes a.csv again""",
    )
    parser.add_argument("run", help="Folder of the run, or of the model, that compressed them.")
    parser.add_argument("file", help="File of compressed data (.sdl), or a folder of such files.")
    parser.add_argument(
        "--out",
        required=True,
        help="File to write: .npy, .csv or .parquet; a new or empty folder for a folder.",
    )
    return parser


def _decompress(options: Namespace) -> None:
    if not Path(options.file).is_dir():
        check_output(options.out, (options.run, options.file))
        _decompress_one(options.run, options.file, options.out)
        return

    def restored(name: Path) -> Path:
        from sdlgm.data import SUFFIXES

        bare = name.with_suffix("")
        return bare if bare.suffix in SUFFIXES else name.with_suffix(".parquet")

    def restore(file: Path, out: Path) -> None:
        _decompress_one(options.run, str(file), str(out))

    _restore_folder(options.file, options.out, (".sdl",), restored, restore)


def _decompress_one(run: str, file: str, out: str) -> None:
    from sdlgm.codec import decompress_table
    from sdlgm.data import write_rows
    from sdlgm.models import load_model
    from sdlgm.progress import progress_bar

    model = load_model(run)
    with progress_bar("decompressing", None) as update:
        values, columns, kept = decompress_table(model, file, lambda done: update(done, {}))
    write_rows(out, values, columns, kept, whole=True)
    say(f"{out}: {len(values):,} rows of {values.shape[1]} columns.")


def _vectors_parser() -> Parser:
    parser = Parser(
        "vectors RUN CODES --format FORMAT --out FILE [options]",
        description="Write codes as sparse vectors for a search engine, one line for each row, or "
        "as an index of faiss. Queries get their weights in Python: query_weights, with the same "
        "options.",
        epilog="""examples:
  sdlgm vectors runs/words codes.parquet --format qdrant --out points.jsonl
  sdlgm vectors runs/words codes.parquet --format qdrant --metric cosine --out points.jsonl
  sdlgm vectors runs/words codes.parquet --format pgvector --ids name --out rows.tsv
  sdlgm vectors runs/words codes.sdz --format elasticsearch --positive --out bulk.ndjson
  sdlgm vectors runs/words codes.sdz --format faiss --out codes.faiss  # extra vectors""",
    )
    parser.add_argument("run", help="Folder of the run, or of the model, that made the codes.")
    parser.add_argument("codes", help="File of codes, .parquet or .sdz.")
    parser.add_argument("--out", required=True, help="File to write.")
    parser.add_argument(
        "--format",
        choices=typing.get_args(VectorFormat),
        required=True,
        help="What the file is for. qdrant, pinecone, milvus, seismic: a JSON record a line. "
        "pgvector: id and sparsevec in two columns, for COPY. elasticsearch: for its bulk "
        "interface, and that of OpenSearch. npz: the table in scipy's format. faiss: an index with "
        "the codebooks and codes of a model with a linear decoder.",
    )
    parser.add_argument(
        "--metric",
        choices=typing.get_args(WeightMetric),
        default=None,
        help="What sparse inner products with the query's weights rank by. cosine and l2 add a "
        "column and need a linear decoder. Default: plain codes, which plain, inner_product "
        "and posterior take; for faiss, l2.",
    )
    parser.add_argument(
        "--positive",
        action="store_true",
        help="Count closed slots in a last column, so that the query's weights need not be "
        "negative: for milvus and elasticsearch.",
    )
    parser.add_argument(
        "--ids",
        default=None,
        help="Column of ids that encode --keep passed through. Default: the numbers of the rows, "
        "from 0.",
    )
    _add_prefix(parser)
    parser.add_argument("--field", default="code", help="Name of the vector in the engine.")
    return parser


def _vectors(options: Namespace) -> None:
    from sdlgm.export import export_codes

    number = export_codes(
        options.run,
        options.codes,
        options.out,
        options.format,
        metric=options.metric,
        positive=options.positive,
        ids=options.ids,
        field=options.field,
        prefix=options.prefix,
    )
    say(f"{options.out}: {number:,} vectors for {options.format}.")


ENCODE = Command(_encode_parser, _encode, "Turn data into codes.")
DECODE = Command(_decode_parser, _decode, "Turn codes into data.")
COMPRESS = Command(_compress_parser, _compress, "Compress data without loss.")
DECOMPRESS = Command(_decompress_parser, _decompress, "Restore compressed data.")
VECTORS = Command(_vectors_parser, _vectors, "Turn codes into vectors for a search engine.")
