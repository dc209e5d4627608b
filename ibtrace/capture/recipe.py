"""How networks are trained, for lenses that ask: on which samples, by which optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ibtrace.errors import ConfigError, InvalidInput, Unsupported
from ibtrace.probe import Probe
from ibtrace.runtime.arguments import flag, require_instance, require_members, shown, whole
from ibtrace.runtime.wrappers import unwrap
from ibtrace.types import AdamMoments, OptimizerState

_KNOWN: tuple[type[Optimizer], ...] = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
_SETTINGS = ("lr", "momentum", "dampening", "nesterov", "betas", "eps", "weight_decay", "maximize")
_SAME_STEP = (
    *("foreach", "fused", "capturable", "differentiable", "param_names", "name"),
    *("initial_lr", "min_lr", "max_lr", "base_momentum", "max_momentum", "swa_lr"),
)
"""How a step is computed, and what schedules of the learning rate take down."""

_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, eq=False)
class Part:
    """Some samples of a probe, the same for all networks or some for each.

    Args:
        probe: All samples.
        rows: Which of them, ``(n,)`` for all networks or ``(s, n)``, one row a network.
    """

    probe: Probe
    rows: Tensor | None = None

    @classmethod
    def of(cls, data: Any) -> Part:
        """A part as it is; else all samples of what a probe is made of."""
        return data if isinstance(data, cls) else cls(Probe.of(data))


class Networks(Protocol):
    """Several networks at once, as an `ibtrace.Ensemble` holds them."""

    def named_parameters(self) -> Mapping[str, Tensor]:
        """``{name: (s, ...)}``."""
        ...

    def named_buffers(self) -> Mapping[str, Tensor]:
        """``{name: (s, ...)}``."""
        ...


@dataclass(frozen=True, eq=False)
class Twins:
    """Each network once more, trained with one sample replaced and all else the same.

    Args:
        networks: The twins, in the order of the networks: an `ibtrace.Ensemble`, or a module.
        replaced: Which sample of the recipe's ``data`` (of all samples, where it is a `Part`) each
            network was trained on in place of which: rows ``(out, in)``, ``(s, 2)``.
        control: Whether one more network follows, a copy of the first with nothing replaced.

    Raises:
        ConfigError: If the networks are none, the rows are not whole numbers of two columns, or
            there are not as many networks as rows, and one more where there is a control.
    """

    networks: Networks | nn.Module
    replaced: Tensor
    control: bool = False

    def __post_init__(self) -> None:
        members = ("named_parameters", "named_buffers")
        form = "a torch.nn.Module or an ibtrace.Ensemble"
        require_members("Twins: networks", self.networks, members, form)
        object.__setattr__(self, "control", flag("Twins: control", self.control))
        rows = self.replaced
        right = isinstance(rows, Tensor) and rows.dim() == 2 and rows.shape[1] == 2
        if not right or rows.dtype not in _WHOLE or bool((rows < 0).any()):
            got = f"shape {tuple(rows.shape)} of {rows.dtype}" if isinstance(rows, Tensor) else rows
            raise ConfigError(
                "Twins: replaced must be a tensor of rows (out, in), whole numbers of shape (s, 2) "
                f"from 0 on, got {got if isinstance(got, str) else shown(got)}"
            )
        object.__setattr__(self, "replaced", rows.long())
        given, wanted = self._count(), len(rows) + self.control
        if given != wanted:
            control = " and a control" if self.control else ""
            raise ConfigError(
                f"Twins: {len(rows)} rows are replaced{control}, which is of {wanted} networks, "
                f"and there are {given}"
            )

    def _count(self) -> int:
        if isinstance(self.networks, nn.Module):
            return 1
        return len(next(iter(self.networks.named_parameters().values()), ()))

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers of the twins, ``{name: (s, ...)}``."""
        networks = self.networks
        if isinstance(networks, nn.Module):
            networks = unwrap(networks)
        tensors = {**dict(networks.named_parameters()), **dict(networks.named_buffers())}
        if isinstance(networks, nn.Module):
            return {name: value.detach()[None] for name, value in tensors.items()}
        return {name: value.detach() for name, value in tensors.items()}

    def require_of(self, tensors: Mapping[str, Tensor], networks: int) -> None:
        """Raise unless these are twins of the networks that are traced.

        Args:
            tensors: Parameters and buffers of those, ``{name: (s, ...)}``.
            networks: How many they are.

        Raises:
            ConfigError: If they are of another number or another architecture.
        """
        if len(self.replaced) != networks:
            raise ConfigError(
                f"Twins: each network has one twin, and {networks} are traced: replaced has "
                f"{len(self.replaced)} rows"
            )
        own, held = (
            {name: tuple(value.shape[1:]) for name, value in each.items()}
            for each in (tensors, self.tensors())
        )
        if other := sorted(n for n in own.keys() | held.keys() if own.get(n) != held.get(n)):
            shapes = " and ".join(str(each.get(other[0], "none")) for each in (own, held))
            raise ConfigError(
                f"Twins: they are of another architecture: {other[0]} is {shapes} (networks, twins)"
            )


@dataclass(frozen=True, eq=False)
class Recipe:
    """How the networks are trained: what lenses of training, not of layers, have to know.

    Args:
        data: The samples that the networks are trained on, as a tracer takes its probe. None: not
            known; lenses of the loss then read the probe, and say so by a flag. Names of classes
            are numbered as the probe's are.
        test: Samples that they are not trained on.
        optimizer: The training's own, which is read and never changed.
        batch_size: Samples in each step.
        random: Whether ``data`` were drawn at random from the population: without it there is no
            bound on what they say of it.
        twins: The networks' twins, for what depends on a single sample.

    Raises:
        ConfigError: If the optimizer is none, the batch size no whole number above 0, or the twins
            have replaced what is no row of the data.

    Example:
        >>> Recipe((torch.eye(4), torch.arange(4) % 2), batch_size=2).batch_size
        2
    """

    data: Any = None
    test: Any = None
    optimizer: Optimizer | None = None
    batch_size: int | None = None
    random: bool = True
    twins: Twins | None = None

    def __post_init__(self) -> None:
        for name in ("data", "test"):
            if (data := getattr(self, name)) is not None:
                object.__setattr__(self, name, Part.of(data))
        if not isinstance(self.optimizer, Optimizer | None):
            raise ConfigError(f"Recipe: optimizer must be torch's, got {shown(self.optimizer)}")
        if self.batch_size is not None:
            size = whole("Recipe: batch_size", self.batch_size, least=1)
            object.__setattr__(self, "batch_size", size)
        object.__setattr__(self, "random", flag("Recipe: random", self.random))
        if self.twins is not None:
            require_instance("Recipe: twins", self.twins, Twins, "Twins(networks, replaced)")
            self._require_rows(self.twins)

    def _require_rows(self, twins: Twins) -> None:
        n = None if self.data is None else self.data.probe.n
        if n is not None and int(twins.replaced.max()) >= n:
            raise ConfigError(
                f"Twins: row {int(twins.replaced.max())} is replaced, and the recipe's data has "
                f"rows 0 … {n - 1}"
            )

    def labelled_like(self, probe: Probe) -> Recipe:
        """The same with the classes of its samples numbered as those of the tracer's probe.

        Raises:
            InvalidInput: If a class has a name that is none of the probe's.
        """
        parts = {
            name: replace(part, probe=part.probe.labelled_like(probe, f"Recipe: {name}"))
            for name in ("data", "test")
            if (part := getattr(self, name)) is not None
        }
        return replace(self, **parts)

    @property
    def replaced(self) -> tuple[Part, Part] | None:
        """The sample of which each twin knows nothing, and that in its place, if known."""
        if self.twins is None or self.data is None:
            return None
        out, into = self.twins.replaced.unbind(1)
        return Part(self.data.probe, out[:, None]), Part(self.data.probe, into[:, None])


def optimizer_state(optimizer: Optimizer, parameters: Mapping[str, Tensor]) -> OptimizerState:
    """What an optimiser holds, as data.

    Args:
        optimizer: Torch's; it is only read.
        parameters: The network's own, by name: ``(...)`` of one network, ``(s, ...)`` of several.

    Raises:
        Unsupported: If its groups of parameters differ in their settings, or it has settings of
            which it is not known what they do to a step.
        InvalidInput: If it does not train these parameters.
    """
    _require_known(optimizer)
    names = {id(value): name for name, value in parameters.items()}
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    settings = _plain(groups[0])
    if any(_compared(group) != _compared(groups[0]) for group in groups):
        raise Unsupported(
            "the optimiser's groups of parameters have different settings; lenses of the next "
            "step take one setting for all"
        )
    trained = [value for group in optimizer.param_groups for value in group["params"]]
    if any(id(value) not in names for value in trained):
        raise InvalidInput("the optimiser of the recipe trains other parameters than the model's")
    moments, steps = {}, {}
    for value in trained:
        state = optimizer.state.get(value, {})
        if "exp_avg_sq" in state:
            # AMSGrad divides by the largest mean so far, not by the last one.
            squares = state.get("max_exp_avg_sq", state["exp_avg_sq"])
            moments[names[id(value)]] = squares.detach().clone()
            steps[names[id(value)]] = int(state["step"])
    of_adam = {name: settings.pop(name) for name in ("betas", "eps") if name in settings}
    return OptimizerState(
        kind=_kind(optimizer),
        steps=max(steps.values(), default=0),
        trained=tuple(names[id(value)] for value in trained),
        adam=AdamMoments(second=moments, steps=steps, **of_adam),
        **settings,
    )


def _kind(optimizer: Optimizer) -> str:
    """Its class's name in small letters; of Adam also by how it decays the weights."""
    kind, name = type(optimizer), type(optimizer).__name__.lower()
    if kind is torch.optim.Adam and optimizer.param_groups[0].get("decoupled_weight_decay"):
        return "adamw"
    names = [known.__name__.lower() for known in _KNOWN]
    return f"{kind.__module__}.{name}" if name in names and kind not in _KNOWN else name


def _require_known(optimizer: Optimizer) -> None:
    """Raise if descent or Adam has settings of which it is not known what they do to a step."""
    if type(optimizer) not in _KNOWN:
        return  # of its steps no lens is told but the length
    known = {"params", *_SETTINGS, "amsgrad", "decoupled_weight_decay", *_SAME_STEP}
    if names := sorted({name for group in optimizer.param_groups for name in group} - known):
        raise Unsupported(
            f"the optimiser ({type(optimizer).__name__}) has settings {names}, and what they do to "
            "a step is not known here"
        )


def _compared(group: Mapping[str, Any]) -> tuple[Any, ...]:
    """What groups of parameters must agree in."""
    return _plain(group), group.get("decoupled_weight_decay"), group.get("amsgrad")


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that `OptimizerState` knows, as Python's numbers."""
    held = {name: group[name] for name in _SETTINGS if name in group}
    return {
        name: value.item() if isinstance(value, torch.Tensor) else value
        for name, value in held.items()
    }
