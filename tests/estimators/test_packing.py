"""Values survive the way to JSON and tensors and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor

from sdlgm.errors import ModelFileError
from sdlgm.estimators.packing import pack, unpack

ARRAYS = npst.arrays(
    st.sampled_from(["bool", "uint8", "int32", "int64", "float32", "float64", ">f8"]),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and a.dtype.newbyteorder("=") == b.dtype and (
            a.astype(b.dtype).tobytes() == b.tobytes()
        )  # fmt: skip
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and (a == b or (a != a and b != b))


def round_trip(value: Any) -> Any:
    tensors: dict[str, Tensor] = {}
    text = json.dumps(pack(value, "v", tensors), allow_nan=False)
    restored = unpack(json.loads(text), tensors)
    assert not tensors  # all were used
    return restored


@given(VALUES)
def test_values_are_restored(value: Any) -> None:
    assert same(value, round_trip(value))


@pytest.mark.parametrize(
    "value",
    [np.array(["a", "bc"], object), np.array([["a"], ["bc"]]), np.float32(0.1), np.int64(3)],
)
def test_strings_and_scalars_of_numpy_keep_their_type(value: Any) -> None:
    restored = round_trip(value)
    assert type(restored) is type(value)
    assert restored.dtype == value.dtype
    np.testing.assert_array_equal(restored, value)


@pytest.mark.parametrize(
    "value", [object(), print, {1.5: 2}, np.array([None]), np.array([1j]), b"x", {"a": [set()]}]
)
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(ModelFileError, match=r"v\S* cannot be saved: it is a"):
        pack(value, "v", {})


@pytest.mark.parametrize(
    "packed",
    [
        {"pickle": "x"}, {"tuple": 3}, {"tuple": [], "dict": {}}, {"float": "1"}, {},
        {"scalar": ["object", 1]}, {"scalar": ["no type", 1]}, {"array": ["x"]},
        {"strings": ["object", [1], [3]]},
    ],
)  # fmt: skip
def test_other_forms_are_refused(packed: Any) -> None:
    with pytest.raises(ModelFileError, match="The file holds"):
        unpack(packed, {})


@pytest.mark.parametrize("value", [{0: 2.0}, {1: [2, None], "a": (3,)}, {np.int64(2): np.ones(2)}])
def test_keys_of_dictionaries_may_be_integers(value: Any) -> None:
    restored = round_trip(value)
    assert list(map(str, restored)) == list(map(str, value))
    np.testing.assert_equal(list(restored.values()), list(value.values()))
