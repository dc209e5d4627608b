"""What comes from outside is read, or refused by an error of ibtrace's own: whatever it is.

The suite tries a few cases of each kind, the same ones always. ``IBTRACE_FUZZ=100`` tries a hundred
times as many, drawn anew.
"""

from __future__ import annotations

import io
import os
import pickle
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors
from torch import Tensor, nn

from ibtrace import checkpoints
from ibtrace.errors import IbtraceError
from ibtrace.trace import Scalar, Trace
from ibtrace.training import config, configs, grid
from ibtrace.training.planning import planned
from ibtrace.types import I_XT, Row
from tests.test_train import raw

TIMES = int(os.environ.get("IBTRACE_FUZZ", "1"))
_T = TypeVar("_T")


def tried(cases: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=cases * TIMES,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=[*HealthCheck],
    )


@contextmanager
def read_or_refused() -> Iterator[None]:
    """Nothing but an error of ibtrace's own comes out, and its text is one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = "one line"
        try:
            yield
        except IbtraceError as error:
            said = str(error)
        assert said
        assert "\n" not in said


def in_file(content: bytes, name: str, read: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        with read_or_refused():
            read(file)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A file that was cut, overwritten in places, or is another's."""
    content = bytearray(draw(whole))
    how = draw(st.sampled_from(["not", "cut", "overwritten", "other"]))
    if how == "other" or not content:
        return draw(st.binary(max_size=200))
    place = st.integers(0, len(content) - 1)
    if how == "cut":
        return bytes(content[: draw(place)])
    if how == "overwritten":
        for at in draw(st.lists(st.one_of(place, place.map(lambda n: n % 200)), max_size=8)):
            content[at] = draw(st.integers(0, 255))
    return bytes(content)


# --- configurations -----------------------------------------------------------------------------

TOKENS = (
    *(
        "a",
        "b",
        "3",
        "1e3",
        "é",
        "\x85",
        ":",
        ": ",
        " ",
        "\n",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&a ",
    ),
    *(
        "*a",
        "<<: ",
        "? ",
        "|",
        ">",
        "#",
        "'",
        '"',
        "~",
        "%",
        "@",
        "`",
        "---",
        "...",
        "\t",
        "=",
        "\0",
    ),
    *("!", "!!set", "!!binary", "!!timestamp", "!!int", "!!float", "!!python/object:os.system"),
)
yaml_text = st.lists(st.sampled_from(TOKENS), max_size=12).map("".join)
words = st.sampled_from(
    [
        *(
            "",
            "a",
            "all",
            "0",
            "nan",
            "1e400",
            "tanh",
            "exact",
            "kde",
            "saturation",
            "*",
            "x" * 300,
        ),
        *(
            "Steps(3)",
            "Steps([])",
            "Steps(n=1)",
            "Steps(**{})",
            "log_spaced(8)",
            "log_spaced(8, 3)",
        ),
        *("cuda:99", "meta", "torch.nn.ReLU", "os.system", "ibtrace.datasets.tishby", ".", "..a"),
        *("Steps(" + "(" * 500, "lambda: 0", "9**9**9", "\0", "\ud800", "-" * 400 + "1"),
    ]
)
numbers = st.one_of(
    st.sampled_from([0, 1, -1, 2, 2**31, 2**63, 10**30, -(10**20)]), st.floats(width=32)
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["name", "class_path", "init_args", "every", "fraction", "how", 1, None]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=5,
)
keys = st.sampled_from([*sorted(configs.KEYS), "variants", "controls", "estimator", 3, None])


@st.composite
def changed(draw: st.DrawFn) -> dict[Any, Any]:
    """A sound configuration with something else under a key, or under one of a part's."""
    made: dict[Any, Any] = raw()
    for key in draw(st.lists(keys, min_size=1, max_size=2)):
        part = made.get(key)
        if isinstance(part, Mapping) and part and draw(st.booleans()):
            made[key] = {**part, draw(st.sampled_from(list(part))): draw(values)}
        else:
            made[key] = draw(values)
    return made


def built(described: Any) -> None:
    for each in planned(described).values():
        config.build(each.raw)


@tried(25)
@given(changed())
def test_a_configuration_with_anything_in_it(made: dict[Any, Any]) -> None:
    with read_or_refused():
        built(made)


@tried(150)
@given(st.one_of(yaml_text.map(str.encode), st.binary(max_size=30)))
def test_a_file_of_a_configuration(content: bytes) -> None:
    in_file(content, "mine.yaml", lambda file: planned(configs.read(file)))


@pytest.mark.parametrize("content", [b"[" * 5000, b"a: " * 5000, b"a: !!timestamp x", b"!!int x"])
def test_a_file_that_no_library_was_made_for(content: bytes) -> None:
    in_file(content, "mine.yaml", lambda file: planned(configs.read(file)))


dotted = st.sampled_from(
    [*("epochs", "split.how", "model", "model.init_args", "", ".", "..", "a", "variants", "probe")]
)
equals = st.sampled_from(["=", "=", "=", "", "=="])
ranges = st.sampled_from(
    [
        "0..",
        "..3",
        "0..99999999999",
        "3..1",
        "-1..2",
        "a..b",
        "0..2..4",
        ",",
        "1,,2",
        "[1,2",
        "0...5",
    ]
)


@tried(100)
@given(dotted, equals, yaml_text)
def test_what_set_takes(key: str, equal: str, text: str) -> None:
    with read_or_refused():
        made = raw(seeds=1)
        for name, value in configs.assignments([key + equal + text]).items():
            made = configs.override(made, name, value)
        planned(made)


@tried(100)
@given(st.one_of(dotted, st.just("seeds")), equals, st.one_of(yaml_text, ranges))
def test_what_a_grid_takes(key: str, equal: str, text: str) -> None:
    with read_or_refused():
        plan = grid.Plan.of(raw(), grid.parsed([key + equal + text]))
        for point in [*plan.points.values()][:2]:
            planned(point.raw)


# --- checkpoints --------------------------------------------------------------------------------


def weights() -> dict[str, Tensor]:
    return {"weight": torch.ones(2, 3), "bias": torch.ones(2)}


CONTENTS: Mapping[str, Any] = {
    "whole": weights(),
    "held": {"state_dict": weights(), "epoch": 3},
    "no tensor": {**weights(), "bias": "x"},
    "sparse": {**weights(), "weight": torch.zeros(2, 3).to_sparse()},
    "complex": {**weights(), "bias": torch.zeros(2, dtype=torch.complex64)},
    "another shape": {**weights(), "bias": torch.zeros(3)},
    "an epoch of words": {"state_dict": weights(), "epoch": "x"},
    "no number": {"state_dict": weights(), "epoch": float("nan")},
    "a number": 3,
    "nothing": None,
    "a list": [1],
    "a tensor": torch.zeros(3),
    "numbered": {1: torch.zeros(2)},
    "empty": {"state_dict": None},
}


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def unsafe(content: object) -> bytes:
    return pickle.dumps((content, Path))


written = st.sampled_from([*CONTENTS.values()]).flatmap(
    lambda content: st.sampled_from([saved(content), unsafe(repr(content))])
)
headed = st.just(safetensors(weights(), {"epoch": "3"}))


def loaded(file: Path) -> None:
    model = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        for found in checkpoints.find([file]):
            checkpoints.load_into(model, found)
    except IbtraceError:  # all of it or nothing
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        raise


@tried(150)
@given(damaged(written), st.sampled_from(["net-1.pt", "net-1.ckpt", "net.bin"]))
def test_a_file_of_a_checkpoint(content: bytes, name: str) -> None:
    in_file(content, name, loaded)


@tried(60)
@given(damaged(headed))
def test_a_file_of_safetensors(content: bytes) -> None:
    in_file(content, "net-1.safetensors", loaded)


@pytest.mark.parametrize("name", CONTENTS)
def test_a_checkpoint_of_anything(name: str) -> None:
    in_file(saved(CONTENTS[name]), "net-1.pt", loaded)


def test_a_torn_end_is_no_riddle_of_archives() -> None:
    """Where the end of an archive says that it spans several disks zipfile raises."""
    content = saved(weights())
    end = content.rindex(b"PK\x05\x06")
    torn = bytearray(content)
    torn[end - 4 : end] = b"\xff" * 4  # of the locator: how many disks
    in_file(bytes(torn), "net-1.pt", loaded)


# --- traces -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a trace of two networks."""
    folder = tmp_path_factory.mktemp("run")
    trace = Trace.create(folder, meta={"n": 8, "label_entropy": 1.0, "input_entropy": 3.0})
    nan, layers = float("nan"), ["tanh1", "tanh2"]
    trace.append(
        [
            Row(seed, at, None, layer, I_XT, "Exact", "T", 1.0, nan, nan, nan, "", {"k": 2.0}, 0.1)
            for seed in range(2)
            for at in range(4)
            for layer in layers
        ],
        [Scalar(seed, at, "", "loss", 0.5) for seed in range(2) for at in range(4)],
    )
    return (folder / "trace.sqlite").read_bytes()


def everything(file: Path) -> None:
    trace = Trace.load(file.parent)
    trace.frame()
    trace.readings(diagnostics=True)
    assert isinstance(trace.meta, dict)


@tried(60)
@given(st.data())
def test_a_file_of_a_trace(stored: bytes, data: st.DataObject) -> None:
    in_file(data.draw(damaged(st.just(stored))), "trace.sqlite", everything)


STATEMENTS = (
    *(f"DROP TABLE {table}" for table in ("rows", "scalars", "texts", "meta")),
    *(f"DELETE FROM {table}" for table in ("rows", "scalars", "texts", "meta")),
    "ALTER TABLE rows RENAME COLUMN count TO many",
    "ALTER TABLE texts RENAME COLUMN text TO word",
    "UPDATE rows SET packed = x'00'",
    "UPDATE rows SET packed = 'text'",
    "UPDATE rows SET packed = randomblob(length(packed))",
    "UPDATE scalars SET packed = randomblob(length(packed))",
    "UPDATE rows SET count = -1",
    "UPDATE rows SET count = 1000000000",
    "UPDATE texts SET text = id",
    "UPDATE texts SET text = cast(x'fffe' as text) || id",
    "UPDATE meta SET value = 'no JSON'",
    "UPDATE meta SET value = cast(x'fffe' as text)",
)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_trace_of_other_tables(stored: bytes, statement: str) -> None:
    def altered(file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute(statement)
            connection.commit()
        everything(file)

    in_file(stored, "trace.sqlite", altered)
