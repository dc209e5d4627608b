"""The probe: inputs and labels, checked, hashed, and what depends on them alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from ibtrace.datasets import Classes, Dataset, read_labels
from ibtrace.datasets.labels import is_multi_hot
from ibtrace.errors import ConfigError, InvalidInput, NonFinite, TooFewSamples, Unsupported
from ibtrace.numerics.bins import row_ids
from ibtrace.numerics.entropy import entropy, sample_counts
from ibtrace.numerics.finite import count_non_finite
from ibtrace.probe.inputs import Inputs, leaves, mapped, read_inputs, require_paired, samples_first
from ibtrace.probe.named import LEFT_OUT, HandedIn, Named, Relabelled
from ibtrace.probe.padding import Stream, streams, without
from ibtrace.probe.read_anew import ReadAnew, streams_anew
from ibtrace.probe.reading import read
from ibtrace.probe.unmasked import Padding, with_padding
from ibtrace.runtime.arguments import flag, is_alone, seed_number, shown
from ibtrace.runtime.arguments import whole as count
from ibtrace.types import I_TY, I_XT

_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False, init=False)
class Probe:
    """Inputs and labels that stay the same, in the same order, for a whole trace.

    The tensors are copied, so that later changes to the caller's do not reach the probe. What
    depends on X alone (ids, distances) is computed once and kept by `cached`.

    Args:
        x: Inputs as the model takes them, ``(n, ...)``, floats or integer tokens: a tensor, an
            array, a DataFrame; a mapping of the model's arguments (``input_ids``,
            ``attention_mask``); a tuple of them in order; a graph of torch_geometric, whose nodes
            are the samples. None, flags and numbers among them are constants. See
            `ibtrace.capture.call` for how the model is called with them. `ReadAnew` is read from
            its source at each look, and held by nobody.
        y: One label for each sample: class ids or names, or continuous targets, floats ``(n,)`` or
            ``(n, dy)``; rows of 0 and 1 ``(n, L)`` are one joint label; ids ``(n, tokens)`` are
            labels of the tokens, for ``reduce="tokens"``. None: no labels, so I(X;T) alone (of
            `ReadAnew` those of its batches). How
            they are read: `ibtrace.datasets.read_labels`. A mapping ``{"digit": …, "parity": …}``
            names several targets: each is measured, as I(T;digit), and the first is what stands
            for y elsewhere (losses, verdicts). Of tokens named labels may also be numbers ``(n,
            tokens, dy)``, and ``-100`` leaves a token out of all that is measured.
        classes: How many classes there are, or their names in order; 0 if y are numbers, not
            classes. Of named variables a mapping by name.
        sources: Variables that stand for X, by name, as named targets are: ``{"bigram": ids}`` is
            measured as I(bigram;T), beside I(X;T) of the inputs.
        whole: Names of inputs that belong to all samples together and are never cut into batches
            (``"adjacency"``, or ``"1"`` of a tuple). Names that begin with ``edge_`` are. Where
            there are any, the whole probe is forwarded at once.
        population: Whether x is all of X, each value as often as its law says, and not a sample:
            log2 n is then the truth where nothing is lost, not the most that n samples can show.
        padding: What fills sequences where they end, if no mask says which tokens are real: an id
            or number (0), by name of input where they differ, or None if nothing does. T of a layer
            of tokens leaves it out, wherever it stands, as it does by a mask (but for a decoder's
            first token, if it opens every sequence). ``"auto"`` looks where tokens stand: what
            nothing but padding explains is taken for it, what may be padding is not, and both are
            said (`ibtrace.errors.PaddingGuessed`) of the layers whose T hangs on it.

    Attributes:
        class_names: The names of classes 0, 1, …, or None.

    Raises:
        InvalidInput: If x and y differ in length or in the order of their pandas index, or y has
            no plain meaning.
        NonFinite: If x or y holds NaN or infinite values.
        TooFewSamples: If there are fewer than two samples.
        ConfigError: If ``whole`` is no names, ``population`` no flag, ``padding`` no number, or a
            named variable has no name that can stand in a quantity, or another one's.

    Example:
        >>> probe = Probe(torch.eye(4), ["no", "no", "yes", "yes"])
        >>> probe.n, probe.label_entropy, probe.class_names
        (4, 1.0, ('no', 'yes'))
    """

    x: Inputs
    y: Tensor
    classes: int | None
    class_names: tuple[str, ...] | None
    whole: tuple[str, ...]
    population: bool
    padding: Mapping[str, float]
    """What fills sequences where they end, by input, where no mask tells."""
    one_hot: int
    """How many columns y had if its rows were one-hot, else 0."""
    targets: Tensor
    """The labels as they were given, of which a loss is taken: -1/+1, floats, one-hot rows."""
    named: tuple[Named, ...]
    """The variables with names of their own: sources, then targets, the first of which is y."""

    def __init__(
        self,
        x: Any,
        y: Any = None,
        classes: Classes | Mapping[str, Classes] = None,
        *,
        sources: Mapping[str, Any] | None = None,
        whole: Sequence[str] = (),
        population: bool = False,
        padding: Padding = "auto",
    ) -> None:
        population = flag("Probe: population", population)
        whole = _names(whole)
        require_paired(x, y)
        anew = x if isinstance(x, ReadAnew) else None
        if anew is not None and whole:
            raise ConfigError("Probe: inputs that are read anew have none of all samples: no whole")
        x, y = (read_inputs(x), y) if anew is None else (x, anew.labels if y is None else y)
        named = HandedIn(y, sources, classes)
        y, of_first = named.first, named.classes_of_first
        if y is None:
            first = next(iter(_outlines(x, whole).values()), torch.empty(0))
            y, of_first = first.new_empty((len(first), 0), dtype=torch.float32), 0
        labels = read_labels(y, of_first)
        with torch.inference_mode(False):
            y, targets = labels.values.clone(), labels.targets.clone()
        inputs = _outlines(x, whole)
        _check(x, inputs, y, whole)
        if anew is None:
            sequences = with_padding(padding, streams(inputs), inputs)
        else:
            sequences = streams_anew(anew, padding)
        fills = {s.inputs[0]: s.fill for s in sequences if s.fill is not None}
        known = labels.classes, labels.names, whole, population, fills, labels.one_hot
        variables = named.read([s.length for s in sequences if s.length], len(y))
        self._set(x, y, targets, *known, variables, without(sequences, variables))

    def _set(
        self,
        x: Inputs,
        y: Tensor,
        targets: Tensor,
        classes: int | None,
        class_names: tuple[str, ...] | None,
        whole: tuple[str, ...],
        population: bool,
        padding: Mapping[str, float],
        one_hot: int,
        named: tuple[Named, ...],
        sequences: Sequence[Stream] | None = None,
    ) -> None:
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "class_names", class_names)
        object.__setattr__(self, "whole", whole)
        object.__setattr__(self, "population", population)
        object.__setattr__(self, "padding", padding)
        object.__setattr__(self, "one_hot", one_hot)
        object.__setattr__(self, "named", named)
        if sequences is not None:
            self.__dict__["streams"] = list(sequences)

    def replaced(
        self,
        x: Inputs,
        y: Tensor,
        *,
        targets: Tensor | None = None,
        population: bool | None = None,
        streams: Sequence[Stream] | None = None,
        named: Iterable[Named] | None = None,
    ) -> Probe:
        """The probe of other tensors, whose labels mean what these mean.

        Args:
            x: Inputs, as tensors.
            y: Labels, as `Probe.y` has them.
            targets: Labels, as `Probe.targets` has them; None: y.
            population: Whether x is all of X; None: if it is here.
            streams: Its sequences, if they are these, or some of these; None: to be found.
            named: Its named variables; None: these.
        """
        probe = object.__new__(Probe)
        known = self.classes, self.class_names, self.whole
        population = self.population if population is None else population
        of_x = population, self.padding, self.one_hot
        variables = self.named if named is None else tuple(named)
        probe._set(x, y, y if targets is None else targets, *known, *of_x, variables, streams)
        return probe

    def labelled_like(self, other: Probe, who: str) -> Probe:
        """The same samples, with their classes numbered as those of another probe.

        Names are numbered by the labels that stand beside them: a part of the data in which some
        class is missing numbers the others anew. Ids are what they are, in every part.

        Args:
            other: The probe whose classes they are.
            who: Who asks, for the error.

        Raises:
            InvalidInput: If a class has a name that is none of the probe's, a row of 0 and 1 is a
                class here and a joint label there, or one-hot columns stand in another order.
        """
        kinds = {self.label_kind, other.label_kind}
        if kinds == {"classes", "joint"}:
            raise InvalidInput(
                f"{who}: its labels are {self.label_kind}, those of the probe {other.label_kind}; "
                "make rows of 0 and 1 one-hot in both, or in neither"
            )
        names = other.class_names
        if self.class_names is None or self.class_names == names or not other.labelled:
            return self
        if self.one_hot:
            raise InvalidInput(
                f"{who}: its one-hot columns are {shown(list(self.class_names))}, those of the "
                f"probe {shown(names and list(names))}; give both in one order"
            )
        if names is None:
            names = tuple(map(str, range(int(other.y.max()) + 1))) if other.discrete else ()
        place = {name: at for at, name in enumerate(names)}
        used = self.y.unique().tolist()
        if unknown := [name for at in used if (name := self.class_names[at]) not in place]:
            raise InvalidInput(
                f"{who}: its class {unknown[0]!r} is none of the probe's "
                f"({shown(list(names))}); give the probe's labels all classes, "
                "Probe(x, y, classes=[…])"
            )
        ids = torch.tensor([place.get(name, -1) for name in self.class_names], device=self.device)
        y = ids[self.y]
        given = not torch.equal(self.targets, self.y)  # -1/+1, which a loss takes as they are
        probe = object.__new__(Probe)
        known = other.classes, other.class_names, self.whole, self.population, self.padding
        targets = self.targets if given else y
        probe._set(self.x, y, targets, *known, self.one_hot, self.named, self.streams)
        return probe

    @classmethod
    def of(cls, data: Any, n: int | None = None) -> Probe:
        """A probe from whatever holds the samples; no generator is moved by reading it.

        Args:
            data: A `Probe`; ``(x, y)``; x alone (a tensor, an array, a DataFrame); a graph; a
                mapping of inputs with or without ``labels``; a ``DataLoader``, a ``Dataset`` or an
                iterable of batches: see `ibtrace.probe.read`; `ReadAnew` of such.
            n: Take only n samples: the first, or of a shuffling loader some, always the same.

        Raises:
            InvalidInput: If it is none of these, a batch has another form, it holds fewer than n
                samples, or has no end and there is no n.
            ConfigError: If n is no whole number of at least 2.

        Example:
            >>> from torch.utils.data import TensorDataset
            >>> Probe.of(TensorDataset(torch.eye(4), torch.tensor([0, 0, 1, 1])), n=3).n
            3
        """
        n = None if n is None else count("Probe: n", n, least=2)
        if isinstance(data, Dataset):
            data = cls.of_dataset(data)
        elif not isinstance(data, Probe):
            data = cls(data) if isinstance(data, ReadAnew) else cls(*read(data, n))
        if n is None or data.n == n:
            return cast("Probe", data)
        if data.n < n:
            raise InvalidInput(f"Probe: {n} samples are wanted of {data.n}; lower n")
        return cast("Probe", data.take(slice(n)))

    @classmethod
    def of_dataset(
        cls, data: Dataset, rows: Tensor | None = None, y: Tensor | None = None
    ) -> Probe:
        """The samples of a data set with all its targets and sources.

        Args:
            data: The data set.
            rows: Which samples, ``(n,)``; None: all, which are then a population if they are one.
            y: What stands for their first labels; None: those of the data set.
        """
        x, of_rows = (data.x, data.y) if rows is None else (data.x[rows], data.y[rows])
        classes: Any = data.class_names or data.classes
        labels = data.measured(of_rows if y is None else y, rows)
        if isinstance(labels, dict):
            classes = {next(iter(labels)): classes}
        sources = {n: value if rows is None else value[rows] for n, value in data.sources.items()}
        more: dict[str, Any] = {"padding": None} if data.of_tokens(data.y) else {}
        more |= {"sources": sources} if sources else {}
        return cls(x, labels, classes, population=data.population and len(x) == len(data), **more)

    @classmethod
    def draw(
        cls,
        x: Any,
        y: Any,
        n: int,
        seed: int = 0,
        *,
        classes: Classes | Mapping[str, Classes] = None,
    ) -> Probe:
        """A probe of ``n`` samples drawn without replacement, kept in the order of the data.

        Args:
            x: Inputs of m samples.
            y: Labels of m samples.
            n: Samples to keep, at most m.
            seed: Seeds the draw; the global generators are left alone.
            classes: As of a probe.

        Raises:
            InvalidInput: If ``n`` is larger than the data.
            ConfigError: If ``n`` is no whole number of at least 2, or the seed none.
        """
        return cls(x, y, classes).some(n, seed)

    def some(self, n: int, seed: int = 0) -> Probe:
        """``n`` of the samples drawn without replacement, in their order.

        Args:
            n: How many.
            seed: Seeds the draw; the global generators are left alone.

        Raises:
            InvalidInput: If there are fewer.
            ConfigError: If ``n`` is no whole number of at least 2, or the seed none.
        """
        n, seed = count("Probe: n", n, least=2), seed_number("Probe: seed", seed)
        if n > self.n:
            raise InvalidInput(f"Probe: {n} samples are wanted of {self.n}; lower n")
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        return self.take(order[:n].sort().values)

    def take(self, rows: slice | Tensor) -> Probe:
        """The probe of some of the samples: a population no more."""
        x, y, targets = self.batch(rows), self.y[rows], self.targets[rows]
        few = [stream.take(rows) for stream in self.streams]
        named = [each.take(rows) for each in self.named]
        return self.replaced(x, y, targets=targets, population=False, streams=few, named=named)

    def numbered(self, rows: slice | Tensor) -> Probe:
        """`take`, where of inputs that are read anew only those that are equal have to be known."""
        if not isinstance(self.x, ReadAnew):
            return self.take(rows)
        named, few = [each.take(rows) for each in self.named], self.x.numbered(rows)
        y, targets = self.y[rows], self.targets[rows]
        return self.replaced(few, y, targets=targets, population=False, streams=(), named=named)

    def batch(self, rows: slice | Tensor, device: torch.device | str | None = None) -> Inputs:
        """The inputs of some of the samples: `x` cut to them, and copied.

        A forward may change what it is given in place (``x -= mean``, a ReLU with ``inplace``):
        it is given tensors of its own, those that belong to all samples included.

        Args:
            rows: Which samples.
            device: Where to put the tensors; None leaves them.
        """
        anew = isinstance(self.x, ReadAnew)
        cut = {} if anew else self.inputs

        def part(name: str, value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            value = value[rows] if name in cut else value
            return value.to(value.device if device is None else device, copy=True)

        return mapped(self.x.rows(rows) if anew else self.x, part)

    @property
    def form(self) -> Inputs:
        """Inputs as the model is called with them, whatever their tensors hold."""
        return self.x.form if isinstance(self.x, ReadAnew) else self.x

    @property
    def undivided(self) -> bool:
        """Whether some input belongs to all samples together, so that none may be left out."""
        cut = self.outlines
        return any(
            isinstance(value, Tensor) and value.dim() > 0 and name not in cut
            for name, value in leaves(self.x)
        )

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.y)

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """The inputs that have the samples first, by name; a single tensor has the name ``""``.

        Raises:
            Unsupported: If they are read anew, and held by nobody.
        """
        if isinstance(self.x, ReadAnew):
            raise Unsupported(_NOT_HELD)
        return samples_first(self.x, self.whole)

    @property
    def outlines(self) -> dict[str, Tensor]:
        """Tensors shaped as `inputs`; of what is read anew masks alone have their own values."""
        return self.x.known if isinstance(self.x, ReadAnew) else self.inputs

    @property
    def device(self) -> torch.device:
        """Where the probe is."""
        return self.y.device

    @cached_property
    def streams(self) -> list[Stream]:
        """The sequences and other things that the inputs consist of, and their padding."""
        return without(with_padding(self.padding, streams(self.inputs), self.inputs), self.named)

    def with_inputs(self, inputs: Mapping[str, Tensor]) -> Probe:
        """The probe with other inputs of the same names."""
        x = mapped(self.x, lambda name, value: inputs.get(name, value))
        return self.replaced(x, self.y, targets=self.targets, streams=self.streams)

    @property
    def labelled(self) -> bool:
        """Whether there are labels; without, there is no I(T;Y)."""
        return self.y.dim() == 1 or self.y.shape[1] > 0

    @property
    def discrete(self) -> bool:
        """Whether the labels are class ids."""
        return not self.y.is_floating_point()

    @cached_property
    def label_kind(self) -> Literal["none", "numbers", "classes", "joint", "tokens"]:
        """What the labels are: one class or number a sample, a joint label, or one a token."""
        if not self.labelled:
            return "none"
        if not self.discrete:
            return "numbers"
        if self.y.dim() == 1:
            return "classes"
        return "joint" if is_multi_hot(self.y) else "tokens"

    @cached_property
    def features(self) -> Tensor:
        """The inputs as floats, flattened and side by side, ``(n, dx)``.

        Of single precision at least where there are several, of double where numbers of one of
        them need it: integers beyond 2²⁴ are equal in single precision.

        Raises:
            Unsupported: If they are read anew, and held by nobody.
        """
        flat = list(map(_rows, self.inputs.values()))
        if len(flat) == 1 and flat[0].is_floating_point():
            return flat[0]
        wide = torch.float64 if any(map(_needs_double, flat)) else torch.float32
        return torch.cat([value.to(wide) for value in flat], dim=1)

    @cached_property
    def x_ids(self) -> Tensor:
        """Which inputs are equal: ids ``0..k-1``, int64, ``(n,)``."""
        if isinstance(self.x, ReadAnew):
            return self.x.ids.to(self.device)
        ids = [row_ids(_rows(value)) for value in self.inputs.values()]
        return ids[0] if len(ids) == 1 else row_ids(torch.stack(ids, dim=1))

    @cached_property
    def labels(self) -> Tensor:
        """Class ids, int64 ``(n,)``, or continuous targets ``(n, dy)``.

        Rows of 0 and 1, a sample's several labels, are one symbol each.

        Raises:
            InvalidInput: If the labels are those of tokens, of which a sample has many.
        """
        if self.label_kind == "tokens":
            raise InvalidInput(
                f"Probe: y {tuple(self.y.shape)} has several class ids for each sample; if they "
                "are its tokens', trace with reduce='tokens'; else give one id a sample, or, to "
                "take a row as one label, y.unique(dim=0, return_inverse=True)[1]"
            )
        if self.label_kind == "joint":
            return row_ids(self.y.to(torch.int8))
        return self.y if self.y.dim() > 1 or self.discrete else self.y[:, None]

    @cached_property
    def label_entropy(self) -> float:
        """H(Y) of the empirical labels in bits: the ceiling of I(T;Y). NaN if there is none."""
        if self.label_kind not in ("classes", "joint"):
            return float("nan")
        return _entropy(row_ids(self.labels[:, None]))

    @cached_property
    def input_entropy(self) -> float:
        """H(X) of the empirical inputs in bits: log2 n if all inputs are distinct."""
        return _entropy(self.x_ids)

    @cached_property
    def digest(self) -> str:
        """sha256 of inputs and labels with their shapes and types: the probe's identity."""
        if isinstance(self.x, ReadAnew):
            return self.samples_digest
        return _sha256([*sorted(leaves(self.x)), ("", self.y), *self._named_values])

    @cached_property
    def samples_digest(self) -> str:
        """The same of what belongs to the samples: of a probe that is read back to be measured."""
        x: list[tuple[str, Any]] = []
        if isinstance(self.x, ReadAnew):
            x = [("read anew", self.x.shapes), ("hashes", self.x.hashes)]
        else:
            x += sorted(self.inputs.items())
        return _sha256([*x, ("", self.y), *self._named_values])

    @property
    def _named_values(self) -> list[tuple[str, Tensor]]:
        return [(each.quantity, each.values) for each in self.named]

    def same_samples(self, other: Probe) -> bool:
        """Whether another probe holds the same samples in the same order."""
        return self is other or (self.n == other.n and self.digest == other.digest)

    def cached(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """``compute()``, done once for this probe: what depends on X alone never changes.

        Args:
            key: Names the value, hashable; two different values must not share a key.
            compute: Called the first time only.
        """
        store = self.__dict__.setdefault("_cache", {})
        if key not in store:
            store[key] = compute()
        return cast("_Value", store[key])

    def to(self, device: torch.device | str) -> Probe:
        """The same probe on another device (itself, if it is there already)."""
        if self.device == torch.device(device):
            return self
        return self.cached(f"on {device}", lambda: self._moved(device))

    def _moved(self, device: torch.device | str) -> Probe:
        x = self.x if isinstance(self.x, ReadAnew) else self.batch(slice(None), device)
        y = self.y.to(device)
        moved = [stream.to(device) for stream in self.streams]
        named, targets = [each.to(device) for each in self.named], self.targets.to(device)
        return self.replaced(x, y, targets=targets, streams=moved, named=named)

    @cached_property
    def others(self) -> list[Relabelled]:
        """The same samples with each named variable but the first target as labels.

        Raises:
            InvalidInput: If one is of tokens, and the samples are not.
        """
        return [Relabelled(self, each) for each in self.named if each is not self.first_target]

    @property
    def first_target(self) -> Named | None:
        """The named target that is y; None if y has no name."""
        return next((each for each in self.named if each.role == "target"), None)

    @property
    def quantities(self) -> list[str]:
        """What is measured on it: I(X;T), I(T;Y) if there are labels, then what `others` are of."""
        first = self.first_target
        of_y = ([I_TY] if self.labelled else []) if first is None else [first.quantity]
        return [I_XT, *of_y, *(each.quantity for each in self.named if each is not first)]

    def samples_of(self, inputs: tuple[str, ...] | None) -> Probe:
        """The probe of which each token of these inputs is a sample; None: the probe itself.

        Raises:
            InvalidInput: If the inputs have no tokens.
        """
        if inputs is None:
            return self
        (stream,) = [stream for stream in self.streams if stream.inputs == inputs]
        if not stream.length:
            shapes = ", ".join(f"{n or 'x'} {tuple(self.outlines[n].shape)}" for n in inputs)
            raise InvalidInput(
                f"reduce='tokens' needs inputs of tokens, got {shapes}; use token:mean"
            )
        return self.tokens(int(stream.measured(self.n).sum()), inputs)

    def tokens(self, count: int, names: Sequence[str] | None = None) -> Probe:
        """The probe of which each real token is a sample: its own input is X, its sequence's Y.

        Args:
            count: How many tokens there are in all.
            names: The inputs whose tokens they are; None: the only ones of so many tokens.

        Raises:
            InvalidInput: If no input has that many tokens, or several have.
        """
        return self.cached(f"{count} tokens of {names}", lambda: self._tokens(count, names))

    def _tokens(self, count: int, names: Sequence[str] | None) -> Probe:
        fitting = [
            stream
            for stream in self.streams
            if names is None or stream.inputs == tuple(names)
            if stream.length and count == int(stream.measured(self.n).sum())
        ]
        if len(fitting) != 1:
            shapes = ", ".join(f"{n or 'x'} {tuple(v.shape)}" for n, v in self.outlines.items())
            which = "several inputs have" if fitting else "no input has"
            raise InvalidInput(
                f"reduce='tokens' found {count} tokens in the layer, {which} so many: {shapes}; "
                "use token:mean, or another layer"
            )
        real = fitting[0].measured(self.n).to(self.device)
        of_tokens = fitting[0].of_tokens
        names = fitting[0].inputs
        whole = self.x.values(names) if isinstance(self.x, ReadAnew) else self.inputs
        inputs = {name: of_tokens(whole[name].to(self.device), real) for name in names}
        named = [each.of_tokens(real) for each in self.named]
        first = next((each for each in named if each.role == "target"), None)
        y = self._token_labels(real) if first is None else first.values
        return self.replaced(as_x(inputs), y, streams=streams(inputs), named=named)

    def _token_labels(self, mask: Tensor) -> Tensor:
        """The label of each real token: its own, or that of its sequence."""
        length = mask.shape[1]
        if self.one_hot == length:
            raise InvalidInput(
                f"Probe: y has one-hot rows of {length}, as many as there are tokens; give "
                "y.argmax(1) for a class of each sequence, y.long() + 1 for one of each token"
            )
        if not self.discrete and self.y.shape[1:] == mask.shape[1:] and length > 1:
            raise InvalidInput(
                f"Probe: y has rows of {length} numbers, as many as there are tokens; give "
                "y.long() for a class of each token, or measure sequences: reduce='token:mean'"
            )
        if not self.discrete or self.y.shape[1:] != mask.shape[1:]:
            return self.y.repeat_interleave(mask.sum(1), dim=0)
        y = self.y[mask]
        if ignored := int((y < 0).sum()):
            raise InvalidInput(
                f"Probe: {ignored} real tokens have a negative label; give them a class of their "
                f"own, leave them out ({LEFT_OUT} in a target with a name, {{'next': y}}), or say "
                "that they are padding: 0 in attention_mask, or Probe(…, padding=…)"
            )
        return y


_NOT_HELD = (
    "Probe: its inputs are read anew at each look and held by nobody, and this needs all of them "
    "at once (distances between values of X, derivatives by X, Keep(activations=True)); estimators "
    "of symbols do not (soft_entropy, exact, binning, kde, ross); Probe.of(loader) holds the inputs"
)


def _outlines(x: Inputs, whole: Sequence[str]) -> dict[str, Tensor]:
    """See `Probe.outlines`."""
    return x.known if isinstance(x, ReadAnew) else samples_first(x, whole)


def _rows(value: Tensor) -> Tensor:
    """One input, flattened to a row a sample."""
    return value.flatten(1) if value.dim() > 1 else value[:, None]


def _needs_double(value: Tensor) -> bool:
    if value.is_floating_point():
        return value.dtype == torch.float64
    return value.element_size() > 2 and value.numel() > 0 and int(value.abs().max()) > 2**24


def _sha256(named: Sequence[tuple[str, Any]]) -> str:
    sha = hashlib.sha256()
    for name, value in named:
        if not isinstance(value, Tensor):
            sha.update(f"{name}={value!r}".encode())
            continue
        value = value.cpu().contiguous()
        sha.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _entropy(ids: Tensor) -> float:
    return float(entropy(sample_counts(ids)))


def _names(whole: Any) -> tuple[str, ...]:
    """The names of inputs that belong to all samples."""
    names = (whole,) if is_alone(whole) else tuple(whole)
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"Probe: whole must be names of inputs, got {shown(whole)}")
    return names


def as_x(inputs: dict[str, Tensor]) -> Inputs:
    """The x of a probe with these `Probe.inputs`: the tensor itself if its name is ``""``."""
    return inputs.get("", inputs)


def _check(x: Inputs, inputs: Mapping[str, Tensor], y: Tensor, whole: Sequence[str]) -> None:
    known = dict(leaves(x))
    if absent := [name for name in whole if not isinstance(known.get(name), Tensor)]:
        raise InvalidInput(f"Probe: whole: x has no tensor {absent[0]!r}; it has {list(known)}")
    if not inputs:
        raise InvalidInput("Probe: x holds no tensor of the samples; give the model's inputs")
    for name, value in inputs.items():
        if len(value) != len(y):
            shown, got = f"{name or 'x'} {tuple(value.shape)}", f"y {tuple(y.shape)}"
            if y.shape[1:] == (0,):
                first = next(iter(inputs))
                got = f"{first or 'x'} {tuple(inputs[first].shape)}"
            means = f"; if {name} belongs to all samples together: whole=[{name!r}]" if name else ""
            raise InvalidInput(
                f"Probe: {shown} and {got} must have the same number of samples first{means}"
            )
    if len(y) < 2:
        raise TooFewSamples(f"Probe needs at least 2 samples, got {len(y)}")
    for name, value in [*known.items(), ("y", y)]:
        if isinstance(value, Tensor) and (bad := count_non_finite(value)):
            shown = name or "x"
            raise NonFinite(
                f"Probe: {shown} has {bad} NaN or infinite values; remove those samples"
            )
