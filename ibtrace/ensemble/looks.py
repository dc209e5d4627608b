"""Two ways to see the layers of all networks at once: a chain's own outputs, or hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from ibtrace import capture
from ibtrace.ensemble.chain import Chain

Look = Callable[[Tensor], dict[str, Tensor]]
"""From shared inputs ``(n, ...)`` to ``{layer: (seeds, n, ...)}``, in the order of the forward."""

See = Callable[[nn.Module, Tensor], dict[str, Tensor]]


class Every(Protocol):
    """Does the same with every network, under vmap."""

    def __call__(self, what: See, x: Tensor) -> dict[str, Tensor]:
        """``what(network, x)``, each value with the seeds first."""
        ...


def through_chain(chain: Chain, names: set[str], default: bool) -> Look:
    """The named stages of a chain, and its output unless that only repeats the last of them.

    Args:
        chain: A chain that `shows` the names.
        names: Stages, and perhaps the output.
        default: Whether nobody chose the names; a chosen output is given even if it repeats.
    """
    stages = [stage.name for stage in chain.stages]

    def look(x: Tensor) -> dict[str, Tensor]:
        outputs = chain.outputs(x)
        last = outputs[stages[-1]]
        seen = {name: outputs[name] for name in stages if name in names}
        repeated = default and any(value is last for value in seen.values())
        for name in {chain.output_name, capture.WHOLE} & names:
            if not repeated:
                seen[name] = last
        return seen

    return look


def through_hooks(template: nn.Module, every: Every, layers: capture.Layers, x: Tensor) -> Look:
    """Any layers of any architecture, named as a capture of one network names them.

    Args:
        template: A network of the same structure.
        every: Runs a function on every network.
        layers: See `ibtrace.capture.resolve`.
        x: One or two samples, to see which layers are reached.

    Raises:
        UnknownName: If a chosen layer does not exist or is not reached.
    """
    with capture.undisturbed(template), capture.capture(template, layers) as captured:
        template(x.clone())
    names = list(captured)
    targets = capture.resolve(template, layers)
    capture.silent(targets, names)
    wanted = [target.name for target in targets if target.name in names]

    def see(network: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        with capture.capture(network, wanted) as seen:
            network(batch)
        return {name: seen[name] for name in names}

    return lambda batch: every(see, batch)
