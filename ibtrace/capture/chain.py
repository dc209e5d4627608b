"""A network as a chain of modules, told by what each is given, whatever its forward looks like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ibtrace.capture.calling import Forward, call
from ibtrace.capture.logits import tensor_of
from ibtrace.errors import Unsupported
from ibtrace.models.activations import contracts, find, is_plain, odd
from ibtrace.probe import Inputs
from ibtrace.probe.inputs import leaves
from ibtrace.types import Link

_KINDS = ((nn.Linear, "linear"), ((nn.Conv1d, nn.Conv2d, nn.Conv3d), "conv"))


def chain_of(
    network: nn.Module, tensors: Mapping[str, Tensor], batch: Inputs, forward: Forward | None
) -> tuple[Link, ...]:
    """The layers of weights of a network in which each module's output is the next one's input.

    Args:
        network: Any module, which is called once; see `ibtrace.capture.undisturbed`.
        tensors: Parameters and buffers of the networks, ``{name: (s, ...)}``.
        batch: A few samples.
        forward: See `ibtrace.capture.call`.

    Raises:
        Unsupported: If it is anything else.
    """
    links: list[tuple[str, nn.Module, list[nn.Module]]] = []
    last = _only_input(batch)
    for name, module, given, output in _calls(network, batch, forward):
        # The very tensor: equal values may have come another way (a skip, a reshape between).
        if given is not last:
            raise Unsupported(
                f"the network is no chain of modules: {name} is not given what comes before it; "
                "make what is called between modules (F.relu, +, reshape) a module"
            )
        last = output
        if any(True for _ in module.parameters(recurse=False)):
            if any(module is other for _, other, _ in links):
                raise Unsupported(f"the network is no chain of modules: {name} runs twice")
            links.append((name, module, []))
        elif links:
            links[-1][2].append(module)
    if not links:
        raise Unsupported("the network has no layer of weights")
    return tuple(
        Link(
            name,
            _kind(module),
            tensors.get(f"{name}.weight".lstrip(".")),
            tensors.get(f"{name}.bias".lstrip(".")),
            tuple(map(_kind, then)),
            contracts=all(map(contracts, then)),
            odd=any(map(odd, then)) and all(is_plain(m) or odd(m) for m in then),
        )
        for name, module, then in links
    )


def _only_input(batch: Inputs) -> Tensor:
    tensors = [value for _, value in leaves(batch) if isinstance(value, Tensor)]
    if len(tensors) != 1:
        raise Unsupported("the network is no chain of modules: it has several inputs")
    return tensors[0]


def _calls(
    network: nn.Module, batch: Inputs, forward: Forward | None
) -> list[tuple[str, nn.Module, Any, Any]]:
    """Name, module, input and output of each leaf, in order, the output's own at the end."""
    calls: list[tuple[str, nn.Module, Any, Any]] = []
    names = {id(module): name for name, module in network.named_modules()}

    def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        calls.append((names[id(module)], module, args[0] if len(args) == 1 else None, output))

    single = [module for module in network.modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_hook(note) for module in single]
    try:
        output = tensor_of(call(network, batch, forward))
    finally:
        for handle in handles:
            handle.remove()
    if not calls or calls[-1][3] is not output:
        raise Unsupported("the network is no chain of modules: its output is not its last one's")
    return calls


def _kind(module: nn.Module) -> str:
    for kinds, name in _KINDS:
        if isinstance(module, kinds):
            return name
    known = find(module)
    return type(module).__name__ if known is None else known.name
