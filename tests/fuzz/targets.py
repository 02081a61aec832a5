"""The loaders, and for each a way to make a bad file and to read it."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tests.fuzz import mutations

import sdlgm
from sdlgm.codec import (
    CodeContainer,
    compress_file,
    decode_file,
    decode_table,
    decompress_file,
    decompress_table,
    describe,
    encode_file,
    read_codes,
)
from sdlgm.codec.description import CodesDigest
from sdlgm.codec.parquet import SCHEMA, to_arrow
from sdlgm.codec.sdz_layout import Header, pack_block, pack_index
from sdlgm.data import Columns, Rows, label_sets, named
from sdlgm.data.tables import read_rows, write_rows
from sdlgm.errors import SDLGMError, SDLGMWarning
from sdlgm.models import load_model
from sdlgm.storage import read_tensors
from sdlgm.training import Run
from sdlgm.training.checkpoint import load_checkpoint, save_checkpoint
from sdlgm.training.runs import _prepare
from sdlgm.training.state import Best, LoopState
from sdlgm.training.step import Trainer

GOLDEN = Path(__file__).parents[1] / "golden"

ARFF = """@relation tiny
@attribute a numeric
@attribute b numeric
@attribute l1 {0,1}
@attribute l2 {0,1}
@data
1,2.5,0,1
-3,0.5,1,0
4,1,1,1
"""
SPARSE = ARFF.partition("@data")[0] + "@data\n{0 1,1 2.5,3 1}\n{2 1}\n{0 4,2 1,3 1}\n"
XML = '<labels><label name="l1"></label><label name="l2"></label></labels>'


class Targets:
    """All loaders; ``folder`` is written to."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        self.model = load_model(GOLDEN / "model-2")
        self.run_model = load_model(GOLDEN / "run-2")
        self.bytes_of = functools.cache(Path.read_bytes)
        self.signed = functools.cache(lambda path: read_tensors(path)[:2])

    # --- folders of models ------------------------------------------------------------------

    def _forged(self, golden: str, stem: str, about: str, source: random.Random) -> Path:
        """Copy a folder with one file damaged, or with a description and tensors re-signed."""
        folder = self._copy(golden)
        files = (folder / f"{stem}.safetensors", folder / f"{about}.json")
        if source.random() < 0.3:
            path = source.choice(files)
            path.write_bytes(mutations.damage(path.read_bytes(), source))
            return folder
        tensors, state = self.signed(GOLDEN / golden / files[0].name)
        if source.random() < 0.75:
            state = mutations.structure(state, source)
        if source.random() < 0.4:
            tensors = mutations.weights(tensors, source)
        mutations.sign(*files, tensors, mutations.text_of(state, source))
        return folder

    def _copy(self, golden: str) -> Path:
        folder = self.folder / golden
        shutil.rmtree(folder, ignore_errors=True)
        return Path(shutil.copytree(GOLDEN / golden, folder))

    def model_folder(self, source: random.Random) -> None:
        load_model(self._forged("model-2", "model", "config", source))

    def classifier(self, source: random.Random) -> None:
        sdlgm.load(self._forged("classifier-1", "estimator", "estimator", source))

    def counter(self, source: random.Random) -> None:
        sdlgm.load(self._forged("counter-1", "estimator", "estimator", source))

    def transformer(self, source: random.Random) -> None:
        part = source.choice((("estimator", "estimator"), ("model", "config")))
        sdlgm.load(self._forged("transformer-1", *part, source))

    def run_folder(self, source: random.Random) -> None:
        folder = self._copy("run-2")
        name = source.choice(("config.yaml", "config.yaml", "log.jsonl", "metrics.json"))
        path = folder / name
        text = path.read_text(encoding="utf-8")
        kind = source.randrange(3)
        if kind == 0:
            path.write_bytes(mutations.damage(text.encode(), source))
        elif kind == 1 and name == "config.yaml":
            lines = text.splitlines()
            place = source.randrange(len(lines))
            key = lines[place].partition(":")[0]
            lines[place] = f"{key}: {json.dumps(mutations.value(source))}"
            path.write_text("\n".join(lines), encoding="utf-8")
        elif kind == 1 and name == "metrics.json":
            path.write_text(
                mutations.text_of(mutations.structure(json.loads(text), source), source)
            )
        else:
            path.write_text(mutations.text_damage(text, source), encoding="utf-8")
        run = Run.open(folder)
        _ = run.log, run.metrics, run.model

    # --- checkpoints ------------------------------------------------------------------------

    @functools.cached_property
    def _training(self) -> tuple[Trainer, Path, str]:
        """A training of two steps, and the folder of its checkpoint."""
        run, folder = Run.open(GOLDEN / "stopped-1"), self.folder / "sound"
        folder.mkdir()
        trainer = Trainer(_prepare(run).model, run.config.training, None)
        self._step(trainer, 0.1)
        weights = {
            name: each.clone() for name, each in trainer.objective.model.state_dict().items()
        }
        state = LoopState(20, step=2, best=Best(5.0, 2, 0, weights))
        save_checkpoint(folder, trainer.objective, trainer.adam, state, "fingerprint")
        return trainer, folder / "checkpoint.safetensors", "fingerprint"

    def _step(self, trainer: Trainer, gradient: float) -> None:
        for parameter in trainer.objective.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        trainer.adam.step()

    def checkpoint(self, source: random.Random) -> None:
        trainer, original, fingerprint = self._training
        path = self.folder / "checkpoint.safetensors"
        if source.random() < 0.2:
            path.write_bytes(mutations.damage(self.bytes_of(original), source))
        else:
            tensors, note = self.signed(original)
            if source.random() < 0.4:
                note = mutations.structure(note, source)
            if source.random() < 0.8:
                tensors = mutations.weights(tensors, source)
            mutations.sign(path, None, tensors, mutations.text_of(note, source))
        state = LoopState(20)
        load_checkpoint(self.folder, trainer.objective, trainer.adam, state, fingerprint)
        self._step(trainer, 0.0)  # crashes the process if moments do not fit

    # --- files of codes ---------------------------------------------------------------------

    def parquet_codes(self, source: random.Random) -> None:
        path = self.folder / "codes.parquet"
        if source.random() < 0.5:
            content = self.bytes_of(GOLDEN / "model-2" / "codes.parquet")
            path.write_bytes(mutations.damage(content, source))
        else:
            self._forge_parquet(path, source)
        on_damage = None if source.random() < 0.9 else lambda damage: None
        if source.random() < 0.5:
            decode_file(self.model, path, on_damage=on_damage)
        else:
            for _ in read_codes(path, None, on_damage)[1]:
                pass

    def _forge_parquet(self, path: Path, source: random.Random) -> None:
        about = describe(self.model)
        rows = source.choice((0, 1, 3, 100, 100_000))
        codes = torch.zeros(min(rows, 100), about.features)
        codes[:, 0] = 1
        batch = to_arrow(codes)
        kinds = (pa.uint32(), pa.uint16(), pa.int64(), pa.uint8(), pa.float32())
        if source.random() < 0.5:  # lists of any numbers
            lengths = [source.choice((0, 1, 2, 7, 1000)) for _ in range(min(rows, 20))]
            lists = [
                [[source.choice((0, 1, 2, 5, 6, 255)) for _ in range(n)] for n in lengths]
                for _ in range(2)
            ]
            if lists[0] and source.random() < 0.3:
                lists[0][0] = [1, 2, 3]
            schema = (
                SCHEMA
                if source.random() < 0.7
                else pa.schema(
                    [pa.field(name, pa.list_(source.choice(kinds))) for name in SCHEMA.names]
                )
            )
            arrays = [pa.array(lists[i], schema.field(i).type) for i in range(2)]
            batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        table = pa.Table.from_batches([batch] * (1000 if rows == 100_000 else 1))
        sha = CodesDigest()
        for part in table.to_batches():
            try:
                sha.update(part)
            except (TypeError, ValueError, pa.ArrowException):
                break
        notes = {
            "sdlgm.format_version": "1",
            "K": str(about.features),
            "L0": str(about.budget),
            "groups": str(about.groups),
            "model_sha256": about.model_sha256,
            "codes_sha256": sha.hexdigest(),
        }
        for _ in range(source.choice((0, 1, 2))):
            key = source.choice(sorted(notes))
            notes[key] = str(source.choice((*mutations.NUMBERS, *mutations.WORDS)))
        compression = source.choice(("zstd", "snappy", "none"))
        pq.write_table(table.replace_schema_metadata(notes), path, compression=compression)

    def container(self, source: random.Random) -> None:
        path = self.folder / "codes.sdz"
        content = self.bytes_of(GOLDEN / "run-2" / "codes.sdz")
        if source.random() < 0.4:
            path.write_bytes(mutations.damage(content, source))
        else:
            path.write_bytes(self._forge_container(content, source))
        expected = describe(self.run_model) if source.random() < 0.5 else None
        on_damage = (lambda damage: None) if source.random() < 0.6 else None
        if expected and source.random() < 0.5:
            decode_file(self.run_model, path, on_damage=on_damage)
            return
        rows = 0
        for block in read_codes(path, expected, on_damage)[1]:
            rows += len(block)

    def _forge_container(self, content: bytes, source: random.Random) -> bytes:
        """Sign a header with other numbers, a table of that size, and any blocks."""
        header, _, start = Header.read(content, "golden")
        payload = content[
            start + 12 : start + 12 + 4 * int.from_bytes(content[start + 8 : start + 12], "little")
        ]
        numbers = [1, *header.about[1:4], header.block_rows, header.about.n_codes]
        big = (0, 1, 2, 3, 6, 100, 4096, 65_536, 2**20, 2**24, 2**31, 2**32 - 1)
        for _ in range(source.choice((0, 1, 1, 2, 3))):
            place = source.randrange(6)
            numbers[place] = source.choice(
                (*big, 2**40, 2**60, 2**63, 2**64 - 1) if place == 5 else big
            )
        size = numbers[3] * (numbers[1] // max(1, numbers[3]) + 1)
        size = source.choice((min(size + -(-size // 2), 10**8), 27, 10))
        table = zlib.compress(bytes([source.choice((0, 1, 5, 48, 49))]) * size, 1)
        if source.random() < 0.3:
            whole = struct.unpack_from("<I", content, 100)[0]
            table = content[104 : 104 + whole]
        start_bytes = struct.pack(
            "<8s5IQ32s32sI", content[:8], *numbers,
            bytes.fromhex(header.about.model_sha256), bytes(32), len(table),
        ) + table  # fmt: skip
        key = hashlib.blake2b(start_bytes, digest_size=16).digest()
        file = start_bytes + key
        places = []
        for number in range(source.choice((0, 1, 2, 50))):
            places.append(len(file))
            block = (
                payload
                if source.random() < 0.7
                else source.randbytes(4 * source.choice((0, 1, 50)))
            )
            file += pack_block(key, number, block)
        if source.random() < 0.2:
            file += b"\x93blk\0\0\0\0\xff\xff\0\0" * source.choice((10, 20_000))
        return file + pack_index(key, places, len(file)) if source.random() < 0.8 else file

    def lossless(self, source: random.Random) -> None:
        path = self.folder / "data.sdl"
        content = bytearray(self.bytes_of(GOLDEN / "run-2" / "data.sdl"))
        if source.random() < 0.3:
            path.write_bytes(mutations.damage(bytes(content), source))
        else:
            fields = {12: 4, 16: 8, 24: 4, 28: 1, 61: 2, 63: 4, 8: 4}
            for _ in range(source.choice((0, 1, 2))):
                place = source.choice(sorted(fields))
                most = 256 ** fields[place]
                word = source.choice(
                    (0, 1, 2, 39, 41, 100, 1600, 1601, 10**6, 10**9, 2**32 - 1, 2**63)
                )
                content[place : place + fields[place]] = (word % most).to_bytes(
                    fields[place], "little"
                )
            body = bytes(content[:-16])
            if source.random() < 0.4:
                body = body[:67] + mutations.damage(body[67:], source)
            path.write_bytes(body + hashlib.blake2b(body, digest_size=16).digest())
        decompress_file(self.run_model, path)

    # --- tables in files of codes and data --------------------------------------------------

    def lossless_table(self, source: random.Random) -> None:
        """A lossless file with any layout and kept columns, signed."""
        path = self.folder / "table.sdl"
        content = self.bytes_of(self._with_tables[".sdl"])
        (noted,) = struct.unpack_from("<H", content, 61)
        (checks,) = struct.unpack_from("<I", content, 63)
        start = 67 + noted + 8 * checks
        _, size = self._parts_of(content[start:])
        body = content[:start] + self._forged_table(content[start:], source)
        body += content[start + size : -16]
        path.write_bytes(body + hashlib.blake2b(body, digest_size=16).digest())
        self._give_back(lambda: decompress_table(self.run_model, path), source)

    def container_table(self, source: random.Random) -> None:
        """A container with any layout and kept columns, signed, its blocks included."""
        path = self.folder / "table.sdz"
        original = self._with_tables[".sdz"]
        on_damage = (lambda damage: None) if source.random() < 0.3 else None
        if source.random() < 0.2:
            path.write_bytes(mutations.damage(self.bytes_of(original), source))
        else:
            with CodeContainer(original) as container:
                block = container._payload(container._places or {}, 0)
                header = container.header
            assert header.passed
            passed = self._forged_table(header.passed, source)
            start, key = header._replace(passed=passed).pack()
            body = start + pack_block(key, 0, block or b"")
            path.write_bytes(body + pack_index(key, [len(start)], len(body)))
        self._give_back(lambda: decode_table(self.run_model, path, None, None, on_damage), source)

    def parquet_table(self, source: random.Random) -> None:
        """A Parquet file of codes with any layout and kept columns."""
        path = self.folder / "table.parquet"
        content = self.bytes_of(self._with_tables[".parquet"])
        if source.random() < 0.3:
            path.write_bytes(mutations.damage(content, source))
        else:
            with pq.ParquetFile(pa.BufferReader(content)) as file:
                table, notes = file.read(), dict(file.metadata.metadata)
            del notes[b"ARROW:schema"]
            layout = mutations.structure(json.loads(notes[b"sdlgm.table"]), source)
            notes[b"sdlgm.table"] = mutations.text_of(layout, source).encode(errors="replace")
            if source.random() < 0.5:
                place = source.randrange(2)
                other = self._column(source, len(table))
                if not pa.types.is_run_end_encoded(other.type):  # Parquet has no such type
                    table = table.set_column(place, table.column_names[place], other)
            pq.write_table(table.replace_schema_metadata(notes), path)
        self._give_back(lambda: decode_table(self.run_model, path), source)

    def _give_back(self, read: Callable[[], Any], source: random.Random) -> None:
        """Read a table, and write it as the command line does."""
        suffix = source.choice((".csv", ".parquet", ".npy"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SDLGMWarning)
            write_rows(self.folder / f"back{suffix}", *read(), whole=source.random() < 0.5)

    @functools.cached_property
    def _with_tables(self) -> dict[str, Path]:
        """Sound files of 40 rows with a layout and two kept columns."""
        folder = self.folder / "tables"
        folder.mkdir()
        inputs = self.run_model.n_inputs
        names = tuple(f"x{place}" for place in range(inputs))
        columns = Columns(names, ("uint8",) * inputs, order=("host", *names, "time"))
        kept = pa.table({"host": ["a", "b"] * 20, "time": pa.array(range(40), pa.timestamp("s"))})
        rows = Rows(torch.zeros(40, inputs, dtype=torch.uint8))
        files = {suffix: folder / f"table{suffix}" for suffix in (".sdl", ".sdz", ".parquet")}
        compress_file(self.run_model, rows, files[".sdl"], columns=columns, kept=kept)
        for suffix in (".sdz", ".parquet"):
            encode_file(self.run_model, rows, files[suffix], columns=columns, kept=kept)
        return files

    def _parts_of(self, content: bytes) -> tuple[list[bytes], int]:
        parts, end = [], 0
        for _ in range(2):
            (size,) = struct.unpack_from("<Q", content, end)
            parts.append(content[end + 8 : end + 8 + size])
            end += 8 + size
        return parts, end

    def _forged_table(self, content: bytes, source: random.Random) -> bytes:
        """Another layout, another stream of columns, or damage to either."""
        (layout, packed), size = self._parts_of(content)
        if source.random() < 0.1:
            return mutations.damage(content[:size], source)
        if source.random() < 0.5:
            other = mutations.structure(json.loads(layout), source)
            layout = mutations.text_of(other, source).encode(errors="replace")
        stream = zlib.decompress(packed)
        kind = source.randrange(5)
        if kind == 0:
            stream = mutations.damage(stream, source)
        elif kind in (1, 2):
            stream = self._stream(source)
        packed = zlib.compress(stream, 1)
        if source.random() < 0.05:
            packed = source.choice((zlib.compress(bytes(10**6)), _zeros()))
        sizes = [len(layout), len(packed)]
        if source.random() < 0.1:
            sizes[source.randrange(2)] = source.choice((0, 1, 2**31, 2**63, 2**64 - 1))
        return b"".join(
            struct.pack("<Q", size) + part
            for size, part in zip(sizes, (layout, packed), strict=True)
        )

    def _stream(self, source: random.Random) -> bytes:
        """An Arrow stream of one to three columns, perhaps compressed."""
        rows = source.choice((40, 40, 40, 0, 1, 200_000))
        columns = [self._column(source, rows) for _ in range(source.choice((1, 2, 3)))]
        names = [source.choice(("host", "time", "x0", "", "\x1b[2J")) for _ in columns]
        batch = pa.RecordBatch.from_arrays(columns, names)
        compression = source.choice((None, None, "zstd", "lz4"))
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
            for _ in range(source.choice((1, 1, 1, 2))):
                writer.write_batch(batch)
        content = bytes(sink.getvalue().to_pybytes())
        return mutations.damage(content, source) if source.random() < 0.4 else content

    def _column(self, source: random.Random, rows: int) -> pa.Array:
        places = pa.array(np.zeros(rows, np.int32))
        text = pa.array(["x" * source.choice((1, 100, 200_000))])
        kind = source.randrange(9)
        if kind == 0:
            return pa.nulls(rows)
        if kind == 1:
            return pa.DictionaryArray.from_arrays(places, text)
        if kind == 2:
            ends = pa.array([rows], pa.int32())
            return pa.RunEndEncodedArray.from_arrays(ends, text) if rows else pa.nulls(0)
        if kind == 3:
            return pa.array([[1], []] * (rows // 2) + [None] * (rows % 2))
        if kind == 4:
            return pa.StructArray.from_arrays([places], ["a"])
        if kind == 5:
            return pa.FixedSizeListArray.from_arrays(pa.nulls(rows * 9), 9)
        if kind == 6:
            return pa.array(np.full(rows, np.nan))
        if kind == 7:
            return pa.array(np.arange(rows), pa.timestamp("ns", "UTC"))
        return pa.array(["é\x1b[2J"] * rows)

    # --- tables and data sets ---------------------------------------------------------------

    def table(self, source: random.Random) -> None:
        kind = source.choice((".npy", ".csv", ".parquet"))
        path = self.folder / f"table{kind}"
        if kind == ".npy":
            content = self._array(source)
        elif kind == ".csv":
            content = mutations.text_damage("a,b,c\n" + "1,2.5,3\n" * 20, source).encode()
        else:
            content = self._parquet_table(source)
        if source.random() < 0.6:
            content = mutations.damage(content, source)
        path.write_bytes(content)
        read_rows(path)

    def _array(self, source: random.Random) -> bytes:
        file = io.BytesIO()
        types = (
            np.float32,
            np.float64,
            np.int8,
            np.uint64,
            np.complex64,
            "U5",
            "S3",
            "M8[s]",
            bool,
            ">f8",
            "f2",
        )
        shape = source.choice(((4, 3), (0, 3), (3, 0), (), (5,), (2, 3, 4), (1, 1, 1, 1)))
        np.save(file, np.zeros(shape, source.choice(types)), allow_pickle=False)
        if source.random() < 0.4:
            size = source.choice(
                (
                    "(4, 10**12)",
                    "(1000000000000, 3)",
                    "(-1, 3)",
                    "(2**62, 4)",
                    "(4,",
                    "None",
                    "((1,),)",
                )
            )
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {size}, }}".encode()
            header += b" " * (-(len(header) + 11) % 64) + b"\n"
            return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(48)
        return file.getvalue()

    def _parquet_table(self, source: random.Random) -> bytes:
        rows = source.choice((0, 1, 5, 1000, 1_000_000))
        columns: dict[str, Any] = {
            "a": pa.array(np.zeros(rows, np.float32)),
            "b": pa.array(np.zeros(rows, np.int64)),
        }
        if rows <= 5:
            columns["c"] = source.choice(
                (
                    pa.array([None] * rows),
                    pa.array([[1.0, 2.0]] * rows),
                    pa.array(["x"] * rows),
                    pa.array([{"x": 1}] * rows),
                    pa.array([np.nan] * rows),
                )
            )
        if rows == 1_000_000 and source.random() < 0.5:
            columns |= {str(place): columns["a"] for place in range(50)}
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns), sink, compression=source.choice(("zstd", "none")))
        return bytes(sink.getvalue().to_pybytes())

    def arff(self, source: random.Random) -> None:
        text, xml = source.choice((ARFF, SPARSE)), XML
        if source.random() < 0.8:
            text = mutations.text_damage(text, source)
        if source.random() < 0.4:
            xml = mutations.text_damage(xml, source)
        if source.random() < 0.05:
            entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
            xml = f'<!DOCTYPE l [<!ENTITY e0 "x">{entities}]><l><label name="&e9;"/></l>'
        label_sets.parse(text, xml)

    def idx(self, source: random.Random) -> None:
        """Four archives; their digests are declared to be the known ones, or not."""
        folder = self.folder / "data" / "mnist"
        folder.mkdir(parents=True, exist_ok=True)
        rows = source.choice((1, 3))
        images = struct.pack(">4I", 2051, rows, 28, 28) + bytes(784 * rows)
        labels = struct.pack(">2I", 2049, rows) + bytes(rows)
        known: dict[str, tuple[str, ...]] = {}
        for part in ("train", "t10k"):
            for name, content in (("images-idx3", images), ("labels-idx1", labels)):
                if source.random() < 0.3:
                    content = mutations.damage(content, source)
                archive = gzip.compress(content, 1)
                if source.random() < 0.2:
                    archive = mutations.damage(archive, source)
                if source.random() < 0.03:
                    archive = _bomb()
                file = f"{part}-{name}-ubyte.gz"
                (folder / file).write_bytes(archive)
                sha = hashlib.sha256(archive if source.random() < 0.9 else b"").hexdigest()
                known[file] = (sha, hashlib.sha256(content).hexdigest())
        before, data = named._IDX["mnist"], os.environ.get("SDLGM_DATA")
        named._IDX["mnist"] = before._replace(sha256=known)
        os.environ["SDLGM_DATA"] = str(folder.parent)
        try:
            named._idx("mnist")
        finally:
            named._IDX["mnist"] = before
            os.environ.pop("SDLGM_DATA") if data is None else os.environ.update(SDLGM_DATA=data)

    def all(self) -> dict[str, Callable[[random.Random], None]]:
        names = (
            "model_folder", "classifier", "counter", "transformer", "run_folder", "checkpoint",
            "parquet_codes", "container", "lossless", "lossless_table", "container_table",
            "parquet_table", "table", "arff", "idx",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def warm_up(self) -> None:
        """Load what is sound, so that the memory of the libraries is part of the baseline."""
        _bomb(), _zeros()
        load_model(GOLDEN / "model-2")
        for name in ("classifier-1", "counter-1", "transformer-1"):
            sdlgm.load(GOLDEN / name)
        run = Run.open(GOLDEN / "run-2")
        _ = run.log, run.metrics, run.model, self._training
        decode_file(self.model, GOLDEN / "model-2" / "codes.parquet")
        decode_file(self.run_model, GOLDEN / "run-2" / "codes.sdz")
        decompress_file(self.run_model, GOLDEN / "run-2" / "data.sdl")
        decompress_table(self.run_model, self._with_tables[".sdl"])
        for suffix in (".sdz", ".parquet"):
            decode_table(self.run_model, self._with_tables[suffix])
        with CodeContainer(GOLDEN / "run-2" / "codes.sdz") as container:
            container.read_rows(0, 1)
        label_sets.parse(ARFF, XML)
        label_sets.parse(SPARSE, XML)
        for rows, suffix in (
            (b"a,b\n1,2\n", ".csv"),
            (self._parquet_table(random.Random(0)), ".parquet"),
        ):
            path = self.folder / f"table{suffix}"
            path.write_bytes(rows)
            with contextlib.suppress(SDLGMError):
                read_rows(path)


@functools.cache
def _zeros() -> bytes:
    """300 MB of zeros, more than the limit, compressed to 1.3 MB."""
    return zlib.compress(bytes(3 * 10**8), 1)


@functools.cache
def _bomb() -> bytes:
    """300 MB of zeros, more than the limit, in a file of 300 KB."""
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=9, mtime=0) as archive:
        for _ in range(300):
            archive.write(bytes(2**20))
    return file.getvalue()
