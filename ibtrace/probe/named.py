"""Variables with names of their own: targets that stand for Y, sources that stand for X."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from ibtrace.datasets import NO_NGRAM, Classes, Labels, read_labels
from ibtrace.datasets.labels import is_multi_hot
from ibtrace.errors import ConfigError, InvalidInput, NonFinite
from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.finite import count_non_finite
from ibtrace.runtime.arguments import shown
from ibtrace.types import ProbeLike, about_source, about_target

LEFT_OUT = NO_NGRAM
"""The label of a token that is not measured: it has no n-gram, or nobody knows its label."""

Role = Literal["source", "target"]
_Cached = TypeVar("_Cached")

_NAME = re.compile(r"\w[\w .:+-]{0,39}")
_TAKEN: Mapping[Role, frozenset[str]] = {
    "source": frozenset({"X", "Y", "T"}),
    "target": frozenset({"X", "T"}),
}
_QUANTITY: Mapping[Role, Callable[[str], str]] = {"source": about_source, "target": about_target}


@dataclass(frozen=True, eq=False)
class Named:
    """A variable of the samples, or of their tokens, that information is measured with.

    Args:
        name: Its name.
        role: ``source``, which stands for X, or ``target``, which stands for Y.
        values: Class ids ``(n,)``, joint labels ``(n, L)`` or numbers ``(n, dy)`` of the samples;
            ids ``(n, tokens)`` or numbers ``(n, tokens, dy)`` of their tokens.
        tokens: How many tokens a sample has, if it is of these; else 0.
        names: The names of classes 0, 1, …, or None.
    """

    name: str
    role: Role
    values: Tensor
    tokens: int = 0
    names: tuple[str, ...] | None = None

    @property
    def quantity(self) -> str:
        """What is measured with it: ``I(digit;T)`` of a source, ``I(T;digit)`` of a target."""
        return _QUANTITY[self.role](self.name)

    @property
    def kind(self) -> Literal["classes", "numbers"]:
        """Whether it is ids or numbers."""
        return "numbers" if self.values.is_floating_point() else "classes"

    @property
    def left_out(self) -> Tensor | None:
        """Which tokens are marked by `LEFT_OUT`, bool ``(n, tokens)``; None if none is."""
        if not self.tokens or self.kind == "numbers":
            return None
        marked = self.values == LEFT_OUT
        return marked if bool(marked.any()) else None

    @property
    def labels(self) -> Tensor:
        """The samples' own labels, as of an unnamed y: ids ``(n,)`` or numbers ``(n, dy)``.

        Raises:
            InvalidInput: If the labels are those of tokens, of which a sample has many.
        """
        if self.tokens:
            raise InvalidInput(
                f"Probe: {self.role} {self.name!r} has a label for each token, and T is one for "
                "each sample; trace with reduce='tokens'"
            )
        if self.kind == "classes" and self.values.dim() > 1:
            return row_ids(self.values.to(torch.int8))
        numbers = self.kind == "numbers" and self.values.dim() == 1
        return self.values[:, None] if numbers else self.values

    def take(self, rows: slice | Tensor) -> Named:
        """That of some of the samples."""
        return replace(self, values=self.values[rows])

    def to(self, device: torch.device | str) -> Named:
        """The same on another device."""
        return replace(self, values=self.values.to(device))

    def of_tokens(self, mask: Tensor) -> Named:
        """That of each token of a mask ``(n, tokens)``: its own, or that of its sequence."""
        if self.tokens == mask.shape[1]:
            return replace(self, values=self.values[mask], tokens=0)
        if self.tokens:
            raise InvalidInput(
                f"Probe: {self.role} {self.name!r} is of {self.tokens} tokens a sequence, and the "
                f"layer's are {mask.shape[1]}; choose layers of one length"
            )
        return replace(self, values=self.values.repeat_interleave(mask.sum(1), dim=0))


def read_named(
    given: Mapping[str, Any],
    role: Role,
    classes: Mapping[str, Classes],
    lengths: Iterable[int],
    n: int,
) -> list[Named]:
    """Named variables, checked, and read as labels are (`ibtrace.datasets.read_labels`).

    Args:
        given: Labels by name: of the samples, or of their tokens.
        role: What they stand for.
        classes: Of some of them, how many classes they have, or their names.
        lengths: How many tokens the probe's sequences have.
        n: How many samples it has.

    Raises:
        ConfigError: If a name cannot stand in a quantity.
        InvalidInput: If one has another length, or no plain meaning.
        NonFinite: If one holds NaN or infinite values.
    """
    for name in given:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _TAKEN[role]:
            raise ConfigError(
                f"Probe: a {role} needs a name of letters, digits, spaces and . : + - that is none "
                f"of {', '.join(sorted(_TAKEN[role]))}, got {shown(name)}"
            )
    return [
        _read(name, role, value, classes.get(name), frozenset(lengths), n)
        for name, value in given.items()
    ]


def require_different(sources: Sequence[Named], targets: Sequence[Named]) -> None:
    """Raise if a source and a target share a name.

    Raises:
        ConfigError: Naming it.
    """
    if both := [each.name for each in sources if each.name in {t.name for t in targets}]:
        raise ConfigError(f"Probe: {both[0]!r} is a source and a target; give them two names")


def _read(
    name: str, role: Role, value: Any, classes: Classes, lengths: frozenset[int], n: int
) -> Named:
    who = f"Probe: {role} {name!r}"
    numbers = isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 3
    if numbers and value.shape[1] in lengths:  # read_labels takes one row a sample
        labels = read_labels(value.flatten(0, 1), 0, who)
        labels = replace(labels, values=labels.values.reshape(value.shape))
    else:
        labels = read_labels(value, _all_of(value, role, classes), who)
    if len(labels.values) != n:
        got = f"{len(labels.values)} labels for {n} samples"
        raise InvalidInput(f"{who}: {got}; give each sample one, or its tokens (n, tokens)")
    if bad := count_non_finite(labels.values):
        raise NonFinite(f"{who}: {bad} NaN or infinite values; remove those samples")
    tokens = _tokens(labels, lengths, who)
    with torch.inference_mode(False):
        return Named(name, role, labels.values.clone(), tokens, labels.names)


def _all_of(value: Any, role: Role, classes: Classes) -> Classes:
    """The classes that were said; ids that stand for X may be as many as there are samples."""
    integers = isinstance(value, Tensor) and not value.is_floating_point() and value.dim() == 1
    if classes is None and role == "source" and integers and value.numel():
        return max(int(value.max()) + 1, 1)
    return classes


def _tokens(labels: Labels, lengths: frozenset[int], who: str) -> int:
    """How many tokens a sample has of which these are labels; 0 if they are the samples' own.

    Raises:
        InvalidInput: If they are neither.
    """
    values = labels.values
    if labels.one_hot in lengths:
        raise InvalidInput(
            f"{who}: one-hot rows of {labels.one_hot}, as many as there are tokens; give "
            "y.argmax(1) for a class of each sequence, y.long() + 1 for one of each token"
        )
    if values.is_floating_point():
        if values.dim() == 2 and values.shape[1] > 1 and values.shape[1] in lengths:
            raise InvalidInput(
                f"{who}: rows of {values.shape[1]} numbers, as many as there are tokens; give "
                "y[..., None] for a number of each token, y.long() for a class of each"
            )
        return values.shape[1] if values.dim() == 3 else 0
    if values.dim() == 1:
        return 0
    if values.dim() == 2 and values.shape[1] in lengths:
        if bool(((values < 0) & (values != LEFT_OUT)).any()):
            raise InvalidInput(f"{who}: negative labels; {LEFT_OUT} leaves a token out, no other")
        return values.shape[1]
    if is_multi_hot(values):
        return 0
    shape, known = tuple(values.shape), ", ".join(map(str, sorted(lengths))) or "no"
    raise InvalidInput(
        f"{who}: class ids {shape}; give one a sample, (n,), or one a token of its sequence, which "
        f"has {known} tokens"
    )


class HandedIn:
    """Labels and sources as they were handed in.

    Args:
        y: Labels, or several by name.
        sources: What stands for X, by name.
        classes: Of the labels, or by name.

    Raises:
        ConfigError: If there is none in a mapping, or ``classes`` are of another name.
    """

    def __init__(
        self,
        y: Any,
        sources: Mapping[str, Any] | None,
        classes: Classes | Mapping[str, Classes],
    ) -> None:
        self.targets = y if isinstance(y, Mapping) else None
        if sources is not None and not isinstance(sources, Mapping):
            got = shown(sources)
            raise ConfigError(f"Probe: sources must be a mapping of names to labels, got {got}")
        if isinstance(classes, Mapping) and not classes:
            raise ConfigError(
                "Probe: classes is an empty mapping; name a variable, or leave it out"
            )
        if any(isinstance(v, Mapping) and not v for v in (y, sources)):
            which = "target" if isinstance(y, Mapping) and not y else "source"
            raise ConfigError(f"Probe: no {which} in an empty mapping; name one, or leave it out")
        self.sources = sources
        by_name: Mapping[str, Classes] = classes if isinstance(classes, Mapping) else {}
        self.classes = by_name
        known = [*(self.targets or ()), *(sources or ())]
        if absent := [name for name in self.classes if name not in known]:
            listed = ", ".join(map(repr, known)) or "none"
            fault = ConfigError if known else InvalidInput
            raise fault(
                f"Probe: classes: no variable is {absent[0]!r}; named are: {listed}; of labels "
                "without a name give an integer (how many) or a list of names"
            )
        self.first: Any = y
        self.classes_of_first: Classes = None if isinstance(classes, Mapping) else classes
        if self.targets:
            name, first = next(iter(self.targets.items()))
            self.classes_of_first = self.classes.get(name, self.classes_of_first)
            rows = isinstance(first, Tensor) and first.is_floating_point() and first.dim() == 3
            self.first = first.flatten(1) if rows else first

    def read(self, lengths: Sequence[int], n: int) -> tuple[Named, ...]:
        """All that have names, of n samples of so many tokens."""
        sources: list[Named] = []
        targets: list[Named] = []
        if self.sources is not None:
            sources = read_named(self.sources, "source", self.classes, lengths, n)
        if self.targets is not None:
            targets = read_named(self.targets, "target", self.classes, lengths, n)
        require_different(sources, targets)
        return (*sources, *targets)


class Relabelled:
    """The samples of a probe with other labels, for what depends on these.

    Args:
        probe: The probe.
        named: The variable whose values are the labels.
    """

    def __init__(self, probe: ProbeLike, named: Named) -> None:
        self._probe = probe
        self.labels = named.labels
        self._cache: dict[Hashable, Any] = {}

    @property
    def n(self) -> int:
        """Number of samples."""
        return self._probe.n

    @property
    def features(self) -> Tensor:
        """The inputs as floats."""
        return self._probe.features

    @property
    def x_ids(self) -> Tensor:
        """Which inputs are equal."""
        return self._probe.x_ids

    @property
    def population(self) -> bool:
        """Whether the samples are all there is."""
        return self._probe.population

    def cached(self, key: Hashable, compute: Callable[[], _Cached]) -> _Cached:
        """``compute()``, done once for these labels."""
        if key not in self._cache:
            self._cache[key] = compute()
        return cast("_Cached", self._cache[key])
