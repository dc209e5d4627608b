"""What a model is called with: tensors that have the samples first, and whatever goes with them.

Inputs are a tensor, or a mapping, a tuple or a graph of inputs; None, flags, numbers and words may
be among them. Their leaves have names: ``""`` for a tensor alone, ``input_ids`` in a mapping, ``0``
in a tuple, ``text.input_ids`` further down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ibtrace.datasets.labels import as_array, as_floats, as_tensor, dense, require_plain, signed
from ibtrace.datasets.pairing import require_one_order
from ibtrace.datasets.precision import require_kept
from ibtrace.errors import InvalidInput

Inputs = Any
"""A tensor ``(n, ...)``, or a mapping, a tuple or a `Graph` of inputs and constants."""

_CONSTANTS = (type(None), bool, int, float, str)
_EDGES = ("edge_", "adj_t", "ptr")


@dataclass(frozen=True)
class Graph:
    """One graph whose nodes are the samples: what a ``torch_geometric.data.Data`` holds.

    Args:
        kind: Its class, which is made anew by ``from_dict``.
        fields: What it holds; ``x`` has the nodes first, all else belongs to the whole graph.
    """

    kind: Any
    fields: Mapping[str, Any]

    def built(self) -> Any:
        """An object of the class."""
        return self.kind.from_dict(dict(self.fields))


def read_inputs(x: Any, name: str = "x", *, narrow: bool = True) -> Inputs:
    """Inputs as tensors of their own: copied, dense, detached.

    NumPy's float64 (which is only its default, as pandas' is) becomes torch's default type
    (`narrowed`); tensors keep theirs. A list is one tensor; a tuple is several inputs.

    Args:
        x: What was handed in.
        name: What it is called in errors.
        narrow: Whether float64 becomes the default type; False leaves it.

    Raises:
        InvalidInput: If it is text, nothing that can be made a tensor, or merged by `narrowed`.
    """
    # copied outside inference mode, whose tensors could not be used or changed elsewhere
    with torch.inference_mode(False), torch.no_grad():
        return _read(x, name, narrow)


def narrowed(values: Tensor, name: str) -> Tensor:
    """NumPy's float64 in torch's default type, in which models compute; others as they are.

    Args:
        values: A tensor that was an array.
        name: What it is called in errors.

    Raises:
        InvalidInput: If different samples are equal then, or a column loses its values: a time in
            seconds since 1970 has one value in two minutes.
    """
    default = torch.get_default_dtype()
    if values.dtype != torch.float64 or default == torch.float64:
        return values
    cast = values.to(default)
    kind = str(default).removeprefix("torch.")
    require_kept(
        values.cpu().numpy(),
        cast.cpu(),
        f"Probe: {name} is float64; as {kind}, in which models compute",
        "take a number near its mean off each column, or divide it by its spread; "
        "torch.as_tensor(x) keeps float64 for a model in double precision, x.astype('float32') "
        "says that the model sees no more",
    )
    return cast


def _read(x: Any, name: str, narrow: bool) -> Inputs:
    if isinstance(x, Tensor):
        return signed(dense(x, f"Probe: {name}"), f"Probe: {name}").clone()
    if is_graph(x):
        fields = x.fields if isinstance(x, Graph) else x.to_dict()
        if not isinstance(fields.get("x"), Tensor):
            got = f"Probe: a {type(x).__name__} without x"
            raise InvalidInput(f"{got}; give x=(node features, edge_index), and forward=")
        kind = x.kind if isinstance(x, Graph) else type(x)
        read = {key: _read(value, key, narrow) for key, value in fields.items() if key != "y"}
        return Graph(kind, read)
    if isinstance(x, Mapping):
        return {key: _read(value, str(key), narrow) for key, value in x.items()}
    if isinstance(x, tuple):
        return tuple(_read(value, f"{name}[{at}]", narrow) for at, value in enumerate(x))
    if isinstance(x, _CONSTANTS):
        return x
    if isinstance(x, list) and x and all(isinstance(item, Tensor) for item in x):
        for item in x:
            require_plain(item, f"Probe: {name}")
        if len({item.shape for item in x}) > 1:
            got = f"Probe: {name} is a list of tensors of different shapes"
            raise InvalidInput(f"{got}; give a tuple, if they are several inputs, or pad them")
        return _read(torch.stack(x), name, narrow)
    return _from_array(x, name, narrow)


def _from_array(x: Any, name: str, narrow: bool) -> Tensor:
    require_plain(x, f"Probe: {name}")
    if not isinstance(x, list) and not hasattr(x, "__array__"):
        raise InvalidInput(
            f"Probe: {name} is a {type(x).__name__}; give a tensor, an array or a DataFrame, or a "
            "dictionary or tuple of these"
        )
    array = as_array(x, f"Probe: {name}")
    if array.dtype.kind in "OUST":
        array = as_floats(  # a DataFrame of whole numbers and fractions has Python's objects
            array,
            f"Probe: {name}",
            f"Probe: {name} holds words or objects; give numbers: tokens of a text, one-hot "
            "columns of a category",
        )
    if array.dtype.kind not in "biuf":
        raise InvalidInput(f"Probe: {name} is {array.dtype}; give numbers")
    tensor = as_tensor(array, f"Probe: {name}")
    return signed(narrowed(tensor, name) if narrow else tensor, f"Probe: {name}")


def is_graph(x: Any) -> bool:
    """Whether this is a graph as torch_geometric has it (or one that was read already)."""
    return isinstance(x, Graph) or (hasattr(x, "edge_index") and hasattr(x, "to_dict"))


def leaves(x: Inputs, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each leaf with its name.

    Args:
        x: Inputs.
        name: The name of x itself.

    Yields:
        ``(name, tensor or constant)``.
    """
    parts: Mapping[Any, Any] | None = None
    if isinstance(x, Graph):
        parts = x.fields
    elif isinstance(x, Mapping):
        parts = x
    elif isinstance(x, tuple):
        parts = dict(enumerate(x))
    if parts is None:
        yield name, x
        return
    for key, value in parts.items():
        yield from leaves(value, f"{name}.{key}" if name else str(key))


def require_paired(x: Inputs, y: Any) -> None:
    """Raise if pandas' names of rows say that inputs and labels do not belong together.

    Args:
        x: Inputs as they were handed in.
        y: Labels as they were handed in, or several by name.

    Raises:
        InvalidInput: See `require_one_order`.
    """
    inputs = {f"x[{name}]" if name else "x": value for name, value in leaves(x)}
    labels = {f"y[{name}]" if name else "y": value for name, value in leaves(y)}
    require_one_order({**inputs, **labels}, "Probe")


def mapped(x: Inputs, change: Callable[[str, Any], Any], name: str = "") -> Inputs:
    """The same inputs with each leaf changed.

    Args:
        x: Inputs.
        change: Takes a leaf's name and the leaf.
        name: The name of x itself.
    """

    def within(parts: Mapping[Any, Any]) -> dict[Any, Any]:
        return {
            key: mapped(value, change, f"{name}.{key}" if name else str(key))
            for key, value in parts.items()
        }

    if isinstance(x, Graph):
        return Graph(x.kind, within(x.fields))
    if isinstance(x, Mapping):
        return within(x)
    if isinstance(x, tuple):
        return tuple(within(dict(enumerate(x))).values())
    return change(name, x)


def samples_first(x: Inputs, whole: Sequence[str]) -> dict[str, Tensor]:
    """The tensors that have the samples first, by name.

    Args:
        x: Inputs.
        whole: Names of tensors that belong to all samples together. What a graph's edges are
            called (``edge_index``, ``edge_attr`` …) is known, as is that a graph's only samples
            are its nodes' ``x``.
    """
    return {
        name: value
        for name, value in leaves(x)
        if isinstance(value, Tensor)
        and value.dim()
        and name not in whole
        and not name.rpartition(".")[2].startswith(_EDGES)
        and (not isinstance(x, Graph) or name == "x")
    }
