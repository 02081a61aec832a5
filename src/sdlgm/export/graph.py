"""Build graphs of ONNX operators; read and write ONNX files."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.errors import SDLGMError
from sdlgm.interrupts import postponed
from sdlgm.outputs import atomic_path
from sdlgm.version import __version__

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "Graph", "read_model", "require_onnx", "write_model"]

OPSET = 20
"""Version of the ONNX operators (the first with Gelu)."""
IR_VERSION = 9
"""Version of the file format that goes with the opset."""
BATCH = "n"
"""Name of the dynamic dimension of samples."""

Value = str
"""Name of a value in a graph."""


class Graph:
    """A graph under construction: operators in the order of the calls, constants, inputs, outputs.

    Calling the graph adds an operator: ``graph("Add", a, b)`` returns the name of its result. All
    constants are stored in the graph itself.

    Examples
    --------
    >>> graph = Graph("double")
    >>> x = graph.input("x", np.float32, 2)
    >>> graph.output("y", graph("Mul", x, graph.constant(np.float32(2))), np.float32, 2)
    >>> model = graph.model({"part": "example"})
    >>> [node.op_type for node in model.graph.node]
    ['Mul', 'Identity']
    """

    def __init__(self, name: str) -> None:
        require_onnx("The export")
        self.name = name
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def __call__(self, op: str, *inputs: Value, **attributes: Any) -> Value:
        """Add an operator with one result; return the name of the result."""
        return self.several(op, 1, *inputs, **attributes)[0]

    def several(self, op: str, results: int, *inputs: Value, **attributes: Any) -> list[Value]:
        """Add an operator with several results; return their names."""
        from onnx import helper

        number = len(self._nodes)
        names = [f"{op}_{number}" + (f"_{i}" if i else "") for i in range(results)]
        self._nodes.append(
            helper.make_node(op, list(inputs), names, f"{op}_{number}", **attributes)
        )
        return names

    def constant(self, value: Tensor | NDArray[Any] | np.generic, name: str | None = None) -> Value:
        """Store an array in its own type; return its name."""
        from onnx import numpy_helper

        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        name = f"constant_{len(self._constants)}" if name is None else name
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def integers(self, *values: int) -> Value:
        """Store a vector of integers, such as a shape or axes; return its name."""
        return self.constant(np.array(values, np.int64))

    def input(self, name: str, dtype: type[np.generic], *shape: int | str) -> Value:
        """Declare an input of shape ``(n, *shape)``; return its name."""
        self._inputs.append(_declare(name, dtype, shape))
        return name

    def output(self, name: str, value: Value, dtype: type[np.generic], *shape: int) -> None:
        """Declare a value as an output of shape ``(n, *shape)``."""
        self._nodes.append(_identity(value, name))
        self._outputs.append(_declare(name, dtype, shape))

    def cast(self, value: Value, dtype: type[np.generic]) -> Value:
        """Add a cast to another type."""
        from onnx import helper

        return self("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, value: Value, *shape: int) -> Value:
        """Add a reshape; one length may be -1."""
        return self("Reshape", value, self.integers(*shape))

    def filled(self, like: Value, shape: Sequence[int], fill: np.generic) -> Value:
        """Add an array ``(n, *shape)`` of one value, where n is the length of ``like``."""
        from onnx import numpy_helper

        whole = self("Concat", self("Shape", like, start=0, end=1), self.integers(*shape), axis=0)
        value = numpy_helper.from_array(np.asarray(fill).reshape(1))
        return self("ConstantOfShape", whole, value=value)

    def model(self, about: Mapping[str, Any]) -> onnx.ModelProto:
        """Return the checked model with ``about`` as its metadata."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="sdlgm",
            producer_version=__version__,
        )
        facts = {"sdlgm_version": __version__, "opset": OPSET, **about}
        helper.set_model_props(model, {key: str(value) for key, value in facts.items()})
        onnx.checker.check_model(model, full_check=True)
        return model


def write_model(model: onnx.ModelProto, path: Path | str) -> Path:
    """Check a model and write it to one file, atomically; return its path."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return Path(path)


def read_model(path: Path | str) -> onnx.ModelProto:
    """Read a model from a file.

    Raises
    ------
    SDLGMError
        If the file is missing or not an ONNX model.
    """
    require_onnx("Reading an ONNX file")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path))
    except FileNotFoundError:
        raise SDLGMError(f"{path} does not exist.") from None
    except DecodeError as error:
        raise SDLGMError(f"{path} is not an ONNX model, or is damaged ({error}).") from None


def require_onnx(what: str, package: str = "onnx") -> None:
    """Import a package of the extra ``onnx``.

    Raises
    ------
    SDLGMError
        If it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise SDLGMError(
            f'{what} needs {package}, which is not installed: pip install "sdlgm[onnx]"'
        )
    with postponed():  # its extension ends the process if it is interrupted while it starts
        importlib.import_module(package)


def _declare(name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> Any:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, [BATCH, *shape])


def _identity(value: Value, name: str) -> Any:
    from onnx import helper

    return helper.make_node("Identity", [value], [name], f"output {name}")
