"""Labels as people hand them in, read as class ids or numbers; refused where the meaning is open.

Strings and categories, pandas and NumPy, lists, any integer type, one-hot rows, a column, -1/+1,
class ids that were made floats for a loss: each has one meaning, and gets it.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ibtrace.datasets.precision import require_kept
from ibtrace.errors import InvalidInput
from ibtrace.numerics.types import is_numeric, numeric

Classes = int | Sequence[Any] | None
"""How many classes, or their names in order; 0: the labels are numbers, not classes."""

_MOST_CLASSES = 100
_FEWEST_UNIQUE = 100
_MISSING = ("NAType", "NaTType")
_OFFSET = "give each column less a number near its mean, or in a unit of its spread"
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


@dataclass(frozen=True)
class Labels:
    """Labels as tensors.

    Args:
        values: Class ids, int64 ``(n,)``; several ids for each sample, int64 ``(n, ...)``; or
            continuous targets, floats ``(n,)`` or ``(n, dy)``.
        names: The names of classes 0, 1, …; None if the ids are the names.
        classes: How many classes there may be; 0 for numbers, None if nobody said.
        one_hot: How many columns one-hot rows had, 0 if they were none.
        targets: The numbers as they were given, which a loss takes, of the shape and the meaning
            that they had there (-1/+1, floats, one-hot rows, ``(n, 1)``); the ids of names.
    """

    values: Tensor
    names: tuple[str, ...] | None = None
    classes: int | None = None
    one_hot: int = 0
    targets: Tensor = field(default_factory=lambda: torch.empty(0))


def read_labels(y: Any, classes: Classes = None, who: str = "Probe") -> Labels:
    """The labels that are meant.

    Strings and categories become ids in the order of their names (or of ``classes``), which are
    remembered. ``(n, 1)`` is ``(n,)``, one-hot rows are their class, -1/+1 is two classes, unsigned
    and Boolean values are integers, sparse tensors are made dense. Whole-numbered floats are
    classes if ``classes`` says so or if they take few values: at most 100, and each on two samples
    on average; a discrete variable that is taken for what it is. ``classes=0`` makes them numbers.
    Integers of more than 100 values, more than half as many as samples, are refused unless
    ``classes`` says what they are: as ids, hardly any two samples would share a class.

    Args:
        y: A tensor, an array, a list, a pandas Series, Categorical or DataFrame.
        classes: See `Classes`.
        who: Who asks, for the errors.

    Raises:
        InvalidInput: If the labels have no plain meaning; says what to do.

    Example:
        >>> labels = read_labels(["cat", "dog", "ant", "cat"])
        >>> labels.values.tolist(), labels.names
        ([1, 2, 0, 1], ('ant', 'cat', 'dog'))
        >>> read_labels(torch.tensor([-1.0, 1.0, 1.0, -1.0])).values.tolist()
        [0, 1, 1, 0]
    """
    count, names = _classes(classes, who)
    values = _plain(y, who)
    if isinstance(values, list):
        named = _named(values, names, count, who)
        return replace(named, targets=named.values)
    if values.dim() < 1:
        raise InvalidInput(f"{who}: y must hold a label for each sample, got {_shown(y)}")
    return replace(_numeric(values, names, count, who), targets=values)


def _numeric(values: Tensor, names: tuple[str, ...] | None, count: int | None, who: str) -> Labels:
    """Labels of numbers: class ids, or targets."""
    if values.dim() > 1 and values.shape[1:].numel() == 1:
        values = values.reshape(len(values), *[1] * values.is_floating_point())
    if count == 0:
        if not values.is_floating_point():
            numbers, values = values.cpu().numpy(), values.double()
            require_kept(numbers, values.cpu(), f"{who}: y as float64", _OFFSET)
    elif values.is_floating_point():
        values = _whole_numbers(values, count, who)
    if values.is_floating_point():
        if values.dim() > 2:
            got = f"{who}: continuous y must be (n,) or (n, dy), got {tuple(values.shape)}"
            raise InvalidInput(f"{got}; y.flatten(1) makes it so, y=None leaves it out")
        return Labels(values, None, count)
    if count is None:
        _require_repeats(values, who)
    return _ids(values, names, count, who)


def _require_repeats(values: Tensor, who: str) -> None:
    """Raise for one column of integers that nearly all differ: dollars, not classes."""
    distinct = len(values.unique()) if values.dim() == 1 else 0
    if distinct > max(_FEWEST_UNIQUE, len(values) // 2):
        got = f"{who}: y is integers of {distinct} values in {len(values)} samples, hardly classes"
        raise InvalidInput(f"{got}; give floats (or classes=0), or classes=the number of classes")


def _classes(classes: Any, who: str) -> tuple[int | None, tuple[str, ...] | None]:
    """How many classes there are, if somebody said, and their names."""
    if classes is None:
        return None, None
    if isinstance(classes, (str, bytes, bool, np.bool_, Mapping, Set)):
        raise InvalidInput(
            f"{who}: classes={classes!r}; give an integer (0 for numbers), or a list of names in "
            "order"
        )
    try:
        count = operator.index(classes)
    except TypeError:
        return _class_names(classes, who)
    if count < 0:
        raise InvalidInput(f"{who}: classes={count}; give 1 or more classes, 0 for numbers")
    return count, None


def _class_names(classes: Any, who: str) -> tuple[int, tuple[str, ...]]:
    try:
        items = classes.tolist() if hasattr(classes, "tolist") else list(classes)
    except TypeError:
        items = None
    if not isinstance(items, list) or any(isinstance(item, list) for item in items):
        got = f"{who}: classes={classes!r}".split("\n", maxsplit=1)[0]
        raise InvalidInput(f"{got}; give an integer (0 for numbers), or a list of names in order")
    names = tuple(_name(item) for item in _present(items, who, "classes"))
    if not names:
        raise InvalidInput(f"{who}: classes has no names; leave it out, or 0 for numbers")
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        raise InvalidInput(f"{who}: classes names {twice[0]!r} twice; give each class one name")
    return len(names), names


def _name(item: Any) -> str:
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)


def _plain(y: Any, who: str) -> Tensor | list[Any]:
    """Numbers as a tensor; names, or categories of any type, as a list."""
    if isinstance(y, Tensor):
        return _integers(dense(y, f"{who}: y"), who)
    if isinstance(y, (list, tuple)) and y and all(isinstance(item, Tensor) for item in y):
        for item in y:
            require_plain(item, f"{who}: y")
        if len({item.shape for item in y}) > 1:
            raise InvalidInput(f"{who}: y's tensors differ in shape; give each sample one label")
        return _integers(dense(torch.stack(list(y)), f"{who}: y"), who)
    array = as_array(y, f"{who}: y")
    if isinstance(y, (list, tuple)) and array.dtype.kind in "US":
        # NumPy makes words of what stands among words, and cuts zeros off their ends
        array = np.array(y, dtype=object)
    if array.ndim > 1 and array.size == len(array):
        array = array.reshape(-1)
    categories = getattr(getattr(y, "dtype", None), "categories", None) is not None
    if array.dtype.kind in "OT" or categories:
        items = _present(array.reshape(-1).tolist(), who)
        if categories or any(isinstance(item, (str, bytes)) for item in items):
            return _column(items, array, who)
        array = _numbers(items, array, who)
    if array.dtype.kind in "US":
        return _column(array.astype(str).reshape(-1).tolist(), array, who)
    if array.dtype.kind not in "biuf":
        raise InvalidInput(f"{who}: y is {array.dtype}; give class names, class ids or numbers")
    return _integers(as_tensor(array, f"{who}: y"), who)


def as_array(value: Any, who: str) -> np.ndarray[Any, Any]:
    """A list, an array or pandas' as a NumPy array of its own.

    Raises:
        InvalidInput: If its rows are of different lengths, values are masked, or it is none of
            these.
    """
    require_plain(value, who)
    if isinstance(value, (list, tuple)) and any(isinstance(v, np.ma.MaskedArray) for v in value):
        value = np.ma.array(value)
    if isinstance(value, np.ma.MaskedArray):
        if masked := int(np.ma.getmaskarray(value).sum()):
            raise InvalidInput(f"{who} has {masked} masked values; remove those samples")
        value = value.data
    try:
        array = value.to_numpy() if hasattr(value, "to_numpy") else np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{who} cannot be made an array ({_first_line(error)})") from error
    if array.ndim == 0:
        raise InvalidInput(f"{who} must hold one value for each sample, got {_shown(value)}")
    array = np.asarray(array)
    if array.ndim == 2 and array.dtype.kind == "f" and hasattr(value, "iloc"):
        columns = [value.iloc[:, at].to_numpy() for at in range(array.shape[1])]
        if any(column.dtype != array.dtype for column in columns):  # pandas casts them to one
            require_kept(columns, as_tensor(array, who), f"{who} as {array.dtype}", _OFFSET)
    return array


def as_floats(array: np.ndarray[Any, Any], who: str, words: str) -> np.ndarray[Any, Any]:
    """Python's numbers, of an array of objects, as float64.

    Args:
        array: The array.
        who: Who holds it, for the errors.
        words: What is said where some are no numbers.

    Raises:
        InvalidInput: If some are no numbers, or float64 merges them.
    """
    try:
        floats = array.astype("float64")
    except (ValueError, TypeError) as error:
        raise InvalidInput(words) from error
    columns = list(array.reshape(len(array), -1).T) if len(array) else []
    require_kept(columns, torch.from_numpy(floats), f"{who} as float64", _OFFSET)
    return floats


def as_tensor(array: np.ndarray[Any, Any], who: str) -> Tensor:
    """A NumPy array of numbers, of any byte order or width, as a tensor of its own.

    Raises:
        InvalidInput: If they are wider than float64, which merges them.
    """
    wide = array.dtype.itemsize > 8
    kind = np.dtype("float64") if wide else array.dtype.newbyteorder("=")
    tensor = torch.from_numpy(np.array(array, dtype=kind))
    if wide:
        require_kept(array, tensor, f"{who}, {array.dtype}, as float64", _OFFSET)
    return tensor


def _present(items: list[Any], who: str, what: str = "y") -> list[Any]:
    """The items, none of which may be missing."""
    missing = sum(item is None or type(item).__name__ in _MISSING or item != item for item in items)
    if missing:
        raise InvalidInput(f"{who}: {what} has {missing} missing values; remove them")
    return items


def _column(items: list[Any], array: np.ndarray[Any, Any], who: str) -> list[Any]:
    """Names of one column, all of one type."""
    if array.ndim > 1:
        got = f"{who}: y holds names of shape {array.shape}"
        raise InvalidInput(f"{got}; give each sample one name, its columns joined")
    items = [str(item) if isinstance(item, str) else item for item in items]
    kinds = sorted({type(item).__name__ for item in items})
    if len(kinds) > 1:
        raise InvalidInput(f"{who}: y mixes {', '.join(kinds)}; make all of them strings")
    return items


def _numbers(items: list[Any], array: np.ndarray[Any, Any], who: str) -> np.ndarray[Any, Any]:
    """Python's numbers, of an array of objects, as an array of numbers."""
    kinds = sorted({type(item).__name__ for item in items})
    if not all(isinstance(item, (numbers.Real, np.bool_)) for item in items):
        got = f"{who}: y holds {', '.join(kinds)}"
        raise InvalidInput(f"{got}; give each sample a class name, a class id or a number")
    made = np.array(items).reshape(array.shape)
    return as_floats(array, f"{who}: y", "") if made.dtype.kind == "f" else made


def require_plain(value: Any, who: str) -> None:
    """Refuse what has no rows of one length to take: sparse matrices of SciPy, nested tensors.

    Raises:
        InvalidInput: If it is one of these.
    """
    if isinstance(value, Tensor):
        if value.is_nested:
            got = f"{who} is a nested tensor"
            raise InvalidInput(f"{got}; give torch.nested.to_padded_tensor(…, 0) and a mask")
    elif hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise InvalidInput(f"{who} is a {type(value).__name__}; give its toarray()")


def dense(value: Tensor, who: str) -> Tensor:
    """A tensor without gradient, layout or quantisation, float8 as float32.

    Raises:
        InvalidInput: If it is complex, nested, on no device, or of a type torch cannot compute in.
    """
    require_plain(value, who)
    value = value.detach()
    if not is_numeric(value):
        kind = str(value.dtype).removeprefix("torch.")
        raise InvalidInput(f"{who} is {kind}, in which torch computes nothing; give it as float32")
    if value.layout != torch.strided:
        value = value.to_dense()
    value = numeric(value)
    if value.is_complex():
        raise InvalidInput(f"{who} is complex; give torch.view_as_real(…), real and imaginary part")
    if value.is_meta:
        raise InvalidInput(f"{who} is on the meta device and holds no values")
    return value


def signed(value: Tensor, who: str) -> Tensor:
    """Unsigned integers that torch cannot index or compare, as signed ones of the same value.

    Raises:
        InvalidInput: If a value is 2**63 or more.
    """
    if value.dtype not in _UNSIGNED:
        return value
    wider = value.to(torch.int32 if value.dtype == torch.uint16 else torch.int64)
    if wider.numel() and int(wider.min()) < 0:
        raise InvalidInput(f"{who} has values of 2**63 or more; give them as smaller ids or floats")
    return wider


def _integers(values: Tensor, who: str) -> Tensor:
    """Integers as int64, narrow floats as float32."""
    if values.is_floating_point():
        return values.float() if values.element_size() < 4 else values
    return signed(values, f"{who}: y").long()


def _named(items: list[Any], names: tuple[str, ...] | None, count: int | None, who: str) -> Labels:
    """Ids of names, in their own order or in the one that is given."""
    order = list(map(_name, sorted(set(items)))) if names is None else list(names)
    if count is not None and names is None and count != len(order):
        means = "numbers" if count == 0 else f"{count} classes"
        raise InvalidInput(
            f"{who}: y has {len(order)} names, but classes={count} means {means}; leave classes "
            "out, or give all names in order"
        )
    items = list(map(_name, items))
    place = {name: at for at, name in enumerate(order)}
    if len(place) < len(order):
        raise InvalidInput(f"{who}: different labels of y have one name; make all of them strings")
    if unknown := [item for item in items if item not in place]:
        raise InvalidInput(f"{who}: y has {unknown[0]!r}, which classes= does not name")
    ids = torch.tensor([place[item] for item in items], dtype=torch.int64)
    return Labels(ids, tuple(order), len(order))


def _whole_numbers(values: Tensor, classes: int | None, who: str) -> Tensor:
    """Floats that are class ids as integers; others as they are."""
    whole = bool((values.isfinite() & (values == values.round())).all())
    if classes and not whole:
        got = f"{who}: classes={classes}, but y is not whole-numbered"
        raise InvalidInput(f"{got}; leave classes out for continuous targets")
    if classes or (whole and (_few(values) if values.shape[1:].numel() == 1 else _hot(values))):
        column = values.shape[1:].numel() == 1
        return values.long().reshape(-1) if column else values.long()
    return values


def _few(values: Tensor) -> bool:
    return len(values.unique()) <= max(2, min(len(values) // 2, _MOST_CLASSES))


def _hot(values: Tensor) -> bool:
    """Whether these are rows of 0 and 1, or of -1 and 1."""
    return values.dim() == 2 and (is_multi_hot(values) or _is_signed(values))


def _is_signed(values: Tensor) -> bool:
    """Whether these are two classes that are called -1 and 1."""
    return bool((values.abs() == 1).all() and (values < 0).any() and (values > 0).any())


def _ids(values: Tensor, names: tuple[str, ...] | None, classes: int | None, who: str) -> Labels:
    """Class ids, checked; one-hot rows as their class."""
    if _is_signed(values):
        values = (values + 1) // 2
        names = names or (("-1", "1") if values.dim() == 1 else None)
    one_hot = 0
    if is_multi_hot(values) and bool((values.sum(1) == 1).all()):
        one_hot = values.shape[1]
        classes = classes or one_hot
        values = values.argmax(1)
    classes = classes or (len(names) if names else None)
    if values.dim() > 1 or not values.numel():
        return Labels(values, names, classes)
    low, high = int(values.min()), int(values.max())
    if low < 0:
        allowed = f"0..{classes - 1}" if classes else "0 or more"
        raise InvalidInput(
            f"{who}: class ids must be {allowed}, got {low}..{high}; remove samples that a "
            "negative id marks as unlabelled, or name the classes: [str(i) for i in y.tolist()]"
        )
    if classes and high >= classes:
        hint = "; ids count from 0: y - 1" if low == 1 and high == classes else ""
        raise InvalidInput(f"{who}: class ids must be 0..{classes - 1}, got {low}..{high}{hint}")
    return Labels(values, names, classes, one_hot)


def is_multi_hot(values: Tensor) -> bool:
    """Whether these are rows of 0 and 1, ``(n, L)``: which of L labels a sample has."""
    return values.dim() == 2 and bool(((values == 0) | (values == 1)).all())


def _first_line(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0]


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, (int, float, str)) else type(value).__name__
