"""What a user's lens can write to, watched while it reads, and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ibtrace.capture.saving import Saved
from ibtrace.capture.tensors import SavedTensor
from ibtrace.capture.view import NetworkView
from ibtrace.errors import InvalidInput
from ibtrace.probe import Probe
from ibtrace.probe.inputs import leaves

_SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's gradient mode": (torch.is_grad_enabled, lambda on: torch._C._set_grad_enabled(on)),
    "torch's threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's deterministic algorithms": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Untouched:
    """Networks, samples and activations as they are before a lens that is not the package's.

    Copied are all tensors that the lens is handed, the model with all that hangs on it (see
    `Saved`), the optimiser of the recipe, and torch's own settings: this costs what a copy of them
    costs. The package's own lenses are held to write to nothing by `ibtrace.testing.check_lens`.

    Args:
        view: What the lens is given.
        probe: The inputs and labels that go with it.
        remembered: Views of earlier looks, which lenses share.
    """

    def __init__(
        self, view: NetworkView, probe: Probe, remembered: Sequence[NetworkView] = ()
    ) -> None:
        model = view.networks.template
        optimizer = view.recipe.optimizer
        self._model, self._model_saved = model, Saved(model)
        self._optimizer = None if optimizer is None else _SavedOptimizer(optimizer)
        self._settings = {name: read() for name, (read, _) in _SETTINGS.items()}
        self._marks = _marks(model)
        self._tensors: list[tuple[str, SavedTensor]] = []
        seen: set[tuple[Any, ...]] = set()  # one memory has several names
        for name, tensor in _tensors(view, probe, remembered):
            if tensor.layout != torch.strided or tensor.is_meta or not tensor.numel():
                continue
            shows = tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.numel()
            if shows not in seen:
                seen.add(shows)
                self._tensors.append((name, SavedTensor(tensor)))

    def restore(self) -> list[str]:
        """Put all back, and say what had changed, by name."""
        changed = [name for name, saved in self._tensors if not saved.unchanged()]
        now, before = _marks(self._model), self._marks
        changed += [name for name in now.keys() | before if now.get(name) != before.get(name)]
        for step in (SavedTensor.show_again, SavedTensor.take_gradient, SavedTensor.refill):
            for _, saved in self._tensors:
                step(saved)
        if self._optimizer is not None:
            changed += self._optimizer.restore()
        for name, (read, write) in _SETTINGS.items():
            if read() != self._settings[name]:
                changed.append(name)
                write(self._settings[name])
        self._model_saved.restore()
        return sorted({*changed})


def require_untouched(changed: list[str]) -> None:
    """Raise if a lens has changed something.

    Args:
        changed: What, by name.

    Raises:
        InvalidInput: If there is something.
    """
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise InvalidInput(
            f"it changed {', '.join(changed[:3])}{more}, which is put back; a lens reads: write to "
            "clones"
        )


class _SavedOptimizer:
    """An optimiser's settings and what it holds of each parameter."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._groups = [dict(group) for group in optimizer.param_groups]
        self._state = {key: dict(held) for key, held in optimizer.state.items()}
        self._tensors = [
            SavedTensor(value)
            for held in self._state.values()
            for value in held.values()
            if isinstance(value, Tensor)
        ]

    def restore(self) -> list[str]:
        """Put it back; "the optimiser" if it had changed."""
        optimizer = self._optimizer
        same = _same(optimizer.param_groups, self._groups) and _same(
            list(optimizer.state.values()), list(self._state.values())
        )
        if same and all(saved.unchanged() for saved in self._tensors):
            return []
        for group, before in zip(optimizer.param_groups, self._groups, strict=False):
            group.clear()
            group.update(before)
        optimizer.state.clear()
        optimizer.state.update({key: dict(held) for key, held in self._state.items()})
        for saved in self._tensors:
            saved.show_again()
            saved.refill()
        return ["the optimiser"]


def _same(now: list[dict[str, Any]], before: list[dict[str, Any]]) -> bool:
    """Whether the same names hold the very objects."""
    return len(now) == len(before) and all(
        a.keys() == b.keys() and all(a[key] is b[key] for key in a)
        for a, b in zip(now, before, strict=True)
    )


def _marks(model: nn.Module) -> dict[str, object]:
    """What is known of a model beside its tensors' values, by name."""
    marks: dict[str, object] = {}
    for name, parameter in model.named_parameters():
        marks[f"the gradient of {name}"] = None if parameter.grad is None else id(parameter.grad)
        marks[f"requires_grad of {name}"] = parameter.requires_grad
    for name, module in model.named_modules():
        of = f"of {name}" if name else "of the model"
        marks[f"the mode {of}"] = module.training
        marks[f"the hooks {of}"] = [[*vars(module).get(kind, ())] for kind in _HOOKS]
    return marks


def _tensors(
    view: NetworkView, probe: Probe, remembered: Sequence[NetworkView]
) -> Iterator[tuple[str, Tensor]]:
    """What the lens is handed, and what lies beneath it, by name."""
    model, recipe = view.networks.template, view.recipe
    for name, parameter in {**dict(model.named_parameters()), **view.networks.own}.items():
        yield f"parameter {name}", parameter
        if parameter.is_leaf and parameter.grad is not None:
            yield f"the gradient of {name}", parameter.grad
    yield from ((f"buffer {name}", buffer) for name, buffer in model.named_buffers())
    yield from _of_view(view, "")
    for earlier in remembered:
        yield from _of_view(earlier, f" at epoch {earlier.epoch}")
    yield from _of_probe("the probe's", probe)
    for name in ("data", "test"):
        if (part := getattr(recipe, name)) is not None:
            yield from _of_probe(f"the recipe's {name}:", part.probe)
            if part.rows is not None:
                yield f"the recipe's {name}: rows", part.rows
    if recipe.twins is not None:
        yield from ((f"twins' {name}", value) for name, value in recipe.twins.tensors().items())


def _of_view(view: NetworkView, when: str) -> Iterator[tuple[str, Tensor]]:
    networks = view.networks
    kinds = ("parameter", networks.parameters), ("buffer", networks.buffers)
    for kind, tensors in (*kinds, ("activations", view.traced or {})):
        yield from ((f"{kind} {name}{when}", value) for name, value in tensors.items())


def _of_probe(whose: str, probe: Probe) -> Iterator[tuple[str, Tensor]]:
    for name, value in leaves(probe.x):
        if isinstance(value, Tensor):
            yield f"{whose} inputs {name}".strip(), value
    for name, value in vars(probe).items():  # labels, and what was computed of x alone
        if isinstance(value, Tensor):
            yield f"{whose} {'labels' if name in ('y', 'labels') else name}", value
