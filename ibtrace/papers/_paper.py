"""A paper that can be replicated: a configuration and the claims it is to test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ibtrace.claims import Claim


@dataclass(frozen=True)
class Paper:
    """A replication.

    Args:
        name: As on the command line.
        title: Authors, year, title.
        claims: Its statements, testable on the run's traces.
        full: What ``--full`` changes of the configuration.
        config: Its configuration: a YAML file, or a shipped one; by default the one of its name.
    """

    name: str
    title: str
    claims: Sequence[Claim]
    full: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""

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
