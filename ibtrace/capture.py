"""Forward hooks that live only inside a snapshot: the activations of any torch model.

The rule that avoids most traps: a *separate*, eager, eval-mode forward without gradients over a
fixed, ordered probe, inside which hooks exist and after which nothing is left: no hook, no moved
buffer, no consumed random number.
"""

from __future__ import annotations

import fnmatch
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ibtrace.numerics.finite import count_non_finite
from ibtrace.probe import Probe
from ibtrace.types import InvalidInput, NonFinite, UnknownName

Layers = str | type[nn.Module] | Callable[[str, nn.Module], bool] | Sequence[Any] | None
"""Which layers: names (``fc1``), globs (``block*.act``), module types, or ``f(name, module)``."""

OUTPUT = "output"
"""The name of the model's own output in a trace."""

_BOUNDED: dict[type[nn.Module], tuple[float, float]] = {
    nn.Tanh: (-1.0, 1.0),
    nn.Softsign: (-1.0, 1.0),
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Softmax: (0.0, 1.0),
    nn.Softmin: (0.0, 1.0),
    nn.Softmax2d: (0.0, 1.0),
    nn.ReLU6: (0.0, 6.0),
}


@dataclass(frozen=True)
class Target:
    """One thing to capture: a module's input or output, and which part of it.

    Args:
        name: As asked for, and as it stands in the trace.
        module: The module that is hooked.
        part: ``""`` for the output, ``"input"`` for the first argument.
        select: How to take a tensor out of a structured output: an index, a field, or None.
    """

    name: str
    module: nn.Module
    part: str = ""
    select: int | str | None = None

    @property
    def activation_range(self) -> tuple[float, float] | None:
        """The closed range of a bounded activation's output, else None."""
        if self.part:
            return None
        if isinstance(self.module, nn.Hardtanh) and not isinstance(self.module, nn.ReLU6):
            return (float(self.module.min_val), float(self.module.max_val))
        return _BOUNDED.get(type(self.module))


def is_activation(module: nn.Module) -> bool:
    """Whether a module is one of torch's activation functions (attention is not one)."""
    home = type(module).__module__
    return home == "torch.nn.modules.activation" and not isinstance(module, nn.MultiheadAttention)


def resolve(model: nn.Module, layers: Layers = None) -> list[Target]:
    """The targets that a choice of layers means on this model, in the order of its modules.

    Args:
        model: The model.
        layers: None for every activation module and the output; else names, globs, types or a
            callable, alone or in a list. A name may end in ``:input`` (what the module is given),
            ``[0]`` (an element of a tuple output) or ``.field`` (of a dataclass or dict output).

    Raises:
        UnknownName: If a name or pattern matches no module; lists the layers there are.
    """
    modules = {name: m for name, m in model.named_modules(remove_duplicate=False) if name}
    if layers is None:
        chosen = [Target(name, m) for name, m in modules.items() if is_activation(m)]
        return [*chosen, Target(OUTPUT, model)]
    wanted = layers if isinstance(layers, Sequence) and not isinstance(layers, str) else [layers]
    targets: dict[str, Target] = {}
    for choice in wanted:
        found = _match(choice, model, modules)
        if not found:
            known = ", ".join([*modules, OUTPUT])
            raise UnknownName(f"no layer matches {choice!r}; the layers are: {known}")
        targets.update({target.name: target for target in found})
    return list(targets.values())


def _match(choice: Any, model: nn.Module, modules: Mapping[str, nn.Module]) -> list[Target]:
    if isinstance(choice, type):
        return [Target(name, m) for name, m in modules.items() if isinstance(m, choice)]
    if not isinstance(choice, str):
        return [Target(name, m) for name, m in modules.items() if choice(name, m)]
    everything = {**modules, OUTPUT: model}
    if choice in everything:
        return [Target(choice, everything[choice])]
    pattern, part, select = _parse(choice, everything)
    suffix = choice[len(pattern) :]
    names = [name for name in everything if fnmatch.fnmatchcase(name, pattern)]
    return [Target(name + suffix, everything[name], part, select) for name in names]


def _parse(choice: str, names: Mapping[str, nn.Module]) -> tuple[str, str, int | str | None]:
    """Split ``name``, ``name:input``, ``name[0]`` and ``name.field`` into name, part and select."""
    if choice.endswith(":input"):
        return choice.removesuffix(":input"), "input", None
    if indexed := re.fullmatch(r"(.+)\[(-?\d+)\]", choice):
        return indexed[1], "", int(indexed[2])
    stem, dot, field = choice.rpartition(".")
    if dot and stem in names:
        return stem, "", field
    return choice, "", None


def _first_tensor(value: Any, target: Target) -> Tensor:
    """The tensor a target means inside whatever its module returned."""
    if target.select is not None:
        try:
            picked = value[target.select]
        except (TypeError, KeyError, IndexError):
            picked = getattr(value, str(target.select), None)
        if isinstance(picked, Tensor):
            return picked
        got = type(value).__name__
        raise InvalidInput(f"layer {target.name!r}: no tensor there in its output of type {got}")
    if isinstance(value, Tensor):
        return value
    inside = value.values() if isinstance(value, Mapping) else value
    if isinstance(inside, (tuple, list)) or isinstance(value, Mapping):
        for item in inside:
            if isinstance(item, Tensor):
                return item
    got = type(value).__name__
    raise InvalidInput(
        f"layer {target.name!r} returned {got} without a tensor; choose one with "
        f"'{target.name}[0]' or '{target.name}.field'"
    )


@contextmanager
def capture(model: nn.Module, layers: Layers = None) -> Iterator[dict[str, Tensor]]:
    """Hooks on the chosen layers; the dictionary fills with each forward pass.

    A module called more than once in a forward gives ``name``, ``name:1``, ``name:2`` …. The
    tensors are detached copies (an in-place activation cannot reach them). Hooks are removed
    whatever happens inside.

    Args:
        model: Any module.
        layers: See `resolve`.

    Yields:
        ``{layer: activations}`` of the last forward pass inside the context.

    Raises:
        UnknownName: If a chosen layer does not exist.
        InvalidInput: If a chosen output holds no tensor.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh())
        >>> with capture(net) as activations:
        ...     _ = net(torch.zeros(5, 2))
        >>> {name: tuple(value.shape) for name, value in activations.items()}
        {'1': (5, 3)}
    """
    targets = resolve(model, layers)
    captured: dict[str, Tensor] = {}
    raw: dict[str, Tensor] = {}
    handles: list[RemovableHandle] = []
    drop_repeated_output = layers is None

    def start(_module: nn.Module, _args: Any) -> None:
        captured.clear()
        raw.clear()

    def keep(target: Target, value: Any) -> None:
        tensor = _first_tensor(value, target)
        if drop_repeated_output and target.name == OUTPUT and is_repeated(tensor):
            return
        name, call = target.name, 0
        while name in captured:
            call += 1
            name = f"{target.name}:{call}"
        captured[name] = tensor.detach().clone()
        raw[name] = tensor

    def is_repeated(tensor: Tensor) -> bool:
        same = (name for name, seen in raw.items() if seen is tensor)
        return any(torch.equal(captured[name], tensor) for name in same)

    def on_output(target: Target) -> Callable[..., None]:
        return lambda _module, _args, output: keep(target, output)

    def on_input(target: Target) -> Callable[..., None]:
        return lambda _module, args: keep(target, args[0] if args else None)

    try:
        handles.append(model.register_forward_pre_hook(start))
        for target in targets:
            if target.part == "input":
                handles.append(target.module.register_forward_pre_hook(on_input(target)))
            else:
                handles.append(target.module.register_forward_hook(on_output(target)))
        yield captured
    finally:
        for handle in handles:
            handle.remove()
        raw.clear()


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients or autocast; afterwards the model and every RNG are as before.

    Restores the training flag of each module, every buffer, and the states of the torch (CPU and
    CUDA), NumPy and Python generators.

    Args:
        model: The module that may be called inside.

    Yields:
        Nothing.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(b, b.clone()) for b in model.buffers() if not nn.parameter.is_lazy(b)]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    device = next((p.device.type for p in model.parameters()), "cpu")
    try:
        with torch.random.fork_rng(), torch.no_grad(), torch.autocast(device, enabled=False):
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                with torch.no_grad():
                    buffer.copy_(before)
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def snapshot(
    model: nn.Module, probe: Probe, layers: Layers = None, *, batch_size: int = 512
) -> dict[str, Tensor]:
    """The activations of the chosen layers on the whole probe, the model left as it was.

    Args:
        model: Any module; called as ``model(x)`` on the device of its parameters.
        probe: The fixed inputs, forwarded in order.
        layers: See `resolve`.
        batch_size: Samples per forward.

    Returns:
        ``{layer: (n, ...)}`` in the order of the forward pass, on the model's device.

    Raises:
        UnknownName: If a layer does not exist, or was not reached; lists those that were.
        InvalidInput: If a layer's output does not have the samples first.
        NonFinite: If activations hold NaN or infinite values; names the layer.
    """
    device = next((p.device for p in model.parameters()), probe.device)
    stored: dict[str, Tensor] = {}
    with undisturbed(model), capture(model, layers) as captured:
        for start in range(0, probe.n, batch_size):
            rows = slice(start, min(start + batch_size, probe.n))
            call(model, {name: x[rows].to(device) for name, x in probe.inputs.items()})
            if start == 0:
                _require_all(model, layers, captured)
            for name, value in captured.items():
                size = rows.stop - start
                if value.dim() < 1 or len(value) != size:
                    raise InvalidInput(
                        f"layer {name!r} gave shape {tuple(value.shape)} for {size} samples; "
                        "choose a layer whose output has the samples first"
                    )
                if start == 0:
                    stored[name] = value.new_empty((probe.n, *value.shape[1:]))
                stored[name][rows] = value
    for name, value in stored.items():
        require_finite(name, value)
    return stored


def call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """``model(x)`` for a single input (of the name ``""``), else ``model(**inputs)``."""
    return model(inputs[""]) if "" in inputs else model(**inputs)


def _require_all(model: nn.Module, layers: Layers, captured: Mapping[str, Tensor]) -> None:
    """Raise if a layer that was asked for by name or pattern never fired."""
    if layers is None:
        return
    silent = [target.name for target in resolve(model, layers) if target.name not in captured]
    if silent:
        fired = ", ".join(captured) or "none"
        raise UnknownName(
            f"layers {', '.join(silent)} were not called in the forward pass; called: {fired}"
        )


def require_finite(layer: str, value: Tensor) -> None:
    """Raise if activations hold NaN or infinite values.

    Args:
        layer: The layer's name, for the message.
        value: Its activations.

    Raises:
        NonFinite: Naming the layer and how many values are bad.
    """
    if bad := count_non_finite(value):
        raise NonFinite(
            f"layer {layer!r} has {bad} of {value.numel()} activations NaN or infinite; "
            "has the training diverged?"
        )
