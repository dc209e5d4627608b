"""The papers that can be replicated: a configuration and the claims it is to test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ibtrace.claims import Claim
from ibtrace.experiments import config, reporting, tishby
from ibtrace.types import UnknownName


@dataclass(frozen=True)
class Paper:
    """A replication.

    Args:
        name: As on the command line, and the name of its shipped configuration.
        title: Authors, year, title.
        claims: Its statements, testable on the run's traces.
        full: What ``--full`` changes of the configuration.
    """

    name: str
    title: str
    claims: Sequence[Claim]
    full: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> config.Raw:
        """The configuration of a replication, as it is shipped."""
        return config.read(self.name)

    def changes(
        self,
        changes: Mapping[str, Any],
        *,
        activations: Sequence[str] | None = None,
        full: bool = False,
    ) -> dict[str, Any]:
        """What is to be set in the configuration, by dotted keys.

        Args:
            changes: Dotted keys to set; they win over ``full``.
            activations: The nonlinearities to run, in place of the configuration's.
            full: The paper's size.
        """
        variants = {name: {"model.init_args.activation": name} for name in activations or ()}
        return {
            **(self.full if full else {}),
            **changes,
            **({"variants": variants} if variants else {}),
        }

    def report(self, traces: reporting.Traces, folder: Path) -> str:
        """Figures, verdict and claims of a finished replication; what to print."""
        return reporting.report(traces, folder, self.claims)


PAPERS = {
    "tishby": Paper(
        "tishby",
        "Shwartz-Ziv & Tishby 2017, Opening the Black Box of Deep Neural Networks via Information",
        tishby.CLAIMS,
        full={"seeds": 50, "epochs": 8000},
    )
}


def find(name: str) -> Paper:
    """A paper by its name.

    Raises:
        UnknownName: If there is none; lists those that there are.
    """
    if name not in PAPERS:
        raise UnknownName(f"no replication is called {name!r}; there are: {', '.join(PAPERS)}")
    return PAPERS[name]
