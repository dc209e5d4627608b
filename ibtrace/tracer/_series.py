"""The checkpoints of a training, or the revisions of a repository, loaded one after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ibtrace.checkpoints import (
    Checkpoint,
    Revision,
    find,
    load_into,
    network_of,
    revisions_of,
)
from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import require_model, require_path
from ibtrace.runtime.wrappers import unwrap

Epochs = Sequence[int] | Callable[[Any], int] | None


@dataclass(frozen=True)
class Series:
    """The states of one network over a training.

    Args:
        model: The network, in which the first state is loaded already.
        data: The probe, as for a tracer.
        states: The states, in order; each is loaded once.
        told: What a trace records of where they are from.
    """

    model: nn.Module
    data: Any
    states: Sequence[Checkpoint | Revision]
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> list[int]:
        """Where each state stands."""
        return [state.epoch for state in self.states]

    def loaded(self) -> Iterator[Checkpoint | Revision]:
        """Each state, when the network is in it."""
        for at, state in enumerate(self.states):
            if at:
                load_into(self.model, state)
            yield state


def series_of(
    model: nn.Module | str | Path,
    paths: Any,
    data: Any,
    epochs: Epochs,
    revisions: Sequence[str] | None,
) -> Series:
    """The series that `ibtrace.Tracer.from_checkpoints` means; see there for the arguments.

    Raises:
        ConfigError: If the arguments do not say one.
        InvalidInput: If the first state is not of the model: before a run is begun.
    """
    if isinstance(model, (str, Path)):
        if revisions is None:
            raise ConfigError(
                f"from_checkpoints: {str(model)!r} is a repository: say which of its revisions, "
                "revisions=['step0', …]; of files on disk give the network first"
            )
        series = revisions_of(model, revisions, epochs)
        given = paths if data is None else data
        _require_data(given)
        network = network_of(series[0])
        load_into(network, series[0])
        return Series(network, given, series, _told(series))
    require_model(model)
    _require_data(data)
    network = copy.deepcopy(unwrap(model))
    if revisions is not None:
        require_path("from_checkpoints: the repository", paths)
        series = revisions_of(paths, revisions, epochs)
        load_into(network, series[0])
        return Series(network, data, series, _told(series))
    states = find(paths, epochs)
    load_into(network, states[0])
    return Series(network, data, states)


def _require_data(data: Any) -> None:
    if data is None:
        raise ConfigError("from_checkpoints: data, the probe, is missing")


def _told(series: Sequence[Revision]) -> dict[str, Any]:
    """Which repository they are of, and the name of each by its place."""
    names = {str(revision.epoch): revision.name for revision in series}
    return {"repository": series[0].repository, "revisions": names}
