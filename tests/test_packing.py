"""The bytes of a look: what goes in comes out, and what is not whole is refused."""

from __future__ import annotations

import pytest

from ibtrace.trace.packing import Entry, Layout

LAYOUT = Layout(texts=("layer", "estimator"), reals=("bits",), key=("layer",))
IDS = {"first": 1, "last": 2, "binning": 3, "[]": 4, '["bins"]': 5, '["k", "ties"]': 6}
NAMES = {place: text for text, place in IDS.items()}


def entry(layer: str, bits: float, **figures: float) -> Entry:
    return Entry(0, 7, 7, None, (layer, "binning"), (bits,), figures)


def read(count: int, content: bytes) -> dict[str, tuple[float, list[float]]]:
    """Bits and figures of each layer."""
    records, values = LAYOUT.unpack((count, content))
    found, start = {}, 0
    for record in records:
        end = start + int(record["many"])
        found[NAMES[int(record["layer"])]] = (float(record["bits"]), values[start:end].tolist())
        start = end
    return found


def test_a_record_that_is_held_keeps_its_figures_when_another_of_its_look_is_replaced() -> None:
    held = LAYOUT.pack([entry("first", 1, bins=30), entry("last", 2, k=3, ties=0.5)], IDS)
    again = LAYOUT.pack([entry("first", 4)], IDS, held)
    assert read(*again) == {"last": (2, [3, 0.5]), "first": (4, [])}
    assert read(*LAYOUT.pack([entry("last", 5, bins=9)], IDS, held)) == {
        "first": (1, [30]),
        "last": (5, [9]),
    }


def test_of_two_of_one_key_the_last_is_kept() -> None:
    assert read(*LAYOUT.pack([entry("first", 1, bins=1), entry("first", 2)], IDS)) == {
        "first": (2, [])
    }


def test_figures_that_lack_or_abound_are_refused() -> None:
    count, content = LAYOUT.pack([entry("first", 1, bins=30), entry("last", 2, bins=9)], IDS)
    for damaged in (content[:-8], content + bytes(8)):
        with pytest.raises(ValueError, match="the figures are not those of the records"):
            LAYOUT.unpack((count, damaged))
    for many in (3, 10**6, -1):
        with pytest.raises(ValueError, match=r"hold no|not those of"):
            LAYOUT.unpack((many, content))
