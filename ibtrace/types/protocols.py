"""Whether an object keeps a protocol, asked once for each class."""

from __future__ import annotations

from typing import TypeGuard, TypeVar
from weakref import WeakKeyDictionary

_Kept = TypeVar("_Kept")

_KNOWN: WeakKeyDictionary[type[object], dict[type[object], bool]] = WeakKeyDictionary()


def keeps(thing: object, protocol: type[_Kept]) -> TypeGuard[_Kept]:
    """``isinstance(thing, protocol)``, remembered for the class: the check itself is slow.

    Args:
        thing: An object whose class, not itself, decides what it has.
        protocol: A protocol that can be checked at run time.

    Example:
        >>> from collections.abc import Sized
        >>> keeps([], Sized), keeps(1, Sized)
        (True, False)
    """
    known = _KNOWN.setdefault(type(thing), {})
    if protocol not in known:
        known[protocol] = isinstance(thing, protocol)
    return known[protocol]
