"""Tracer's arguments from a flat mapping: tests vary one field of a look or of what is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ibtrace.capture import Look
from ibtrace.tracer import Keep

_LOOK, _KEEP = ({item.name for item in dataclasses.fields(kind)} for kind in (Look, Keep))


def look_of(**fields: Any) -> Look:
    """A look of some fields; those of a look that is given change only where they are named."""
    base = Look.of(fields.pop("look", None))
    return dataclasses.replace(base, **fields) if fields else base


def grouped(**options: Any) -> dict[str, Any]:
    """The same with the fields of `Look` under ``look`` and those of `Keep` under ``keep``."""
    look: Mapping[str, Any] = {n: options.pop(n) for n in _LOOK & options.keys()}
    keep: Mapping[str, Any] = {n: options.pop(n) for n in _KEEP & options.keys()}
    if look:
        options["look"] = look_of(**look, **{n: options[n] for n in {"look"} & options.keys()})
    if keep:
        base = Keep.of(options.get("keep"))
        options["keep"] = dataclasses.replace(base, **keep)
    return options
