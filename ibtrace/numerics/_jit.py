"""How loops are compiled: numba's way, without its parallel or fast-math modes. Imports numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numba

_Of = ParamSpec("_Of")
_Result = TypeVar("_Result")


def kernel(
    *signatures: str, any_order: bool = False
) -> Callable[[Callable[_Of, _Result]], Callable[_Of, _Result]]:
    """A function compiled now, for these types alone, and kept on disk where a place allows it.

    Numbers come out as the loop says: nothing is reordered unless it may be, and no thread but the
    caller's works on it. It lets the interpreter's lock go.

    Args:
        *signatures: The types of arguments and result, in numba's words.
        any_order: Let sums of many numbers be taken side by side, as a matrix product does.
    """

    def compiled(function: Callable[_Of, _Result]) -> Callable[_Of, _Result]:
        try:
            return _compile(function, signatures, any_order, cache=True)
        except (RuntimeError, OSError):  # neither beside the code nor at home can a file be written
            return _compile(function, signatures, any_order, cache=False)

    return compiled


def _compile(
    function: Callable[_Of, _Result], signatures: tuple[str, ...], any_order: bool, *, cache: bool
) -> Callable[_Of, _Result]:
    made: Callable[_Of, _Result] = numba.njit(
        list(signatures) or None,
        cache=cache,
        nogil=True,
        fastmath={"reassoc"} if any_order else False,
        error_model="numpy",
    )(function)
    return made
