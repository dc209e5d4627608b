"""A paper that can be replicated: a configuration and the claims it is to test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ibtrace.claims import Claim
from ibtrace.errors import ConfigError
from ibtrace.predictions import Prediction
from ibtrace.types import TraceLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Variants = Mapping[str, Mapping[str, Any]]


def _one_variant(activation: str) -> Variants:
    return {activation: {"model.init_args.activation": activation}}


@dataclass(frozen=True)
class Paper:
    """A replication.

    Args:
        name: As on the command line.
        title: Authors, year, title.
        claims: Its statements, testable on the run's traces.
        full: What ``--full`` changes of the configuration; where its variants set such keys
            themselves, ``variants`` is all of them at the paper's size.
        config: Its configuration: a YAML file, or a shipped one; by default the one of its name.
        variants: The runs of one activation, where another is asked for than the configuration's:
            dotted keys to set, by the run's name.
        activations: Those that its claims are of, where it has nothing to say of others.
        figures: Its own figures by name, drawn from the run's traces.
        predictions: What it predicts of the run, beside what the package's lenses do.
    """

    name: str
    title: str
    claims: Sequence[Claim]
    full: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    variants: Callable[[str], Variants] = _one_variant
    activations: Sequence[str] = ()
    figures: Mapping[str, Callable[[Mapping[str, TraceLike]], Figure]] = field(default_factory=dict)
    predictions: Sequence[Prediction] = ()

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

        Raises:
            ConfigError: If it has nothing to say of an activation.
        """
        for activation in activations or ():
            if self.activations and activation not in self.activations:
                raise ConfigError(
                    f"replicate {self.name}: --activation {activation}: its claims are of "
                    f"{' and '.join(self.activations)} networks alone"
                )
        sized = self.full.get("variants", {}) if full else {}
        variants = {
            run: dict(sized.get(run, keys))
            for activation in activations or ()
            for run, keys in self.variants(activation).items()
        }
        return {
            **(self.full if full else {}),
            **changes,
            **({"variants": variants} if variants else {}),
        }
