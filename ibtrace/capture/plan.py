"""What T will be of each layer, found by a few forwards of a few samples before any look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ibtrace.capture.calling import call
from ibtrace.capture.defaults import Candidate, all_of, candidates, default_choice
from ibtrace.capture.evidence import Evidence, Run, gather, settling_rows
from ibtrace.capture.functional import Functional
from ibtrace.capture.hooks import Keep, Refuse, hooked
from ibtrace.capture.look import Look
from ibtrace.capture.reduce import by_module
from ibtrace.capture.targets import (
    Defaults,
    Layers,
    Selection,
    aliases,
    another_name,
    excludes,
    is_default,
    meant,
    named_layers,
    output_name,
    resolve,
    shown_names,
    stem,
)
from ibtrace.capture.undisturbed import undisturbed
from ibtrace.errors import ConfigError, InvalidInput, UnknownName
from ibtrace.probe import Probe
from ibtrace.runtime.patterns import matches
from ibtrace.runtime.wrappers import unwrap


def read_layers(model: nn.Module, probe: Probe, look: Look | Layers = None) -> Evidence:
    """What T will be of each layer, by a few forwards of a few samples.

    Layers that nobody wrote out and that cannot be read are left out of a look, with a warning.

    Args:
        model: See `looks`.
        probe: See `looks`.
        look: See `looks`.

    Raises:
        ConfigError: If ``exclude`` leaves nothing of the layers chosen.
    """
    model, look = unwrap(model), Look.of(look)
    if not is_default(look.layers):
        reduce = by_module(look.reduce, shown_names(look.layers))
        evidence = gather(runner(model, look), probe, reduce, look.batch_size)
        require_excludes(model, look.layers, [*evidence.layers])
        require_called(model, look.functional, evidence.layers)
        if isinstance(look.layers, Selection) and not evidence.layers:
            names = ", ".join(target.name for target in resolve(model, look.layers.layers))
            raise ConfigError(f"exclude leaves nothing of the layers chosen: {names}; leave one")
        return evidence
    resolve(model, look.layers)  # what cannot be hooked is an error
    rows = rows_for_defaults(model, probe, look)
    standing_out = standing_out_of(model, probe, look, rows)
    everything = all_of(standing_out)
    run = runner(model, replace(look.at(everything), functional=everything.called))
    shown = {c.name: c.shown for c in standing_out if c.shown}
    evidence = gather(run, probe, by_module(look.reduce, shown), look.batch_size, rows)
    defaults = default_choice(standing_out, lambda name: bool(evidence.of(name).trouble))
    require_called(model, look.functional, [c.name for c in standing_out])
    exclude = look.layers.exclude if isinstance(look.layers, Selection) else ()
    return replace(evidence, defaults=replace(defaults, exclude=exclude))


def named_by_modules(model: nn.Module, probe: Probe, look: Look) -> Look:
    """The same look where it chooses layers by their names in a default trace (``block0``).

    What is the name of a module, or a pattern of such, means that; a forward of a few samples finds
    the rest.

    Args:
        model: See `looks`.
        probe: See `looks`.
        look: See `looks`.
    """
    model = unwrap(model)
    choice = look.layers
    choices = choice.layers if isinstance(choice, Selection) else choice
    if is_default(choice) or not isinstance(choices, list):
        return look
    foreign = [c for c in choices if isinstance(c, str) and not meant(model, c)]
    if not foreign:
        return look
    rows = rows_for_defaults(model, probe, look.at(None))
    stream = [c for c in standing_out_of(model, probe, look.at(None), rows) if c.shown]
    by_pattern = {f: [c for c in stream if matches(c.shown, f)] for f in foreign}
    layers = [name for c in choices for name in [x.name for x in by_pattern.get(c, ())] or [c]]
    shown = {c.name: c.shown for members in by_pattern.values() for c in members}
    exclude = choice.exclude if isinstance(choice, Selection) else ()
    return look.at(Selection(layers, exclude, shown)) if shown else look


def require_called(model: nn.Module, functional: Functional, ran: Iterable[str]) -> None:
    """Raise if a choice of called activations means none: it is a slip of the pen."""
    names = dict.fromkeys(map(stem, ran))
    known = [name for name in names if name not in named_layers(model)]
    patterns = [functional] if isinstance(functional, str) else functional
    for pattern in () if isinstance(patterns, bool) or not names else patterns:
        if not any(matches(name, pattern) for name in known):
            raise UnknownName(
                f"functional: no activation that is called is meant by {pattern!r}; see "
                "ibtrace.layers(model, x), or functional=True for all"
            )


def require_excludes(model: nn.Module, layers: Layers, others: Sequence[str] = ()) -> None:
    """Raise if an exclusion means no layer: it is a slip of the pen.

    Args:
        model: The model.
        layers: The choice of layers.
        others: Names of called activations, or of calls, that it may mean too.

    Raises:
        UnknownName: Naming the exclusion, and the layers there are; or the first name of the one
            that it means by another.
    """
    if not isinstance(layers, Selection):
        return
    modules, first = {**named_layers(model), output_name(model): model}, aliases(model)
    for choice in layers.exclude:
        known = [*modules.items(), *((name, None) for name in others)]
        meant = [name for name, module in known if excludes([choice], name, module)]
        if meant and all(name in first for name in meant):
            why = another_name(first[meant[0]])
            raise UnknownName(f"exclude: layer {meant[0]!r}: {why}; say {first[meant[0]]!r}")
        if not meant:
            names = ", ".join(dict.fromkeys([*modules, *others]))
            raise UnknownName(f"exclude: nothing is meant by {choice!r}; there are: {names}")


def rows_for_defaults(model: nn.Module, probe: Probe, look: Look) -> Tensor:
    """The samples by which defaults are found: those on which most of the model runs."""
    modules = {**named_layers(model), output_name(model): model}
    names = tuple(n for n, m in modules.items() if not isinstance(m, torch.jit.ScriptModule))
    everything = replace(look.at(Defaults(names, frozenset(names))), functional=True)
    return settling_rows(runner(model, everything), probe, look.batch_size)


def standing_out_of(model: nn.Module, probe: Probe, look: Look, rows: Tensor) -> list[Candidate]:
    """The layers to choose from where nobody chose any, by a forward of a few samples."""
    exclude = look.layers.exclude if isinstance(look.layers, Selection) else ()
    seen: list[str] = []
    device = next((p.device for p in model.parameters()), probe.device)

    def excluded(name: str, module: nn.Module | None) -> bool:
        seen.append(name)
        return bool(exclude) and excludes(exclude, name, module)

    def see(few: Probe) -> list[Candidate]:
        with undisturbed(model), candidates(model, look.functional, excluded) as standing_out:
            call(model, few.batch(slice(None), device), look.forward)
        return standing_out

    try:
        standing_out = see(probe.take(rows))
    except InvalidInput:  # it may ask for more samples than a few
        standing_out = see(probe if probe.undivided else probe.take(slice(look.batch_size)))
    require_excludes(model, look.layers, seen)
    if exclude and not standing_out:
        names = ", ".join(dict.fromkeys(seen))
        raise ConfigError(f"exclude leaves nothing of what stands out: {names}; leave one")
    return standing_out


def runner(model: nn.Module, look: Look, refuse: Refuse = lambda name, why: None) -> Run:
    """What runs the model on a probe, under hooks on these layers.

    Args:
        model: Any module.
        look: How it is looked at.
        refuse: Told of layers that run and cannot be taken; a look itself says so.
    """

    def run(probe: Probe, keep: Keep) -> None:
        with (
            torch.inference_mode(False),
            undisturbed(model),
            hooked(
                model,
                resolve(model, look.layers),
                keep,
                functional=look.functional,
                refuse=refuse,
            ) as begin,
        ):
            device = next((p.device for p in model.parameters()), probe.device)
            begin()
            call(model, probe.batch(slice(None), device), look.forward)

    return run
