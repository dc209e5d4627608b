"""Which layers a trace has: where a forward branches, unrolls or ends early, and by what names."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ibtrace
from ibtrace.capture import Look, Selection, looks, snapshot
from ibtrace.capture.defaults import MOST, Candidate, default_choice
from ibtrace.errors import ConfigError, InvalidInput, LeftOut, UnknownName, Unsupported
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer
from tests.arguments import grouped, look_of

N = 100


def vectors() -> Tensor:
    return torch.randn(N, 6, generator=torch.Generator().manual_seed(0))


def labels() -> Tensor:
    return torch.arange(N) % 2


def parts(
    model: nn.Module, probe: Probe, layers: Any = None, evidence: Any = None, **how: Any
) -> dict[str, Tensor]:
    """Every layer of every part of a look."""
    seen = looks(model, probe, look_of(layers=layers, **how), evidence=evidence)
    return {name: layer.values for part in seen for name, layer in part.items()}


# --- forwards that branch, end early or unroll -----------------------------------------------


class Branches(nn.Module):
    """Ends in one activation or the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.r, self.t = nn.Linear(6, 4), nn.ReLU(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x)
        out: Tensor = self.r(hidden) if x.mean() > 0 else self.t(hidden)
        return out


class EndsEarly(nn.Module):
    """Passes over its last activation where the batch is below 0."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.acts = nn.Linear(6, 6), nn.ModuleList(nn.ReLU() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.a(x)
        for place, act in enumerate(self.acts):
            out = act(out)
            if place == 1 and x.mean() < 0:
                break
        return out


@pytest.mark.parametrize("model", [Branches, EndsEarly])
@pytest.mark.parametrize("max_bytes", [2**31, N * 6 * 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_output_is_traced_where_no_other_layer_gives_all_of_it(
    model: type[nn.Module], max_bytes: int, sign: int
) -> None:
    net = model()
    shift = torch.tensor([1.0] * 50 + [-1.0] * 50)[:, None] * sign
    probe = Probe(vectors() + shift, labels())
    with torch.no_grad():
        expected = torch.cat([net(probe.x[:50]), net(probe.x[50:])])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = parts(net, probe, batch_size=50, max_bytes=max_bytes)
        torch.testing.assert_close(found["output"], expected)
        torch.testing.assert_close(snapshot(net, probe, Look(batch_size=50))["output"], expected)
        tracer = Tracer(net, probe, look=Look(batch_size=50), estimators=["binning"])
    assert "output" in tracer.trace.layers
    assert len(said) == (0 if isinstance(net, EndsEarly) and sign < 0 else 3)
    assert all("it ran for 50 of 100 rows" in str(warning.message) for warning in said)
    once = parts(net, probe, batch_size=N)
    assert "output" not in once  # one activation gives all of it


def test_a_branch_that_training_takes_later_leaves_the_output() -> None:
    class Turns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.r, self.t = nn.Linear(6, 4), nn.ReLU(), nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = (self.r if self.a.bias[0] > 0 else self.t)(self.a(x))
            return out

    net, probe = Turns(), Probe(vectors(), labels())
    nn.init.ones_(net.a.bias)
    evidence = ibtrace.capture.read_layers(net, probe)
    assert list(parts(net, probe, evidence=evidence)) == ["r"]
    nn.init.constant_(net.a.bias, -1.0)
    with pytest.warns(LeftOut, match="r: it ran on the first samples, but not always; choose"):
        found = parts(net, probe, evidence=evidence)
    assert list(found) == ["output"]
    nn.init.ones_(net.a.bias)
    assert list(parts(net, probe, evidence=evidence)) == ["r"]


class Unrolls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.l, self.a, self.head = nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        for _ in range(int(steps.max())):
            x = self.a(self.l(x))
        out: Tensor = self.head(x)
        return out


def test_calls_that_a_few_samples_do_not_make_are_settled_by_the_first_batch() -> None:
    steps = torch.tensor([2] * 50 + [4] * 50)
    probe = Probe({"x": vectors(), "steps": steps}, labels())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(parts(Unrolls(), probe)) == ["a", "a:1", "a:2", "a:3", "output"]
        assert len(parts(Unrolls(), probe, ["l:input"])) == 4
        rows = {row.layer: row for row in ibtrace.layers(Unrolls(), probe).rows}
    assert (rows["a"].calls, rows["l"].calls) == (4, 4)
    with pytest.raises(InvalidInput, match="layer 'l:input:2': it did not run in the first batch"):
        parts(Unrolls(), probe, ["l:input"], batch_size=50)


# --- what is said of the choice --------------------------------------------------------------


def test_an_activation_that_is_the_output_counts_as_one() -> None:
    data = (vectors(), labels())
    last = Tracer(nn.Sequential(nn.Linear(6, 3), nn.Tanh()), data, estimators=["binning"])
    assert last.trace.layers == ["1"]
    assert "Only the output is traced" not in str(last.verdict())
    alone = Tracer(nn.Sequential(nn.Linear(6, 3)), data, estimators=["binning"])
    assert "Only the output is traced" in str(alone.verdict())


class Wraps(nn.Module):
    """Hands on what its one part gives."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x)
        return out


def test_a_module_that_hands_on_an_activations_tensor_is_not_one_itself() -> None:
    model = nn.Sequential(nn.Linear(6, 4), Wraps(), nn.Linear(4, 2))
    assert list(snapshot(model, Probe(vectors(), labels()))) == ["1.act", "output"]


# --- ways to choose --------------------------------------------------------------------------


class Twice(nn.Module):
    """Runs one activation twice, and calls another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.l = nn.Tanh(), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.l(self.a(self.a(x))).relu() + 1
        return out


def traced(model: nn.Module, **how: Any) -> list[str]:
    return Tracer(
        model, (vectors(), labels()), estimators=["binning"], **grouped(**how)
    ).trace.layers


@pytest.mark.parametrize("make", [set, frozenset, iter, tuple, lambda c: (one for one in c)])
def test_sets_and_iterators_choose_layers(make: Any) -> None:
    assert traced(Twice(), layers=make(["a", "l"])) == ["a", "a:1", "l"]
    assert traced(Twice(), exclude=make(["a", "output"])) == ["relu"]
    probe = Probe(vectors(), labels())
    assert list(snapshot(Twice(), probe, make(["l"]))) == list(parts(Twice(), probe, make(["l"])))


@pytest.mark.parametrize("choice", [3, {"a": 1}, [None], [["a"]], nn.Tanh(), torch.ones(2), 0.5])
@pytest.mark.parametrize("argument", ["layers", "exclude"])
def test_what_chooses_no_layers_is_refused_in_a_line(choice: Any, argument: str) -> None:
    with pytest.raises(ConfigError, match=f"^{argument} takes names, patterns.*; got [^\n]*$"):
        Tracer(
            Twice(), (vectors(), labels()), estimators=["binning"], look=Look(**{argument: choice})
        )


@pytest.mark.parametrize("pattern", ["a[^]b", "a[!]b", "[z-a]"])
def test_a_pattern_that_cannot_be_read_is_refused_in_a_line(pattern: str) -> None:
    for how in ({"layers": pattern}, {"exclude": pattern}, {"functional": pattern}):
        with pytest.raises(InvalidInput, match=r"the pattern .* cannot be read: [^\n]*$"):
            traced(Twice(), **how)


class Lists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        blocks = (nn.ModuleDict({"output": nn.Linear(6, 6)}) for _ in range(3))
        self.layer, self.h = nn.ModuleList(blocks), nn.ModuleList(nn.Tanh() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block, h in zip(self.layer, self.h, strict=True):
            x = h(block["output"](x))  # type: ignore[index]  # a ModuleDict
        return x + 1


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("layer.[01].output", ["layer.0.output", "layer.1.output"]),
        ("h.[01]", ["h.0", "h.1"]),
        ("h.[12]:input", ["h.1:input", "h.2:input"]),
        ("h[.][1]", ["h.1"]),
        ("h.[!1]", ["h.0", "h.2"]),
    ],
)
def test_brackets_with_digits_are_characters_where_no_index_can_be_meant(
    pattern: str, names: list[str]
) -> None:
    assert traced(Lists(), layers=pattern) == names


def test_two_stars_do_not_complain_of_lists_that_hold_others() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(traced(Lists(), layers="**")) == 7


def test_called_activations_and_single_calls_can_be_excluded() -> None:
    assert traced(Twice(), layers=["a"], functional=True) == ["a", "a:1", "relu"]
    assert traced(Twice(), layers=["a"], exclude=["relu"], functional=True) == ["a", "a:1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert traced(Twice(), layers=["a"], exclude="a:1", functional=True) == ["a", "relu"]
        assert traced(Twice(), exclude=["a:1"]) == ["a", "relu", "output"]
        assert list(snapshot(Twice(), Probe(vectors()), exclude("a:1"))) == ["a", "relu", "output"]
    with pytest.raises(UnknownName, match="exclude: nothing is meant by 'a:2'"):
        traced(Twice(), layers=["a"], exclude=["a:2"])


def exclude(choice: Any) -> Selection:
    return Selection(None, choice)


@pytest.mark.parametrize("layers", [None, ["a"]])
@pytest.mark.parametrize("functional", ["zzz", ["relu", "zzz"], ["z*"], ["a"]])
def test_a_choice_of_called_activations_that_means_none_is_an_error(
    layers: Any, functional: Any
) -> None:
    with pytest.raises(UnknownName, match="functional: no activation that is called is meant by"):
        traced(Twice(), layers=layers, functional=functional)


# --- the user's reduction --------------------------------------------------------------------


def lacks(t: Tensor) -> Tensor:
    raise KeyError("its own")


REDUCE: dict[str, tuple[Any, str]] = {
    "raises": (lacks, "reduce=lacks failed on its output .*KeyError: 'its own'"),
    "misfits": (lambda t: t / torch.ones(3, 7), "reduce=<lambda> failed on its output"),
    "an array": (lambda t: t.numpy(), r"reduce=<lambda> made ndarray of \(100, 6\)"),
    "nothing": (lambda t: None, r"reduce=<lambda> made NoneType of \(100, 6\)"),
    "a number": (lambda t: 1.0, "reduce=<lambda> made float of"),
}


@pytest.mark.parametrize("which", REDUCE)
@pytest.mark.parametrize("layers", [None, ["a"], "*"])
def test_an_error_of_the_users_reduction_names_it_and_the_layer(which: str, layers: Any) -> None:
    reduce, why = REDUCE[which]
    with pytest.raises(InvalidInput, match=f"layer 'a': {why}") as refused:
        traced(Twice(), layers=layers, reduce=reduce)
    assert "forward=" not in str(refused.value)
    with pytest.warns(LeftOut, match=f"a, a:1: {why}"):
        assert traced(Twice(), reduce={"a*": reduce}) == ["relu", "output"]


# --- scripted parts --------------------------------------------------------------------------


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.s: nn.Module = torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.ReLU()))
        self.t = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.t(self.s(x)) * 2
        return out


@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")
def test_a_scripted_part_is_left_out_and_an_error_only_where_it_is_named() -> None:
    for layers, names in ((None, ["t", "output"]), ("**", ["t", "output"]), (["t", "*"], None)):
        with pytest.warns(LeftOut, match=r"left out of the trace: s: it is a torch\.jit module"):
            assert traced(Scripted(), layers=layers) == (names or ["t", "output"])
    assert traced(Scripted(), exclude="s") == ["t", "output"]
    assert traced(Scripted(), layers=["t"]) == ["t"]
    for named in (["s", "t"], "s.1", "s*"):
        with pytest.raises(Unsupported, match=r"layer 's.*' is a torch\.jit module"):
            traced(Scripted(), layers=named)


def test_a_called_activation_among_the_layers_is_told_how_to_be_chosen() -> None:
    with pytest.raises(UnknownName, match=r"no layer matches 'relu'.*chosen by functional="):
        traced(Twice(), layers=["relu"])


def test_a_layer_that_cannot_be_traced_takes_no_others_place() -> None:
    standing_out = [Candidate(f"a{place}", "activation") for place in range(20)]
    selection = default_choice(standing_out, lambda name: name == "a0")
    assert len(set(selection.names) - {"a0"}) == MOST
