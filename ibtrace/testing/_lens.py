"""The contract of a lens, check by check: see `ibtrace.testing.check_lens`."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import cast, get_args

import numpy as np
import torch
from torch import Tensor

from ibtrace.errors import InvalidInput, Unsupported
from ibtrace.lenses import checked, modules_of
from ibtrace.testing._form import check_value
from ibtrace.testing._state import generators_restored, global_state
from ibtrace.testing._views import SEEDS, Case, Narrow, cases
from ibtrace.types import INFORMATION, Lens, Need, Reading, View

LensCheck = Callable[[Lens], None]
_Read = dict[tuple[str, str], Reading]
_NUMBERS = ("value", "stderr", "lower", "upper")
_RTOL, _ATOL = 1e-6, 1e-9  # the networks are in double precision


def check_is_value(lens: Lens) -> None:
    """A lens is a value: frozen, hashable, equal to its copies, its pickle and its repr."""
    assert isinstance(lens, Lens), f"{lens!r} has no tags, or is not called"
    check_value(lens)


def check_tags(lens: Lens) -> None:
    """The tags say what is read, in which unit, at what cost, by whose definition."""
    who, tags = type(lens).__name__, lens.tags
    empty = [name for name in ("quantities", "reference", "cost") if not getattr(tags, name)]
    assert not empty, f"{who}: its tags lack {', '.join(empty)}"
    assert re.search(r"\b(19|20)\d\d\b", tags.reference), f"{who}: tags.reference has no year"
    names = [quantity.name for quantity in tags.quantities]
    assert len({*names}) == len(names), f"{who}: its tags name a quantity twice"
    for quantity in tags.quantities:
        assert quantity.name, f"{who}: a quantity has no name"
        assert quantity.unit, f'{who}: {quantity.name} has no unit; "1" is a pure number'
        taken = quantity.name in INFORMATION
        assert not taken, f"{who}: {quantity.name} is what estimators measure"
    unknown = sorted(tags.needs - {*get_args(Need)})
    assert not unknown, f"{who}: tags.needs has {unknown}; a view has {get_args(Need)}"
    written = not (type(lens).__doc__ or f"{who}(").startswith(f"{who}(")  # dataclass's own
    assert written, f"{who}: it has no docstring"


def check_readings(lens: Lens) -> None:
    """Every quantity is read somewhere, as its tags say; no number is wrong without a flag."""
    seen = set()
    for case in _taken(lens):
        for (quantity, layer), reading in _read(lens, case).items():
            seen.add(quantity)
            what = f"{lens!r}: {quantity} of {layer or case.name}"
            wrong = ~torch.isfinite(reading.value)
            flagged = torch.zeros_like(wrong)
            for raised in reading.flags.values():
                flagged |= raised
            assert not bool((wrong & ~flagged).any()), f"{what} is not finite and has no flag"
            assert not bool((reading.stderr < 0).any()), f"{what} has an error below 0"
            ends = reading.lower > reading.upper
            assert not bool(ends.any()), f"{what} has a lower end above the upper"
    never = [quantity.name for quantity in lens.tags.quantities if quantity.name not in seen]
    assert not never, f"{lens!r} never reads {', '.join(never)}, which its tags name"


def check_needs(lens: Lens) -> None:
    """A view with what ``tags.needs`` names is enough, and all of that is asked for."""
    asked: set[Need] = set()
    for case in _taken(lens):
        narrow = Narrow(case.view(), lens.tags.needs)
        lens(cast("View", narrow), case.probe)
        asked |= narrow.asked
    idle = sorted(lens.tags.needs - asked)
    assert not idle, f"{lens!r}: tags.needs has {', '.join(idle)}, and it is never asked for"


def check_seed(lens: Lens) -> None:
    """The same seed gives the same numbers, whatever the global generators hold."""
    for case in _taken(lens):
        first = _read(lens, case, seed=5)
        with generators_restored():
            torch.manual_seed(123)
            np.random.seed(123)
            random.seed(123)
            again = _read(lens, case, seed=5)
        _same(lens, again, first, "the same seed gives two results", exact=True)


def check_global_state(lens: Lens) -> None:
    """Global generators and torch's settings are as they were."""
    for case in _taken(lens):
        view = case.view()
        before = global_state()
        lens(view, case.probe, seed=6)
        changed = [name for name, value in global_state().items() if value != before[name]]
        assert not changed, f"{lens!r} changes global state: {', '.join(changed)}"


def check_view(lens: Lens) -> None:
    """Nothing of the view, nor of the probe, is written to."""
    for case in _taken(lens):
        view = case.view()
        held = dict(_tensors(view, case))
        before = {name: (value.clone(), value._version) for name, value in held.items()}
        lens(view, case.probe, seed=7)
        for name, value in held.items():
            copied, version = before[name]
            unchanged = torch.equal(value, copied) and value._version == version
            assert unchanged, f"{lens!r} writes to the view's {name}"


def check_networks(lens: Lens) -> None:
    """Several networks have the numbers of each alone; what compares networks has none."""
    for case in _taken(lens):
        if lens.tags.among:
            _refuse_alone(lens, case)
            continue
        together = _read(lens, case)
        for place, seed in enumerate(SEEDS):
            alone = _read(lens, case, [seed])
            of_one = {key: reading[place : place + 1] for key, reading in together.items()}
            _same(lens, of_one, alone, f"{case.name} reads otherwise among others than alone")


def _refuse_alone(lens: Lens, case: Case) -> None:
    try:
        lens(case.view(SEEDS[:1]), case.probe)
    except Unsupported:
        return
    raise AssertionError(f"{lens!r}: tags.among is set, and of one network alone it gives numbers")


def check_order(lens: Lens) -> None:
    """Another order of the networks gives the same numbers in that order."""
    order = [2, 0, 1]
    for case in _taken(lens):
        straight = _read(lens, case)
        moved = _read(lens, case, [SEEDS[place] for place in order])
        wanted = {key: reading[order] for key, reading in straight.items()}
        _same(lens, moved, wanted, "the order of the networks changes their numbers")


def _taken(lens: Lens) -> list[Case]:
    """The cases that the lens does not refuse by `Unsupported`; one at least is to be taken."""
    taken, refused = [], []
    for case in cases():
        try:
            lens(case.view(), case.probe)
        except Unsupported as error:
            refused.append(f"{case.name}: {error}")
        else:
            taken.append(case)
    assert taken, f"{lens!r} refuses every network: {'; '.join(refused)}"
    return taken


def _read(lens: Lens, case: Case, seeds: Sequence[int] = SEEDS, seed: int = 0) -> _Read:
    """The readings by quantity and layer, held to the tags."""
    view = case.view(seeds)
    layers = {*view.activations, *modules_of(view)}
    try:
        read = checked(lens, lens(view, case.probe, seed=seed), view, layers)
        return {(quantity, layer): reading for quantity, layer, reading in read}
    except InvalidInput as error:
        raise AssertionError(f"{lens!r}: {error}") from error


def _tensors(view: View, case: Case) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that a lens may be handed, by name."""
    for kind in ("parameters", "activations", "gradient", "sample_gradients", "jacobian"):
        for name, value in getattr(view, kind).items():
            yield f"{kind} {name}", value
    for kind in ("outputs", "losses", "loss"):
        yield kind, getattr(view, kind)
    for name, value in case.probe.inputs.items():
        yield f"inputs {name}", value
    yield "labels", case.probe.labels


def _same(lens: Lens, readings: _Read, expected: _Read, what: str, exact: bool = False) -> None:
    """Raise unless two sets of readings agree, in every number and flag."""
    assert readings.keys() == expected.keys(), f"{lens!r}: {what}: other layers are read"
    rtol, atol = (0.0, 0.0) if exact else (_RTOL, _ATOL)
    for (quantity, layer), reading in readings.items():
        other, of = expected[quantity, layer], f"{quantity} of {layer or 'the network'}"
        for name in _NUMBERS:
            value, expected_value = getattr(reading, name), getattr(other, name)
            close = torch.allclose(value, expected_value, rtol, atol, equal_nan=True)
            assert close, (
                f"{lens!r}: {what}: {name} of {of} {value.tolist()}, {expected_value.tolist()}"
            )
        flags = [{n: f.tolist() for n, f in each.flags.items()} for each in (reading, other)]
        assert flags[0] == flags[1], f"{lens!r}: {what}: flags of {of} {flags[0]}, {flags[1]}"
