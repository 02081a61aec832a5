"""Models with a linear decoder as additive quantisers of faiss. Needs the extra ``vectors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, DataError, SDLGMError
from sdlgm.inference import is_linear
from sdlgm.inference.prefixes import features_of_prefix
from sdlgm.inference.scores import code_rows, linear_decoder
from sdlgm.models import SDLGM
from sdlgm.outputs import atomic_path

if TYPE_CHECKING:
    import faiss

__all__ = ["additive_codebooks", "faiss_index", "write_faiss"]


@neutral()
def additive_codebooks(model: SDLGM) -> NDArray[np.float32]:
    r"""Return the codebooks whose entries add up to decoded rows, shape ``(G, 2^b, D)``.

    Entry k of codebook g is what feature k of group g adds to a row. If gates are learned, the next
    entry is the zero of a closed slot. The offset of all rows is part of the first codebook. What
    remains up to the power of two repeats the last entry.

    Raises
    ------
    ConfigError
        If the decoder is not linear or a group has several slots.
    """
    if not is_linear(model) or model.groups != model.config.budget:
        raise ConfigError(
            "Only a model with a linear decoder and one slot in each group is an additive "
            "quantiser: train it with likelihood='gaussian', decoder_hidden=() and as many groups "
            f"as the budget, got {model.config.likelihood!r}, {model.config.decoder_hidden!r} and "
            f"{model.groups} groups for a budget of {model.config.budget}."
        )
    size = model.config.features // model.groups
    origin, columns = linear_decoder(model)
    entries = columns.reshape(model.groups, size, -1)
    closes = model.config.gates == "learned"
    entries = np.pad(entries, ((0, 0), (0, int(closes)), (0, 0)))
    bits = max(1, int(entries.shape[1] - 1).bit_length())
    entries = np.pad(entries, ((0, 0), (0, 2**bits - entries.shape[1]), (0, 0)), mode="edge")
    entries[0] += origin
    return entries.astype(np.float32)


@neutral()
def faiss_index(
    model: SDLGM,
    codes: Any = None,
    metric: Literal["l2", "inner_product"] = "l2",
    *,
    prefix: int | None = None,
) -> faiss.IndexResidualQuantizer:
    """Return an index of faiss that holds the model's codebooks and codes.

    The codes are stored as they are, one index of b bits for each group, and searched by their
    decoded rows. The index computes in single precision.

    Parameters
    ----------
    model
        A model with a linear decoder and one slot in each group. A group of :math:`2^b` features
        takes b bits if gates are always open; with learned gates, :math:`2^b - 1` features do.
    codes
        Codes, shape ``(n, K)``: sparse, an array or a tensor. ``None``: an empty index.
    metric
        What the index compares queries with decoded rows by.
    prefix
        Keep so many groups of the codes, one of the model's ``prefixes``. ``None``: all.

    Raises
    ------
    ConfigError
        If the model is not an additive quantiser, the metric is unknown, or the model was not
        trained for the prefix.
    DataError
        If the codes have several features in a group, or a closed slot though gates are open.
    SDLGMError
        If faiss is not installed.
    """
    faiss = _require_faiss()
    kinds = {"l2": faiss.METRIC_L2, "inner_product": faiss.METRIC_INNER_PRODUCT}
    if metric not in kinds:
        raise ConfigError(
            f"metric must be 'l2' or 'inner_product', got {metric!r}. For the cosine, use scores()."
        )
    kept = features_of_prefix(model.config, prefix) * model.groups // model.config.features
    books = additive_codebooks(model)[:kept]
    groups, entries, width = books.shape
    bits = entries.bit_length() - 1
    index = faiss.IndexResidualQuantizer(
        width, groups, bits, kinds[metric], faiss.AdditiveQuantizer.ST_decompress
    )
    faiss.copy_array_to_vector(books.ravel(), index.rq.codebooks)
    index.rq.is_trained = index.is_trained = True
    if codes is not None:
        places = _places(model, code_rows(codes, model.config.features))
        places = np.ascontiguousarray(places[:, :groups])
        index.add_sa_codes(faiss.pack_bitstrings(places, bits))
    return index


def write_faiss(path: Path | str, index: faiss.IndexResidualQuantizer) -> None:
    """Write an index to a file of faiss, atomically."""
    faiss = _require_faiss()
    with atomic_path(path) as temporary:
        faiss.write_index(index, str(temporary))


def _places(model: SDLGM, table: sp.csr_array) -> NDArray[np.int32]:
    """Return the entry of each codebook, shape ``(n, G)``."""
    size = model.config.features // model.groups
    rows = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
    groups, features = np.divmod(table.indices, size)
    found = np.full((table.shape[0], model.groups), size, np.int32)
    found[rows, groups] = features
    filled = np.zeros(found.shape)
    np.add.at(filled, (rows, groups), table.data)
    least = 0 if model.config.gates == "learned" else 1
    wrong = (filled > 1) | (filled < least) | (filled % 1 != 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong.any(1))[0])
        raise DataError(
            f"The code in row {row} (counted from 0) is none of this model: each group takes "
            f"{'at most ' if least == 0 else 'exactly '}one feature."
        )
    return found


def _require_faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise SDLGMError("An index of faiss needs faiss: pip install 'sdlgm[vectors]'.") from None
    return faiss
