"""A dry look: every layer of a model, what T of it would be, and which are traced by default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ibtrace.capture.evidence import Evidence, Run, gather
from ibtrace.capture.look import Look
from ibtrace.capture.masks import telling_rows
from ibtrace.capture.plan import read_layers, runner
from ibtrace.capture.streams import INPUT
from ibtrace.capture.targets import aliases, another_name, named_layers, output_name, stem
from ibtrace.errors import InvalidInput
from ibtrace.probe import Probe
from ibtrace.runtime.arguments import require_model
from ibtrace.runtime.wrappers import unwrap

_WORDS = ("layer", "module", "variable", "default", "why_not")


@dataclass(frozen=True)
class LayerRow:
    """One layer of a model.

    Args:
        layer: Its name, as ``Look(layers=)`` takes it.
        module: The class of the module; of a called activation the function.
        calls: How often it runs in a forward.
        shape: Its output for one sample.
        t: The dimensions of T.
        variable: How T is made of the output; empty if it is the output itself.
        parameters: How many weights it holds, those of its parts included.
        default: Whether some of its calls are traced where nobody chooses layers.
        why_not: Why it cannot be traced; empty if it can.
        shown: What a default trace calls it, where that is not its name (``block0``).
    """

    layer: str
    module: str
    calls: int
    shape: tuple[int, ...]
    t: int | None
    variable: str
    parameters: int
    default: bool
    why_not: str
    shown: str = ""


@dataclass(frozen=True)
class LayerTable:
    """Every layer of a model, in the order of its forward; those that do not run are last.

    Args:
        rows: The layers.
        note: How the default layers were chosen; empty if all that stand out are traced.
    """

    rows: tuple[LayerRow, ...]
    note: str

    def frame(self) -> pd.DataFrame:
        """The same as a data frame, a layer per row."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def __str__(self) -> str:
        frame = self.frame()
        frame["default"] = [_default_word(row) for row in self.rows]
        frame["t"] = ["" if row.t is None else str(row.t) for row in self.rows]
        frame["shape"] = [str(row.shape) if row.calls else "" for row in self.rows]
        frame["why_not"] = [row.why_not.partition(";")[0] for row in self.rows]
        words = {name: f"{{:<{frame[name].str.len().max()}}}".format for name in _WORDS}
        frame = frame.drop(columns="shown").rename(columns={"t": "T"})
        table = frame.to_string(index=False, justify="left", formatters=words)
        return "\n".join(filter(None, (table, self.note)))

    def _repr_html_(self) -> str:
        return str(self.frame().to_html(index=False))


def layers(model: nn.Module, data: Any, look: Look | None = None) -> LayerTable:
    """What a tracer could trace of a model; nothing is measured, and the model is not changed.

    Args:
        model: Any torch module.
        data: Inputs, or a `Probe`; a few samples are used.
        look: How it would be looked at. All of its layers are listed, whichever the look chooses;
            of called activations all, or those that the look means if one is given.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
        >>> table = layers(net, torch.randn(8, 3))
        >>> [(row.layer, row.module, row.t, row.default) for row in table.rows]
        [('0', 'Linear', 2, False), ('1', 'Tanh', 2, True), ('output', 'Sequential', 2, False)]
    """
    require_model(model)
    model = unwrap(model)
    probe = data if isinstance(data, Probe) else Probe(data)
    look = Look(functional=True) if look is None else Look.of(look)
    defaults = read_layers(model, probe, replace(look.at(None), functional=False)).defaults
    assert defaults is not None
    parts = [name for name in map(stem, defaults.names) if name.endswith(("]", INPUT))]
    refused: dict[str, str] = {}

    def refuse(name: str, why: str) -> None:
        refused[name] = why

    run = runner(model, look.at(["**", *parts]), refuse)
    evidence = gather(run, probe, look.reduce, look.batch_size)
    shown = _shown(run, probe, evidence, look.batch_size)
    modules = {**named_layers(model), output_name(model): model}
    calls = Counter(stem(name) for name in evidence.layers)
    traced = {stem(name) for name in defaults.names}
    rows, first = [], aliases(model)
    for name in dict.fromkeys([*calls, *refused, *modules]):
        module, (shape, t) = modules.get(_module(name)), shown.get(name, ((), None))
        reading = evidence.of(name)
        rows.append(
            LayerRow(
                layer=name,
                module=name.rpartition(".")[2] if module is None else type(module).__name__,
                calls=calls[name],
                shape=shape,
                t=t,
                variable=reading.reduction.name if reading.reduction and calls[name] else "",
                parameters=0 if name.endswith(INPUT) else _weights(module),
                default=name in traced and name not in refused,
                why_not=reading.trouble
                if calls[name]
                else refused.get(name) or _not_run(name, first),
                shown=defaults.shown.get(name, ""),
            )
        )
    return LayerTable(tuple(rows), defaults.note)


def _shown(
    run: Run, probe: Probe, evidence: Evidence, batch_size: int
) -> dict[str, tuple[tuple[int, ...], int | None]]:
    """Each layer's shape for one sample, and the dimensions of T."""
    shown: dict[str, tuple[tuple[int, ...], int | None]] = {}

    def keep(name: str, output: Tensor, bounds: tuple[float, float] | None) -> None:
        reduction, t = evidence.of(name).reduction, None
        if reduction is not None:
            try:
                t = reduction(output, evidence.of(name).mask(rows)).shape[-1]
            except InvalidInput:
                t = None
        shape = list(output.shape)
        if shape and reduction is not None:
            del shape[reduction.axes.batch]
        shown.setdefault(name, (tuple(shape), t))

    rows = telling_rows(probe)
    try:
        run(probe.take(rows), keep)
    except InvalidInput:  # it may take no other number of samples than a batch's
        shown.clear()
        rows = torch.arange(min(batch_size, probe.n), device=probe.device)
        run(probe.take(rows), keep)
    return shown


def _default_word(row: LayerRow) -> str:
    """Whether a layer is traced by default, and as what."""
    return "" if not row.default else f"as {row.shown}" if row.shown else "traced"


def _module(name: str) -> str:
    """The name of the module of a layer that is a part of what it gives, or what it is given."""
    return name.partition("[")[0].removesuffix(INPUT)


def _not_run(name: str, first: Mapping[str, str]) -> str:
    """Why a layer did not run by its name."""
    return another_name(first[name]) if name in first else "it is not called"


def _weights(module: nn.Module | None) -> int:
    whole = [] if module is None else [p for p in module.parameters() if not is_lazy(p)]
    return sum(parameter.numel() for parameter in whole)
