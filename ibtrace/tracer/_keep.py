"""Where a trace is kept, and what is kept beside its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ibtrace.errors import ConfigError
from ibtrace.runtime.arguments import flag, require_mapping, require_path
from ibtrace.tracer._sinks import Sink, checked_sinks


@dataclass(frozen=True)
class Keep:
    """Where a trace is kept, and what is kept beside its numbers.

    Args:
        run: Folder of the run; None keeps the trace in memory.
        activations: Keep the activations of each snapshot, and the probe, in the run folder, so
            that ``ibtrace compare --run`` can measure them with other estimators.
        resume: Go on with a run that exists. From the first epoch that the tracer is then told on,
            what the run holds of these seeds is dropped: it is of another training than the one
            that goes on (`Tracer.resume_from`).
        meta: Further provenance to store with the trace (the experiment's configuration).
        sinks: Where each snapshot's rows and scalars also go (`ibtrace.integrations`); several, or
            one alone. They are closed when the trace is complete or the training has failed, and
            all are written to before the first error that one raised is raised.

    Raises:
        ConfigError: If activations are to be kept and there is no folder, a sink is none, or a
            field is of another type.

    Example:
        >>> Keep.of("runs/mine")
        Keep(run='runs/mine', activations=False, resume=False, meta={}, sinks=[])
    """

    run: str | Path | None = None
    activations: bool = False
    resume: bool = False
    meta: Mapping[str, Any] = field(default_factory=dict)
    sinks: Sink | Iterable[Sink] = ()

    def __post_init__(self) -> None:
        if self.run is not None:
            require_path("keep: run", self.run)
        for name in ("activations", "resume"):
            object.__setattr__(self, name, flag(f"keep: {name}", getattr(self, name)))
        require_mapping("keep: meta", self.meta)
        object.__setattr__(self, "sinks", checked_sinks(self.sinks))
        if self.activations and self.run is None:
            raise ConfigError("Keep: activations are kept on disk; say where, run=FOLDER")

    @classmethod
    def of(cls, keep: Keep | str | Path | None) -> Keep:
        """What is kept; a folder alone stands for a run in it."""
        return keep if isinstance(keep, Keep) else cls(keep)
