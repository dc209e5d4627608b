"""Every field of every registered estimator and law against values of every wrong type."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch

from ibtrace import Probe, estimators, problems
from ibtrace.errors import ConfigError, IbtraceError, InvalidInput
from ibtrace.estimators import Binning, Exact
from ibtrace.problems import AdditiveUniform, NormalMixture, Table, UniformLabel
from ibtrace.runtime.fields import require_types
from tests.test_wrong_arguments import VALUES

MORE: dict[str, Any] = {
    **VALUES,
    "False": False,
    "NumPy's bool": np.bool_(True),
    "inf": float("inf"),
    "10**400": 10**400,
    "complex": 1j,
    "set": {0.5},
    "texts": ["1", "2"],
    "bytearray": bytearray(b"12"),
    "flags": (True, False),
    "flag in a tensor": torch.tensor([True, False]),
    "no numbers": (None, None),
    "an estimator": estimators.KSG,
    "a law": AdditiveUniform,
}
NUMBERS = {"0", "3", "-3", "2**70", "10**400"}
# By the beginning of an annotation, the values of such a type; all others have to be refused.
TAKEN = {
    "int": NUMBERS,
    "float": NUMBERS - {"10**400"} | {"2.5"},
    "bool": {"True", "False", "NumPy's bool"},
    "str": {"text"},
    "tuple": {"list", "tensor", "array"},
    "Literal": {"text"},
    "Estimator": set(),
    "Problem": set(),
}
ALIASES = {
    "Range": ("Literal", "tuple"),
    "Width": ("Literal", "float"),
    "Temperature": ("Literal", "float"),
}
LITERALS = ("Correction", "Norm", "Scale", "Bound", "Noise", "Function", "Marginal", "Method")
REGISTRIES = {**estimators.registry, **problems.registry}


def taken(annotation: str) -> set[str]:
    """The values of `MORE` that are of an annotated type."""
    kinds: set[str] = set()
    for part in annotation.split(" | "):
        part = part.strip("'\"")
        if part == "None":
            kinds |= {"None"}
        elif part.startswith("Literal[1"):
            kinds |= NUMBERS
        elif part in LITERALS:
            kinds |= TAKEN["Literal"]
        elif part in ALIASES:
            kinds |= set().union(*(TAKEN[name] for name in ALIASES[part]))
        else:
            kinds |= TAKEN[part.partition("[")[0]]
    return kinds


def wrong() -> Iterator[tuple[str, str, str]]:
    for name, kind in REGISTRIES.items():
        for field in dataclasses.fields(kind):
            for value in sorted(MORE.keys() - taken(str(field.type))):
                yield name, field.name, value


@pytest.mark.parametrize(("name", "field", "value"), list(wrong()))
def test_a_value_of_a_wrong_type_is_refused_by_its_field(name: str, field: str, value: str) -> None:
    kind: Any = REGISTRIES[name]
    with pytest.raises(ConfigError, match=rf"{kind.__name__}: {field} must be .*, got ") as error:
        kind(**{field: MORE[value]})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", problems.registry.values(), ids=lambda kind: kind.__name__)
def test_a_law_of_any_values_has_samples_and_bits_or_is_refused(kind: Any) -> None:
    for field in dataclasses.fields(kind):
        for value in [*MORE.values(), 0.5, 1e-300, 1e300, (), ((),), ((1e300, 2.0),), 21]:
            with suppress(IbtraceError):
                law = kind(**{field.name: value})
                law.sample(5)
                assert law.bits >= 0
                assert law.name


def test_numbers_of_numpy_and_sequences_are_what_they_say() -> None:
    # mypy: a list of a configuration, an array, a flag of NumPy
    law = NormalMixture(weights=[0.5, 0.5], correlations=np.array([-0.9, 0.9]))  # type: ignore[arg-type]
    assert law == NormalMixture()
    assert hash(law) == hash(NormalMixture())
    assert UniformLabel(as_ids=np.bool_(True)).as_ids is True  # type: ignore[arg-type]
    assert Exact(weights=torch.tensor([0.5, 0.5])).weights == (0.5, 0.5)  # type: ignore[arg-type]
    assert Binning(range=[-1, 1]).range == (-1.0, 1.0)  # type: ignore[arg-type]
    assert AdditiveUniform(np.float32(0.5)).bits == pytest.approx(AdditiveUniform(0.5).bits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "error"), [(2.5, ConfigError), ("7", ConfigError), (0, InvalidInput)]
)
def test_a_law_is_sampled_a_whole_number_of_times(n: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="n must be"):
        AdditiveUniform().sample(n)
    with pytest.raises(ConfigError, match="seed must be"):
        AdditiveUniform().sample(3, seed=n if n else -1)


def test_a_class_whose_types_are_known_in_a_function_alone_is_left_alone() -> None:
    class Inner:
        pass

    @dataclasses.dataclass(frozen=True)
    class Outer:
        inner: Inner

        def __post_init__(self) -> None:
            require_types(self)

    assert isinstance(Outer(3).inner, int)  # type: ignore[arg-type]  # not to be told


def test_a_table_is_made_of_rows() -> None:
    with pytest.raises(ConfigError, match="probabilities must be a tuple of any number, each a tu"):
        Table(probabilities=(0.5, 0.5))  # type: ignore[arg-type]  # refused


# --- tensors without values in place ----------------------------------------------------------


def floats() -> torch.Tensor:
    return torch.randn(40, 1, generator=torch.Generator().manual_seed(0))


AWAY: dict[str, tuple[Callable[[], torch.Tensor], str]] = {
    "meta": (lambda: floats().to("meta"), "is on the device 'meta' and has no values; materialise"),
    "sparse": (lambda: floats().to_sparse(), "layout sparse_coo; give .*to_dense"),
    "csr": (lambda: floats().to_sparse_csr(), "layout sparse_csr; give .*to_dense"),
    "nested": (lambda: torch.nested.nested_tensor([floats(), floats()]), "is nested; give samples"),
    "quantised": (
        lambda: torch.quantize_per_tensor(floats(), 0.1, 0, torch.qint8),
        r"is quantised; give .*dequantize",
    ),
    "ids on meta": (lambda: torch.arange(40, device="meta"), "device 'meta'"),
    "sparse ids": (lambda: torch.arange(40).to_sparse(), "to_dense"),
}


@pytest.mark.filterwarnings("ignore")  # torch's, of sparse and nested tensors
@pytest.mark.parametrize("name", estimators.names())
@pytest.mark.parametrize("form", AWAY)
def test_a_tensor_without_values_in_place_is_refused_with_the_way_out(name: str, form: str) -> None:
    made, said = AWAY[form]
    away, here, ids = made(), floats(), torch.arange(40) % 2
    estimator = estimators.make(name)
    probe = Probe(here, ids)
    calls = {
        "x": lambda: estimator(away, ids),
        "y": lambda: estimator(here, away),
        "t": lambda: estimators.information(estimator, away, probe),
    }
    for role, call in calls.items():  # mypy: lambdas
        with pytest.raises(InvalidInput, match=rf"{role} (is|has).*{said}|{said}") as error:
            call()  # type: ignore[no-untyped-call]
        assert "\n" not in str(error.value)
