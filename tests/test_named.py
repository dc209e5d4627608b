"""Named targets and sources: each is what it would be alone, and none is mistaken for another."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ibtrace import Dataset, Ensemble, Keep, Look, Probe, Trace, Tracer, information, ngrams
from ibtrace.cli import main
from ibtrace.errors import ConfigError, InvalidInput, NonFinite, RunError, UnknownName
from ibtrace.estimators import Binning, Subsampled, make, names
from ibtrace.measure import measure
from ibtrace.plane import ceilings, derived, layer_entropies, normalised, pair, trust, verdict
from ibtrace.training import configs
from ibtrace.types import Estimator, LayerContext, Row

N, T = 60, 5
_SLOW = {"variational": {"steps": 20}, "edge": {}, "sliced": {"directions": 4}}
_BY_PRODUCTS = {"kde", "kde lower", "noisy_channel"}


def estimators() -> dict[str, Estimator]:
    every = {name: make(name, **_SLOW.get(name, {})) for name in names()}
    every["subsampled"] = Subsampled(make("ksg"), samples=40)
    every["kde lower"] = make("kde", bound="lower")
    every["renyi 2"] = make("matrix_renyi", alpha=2.0)
    every["weighted"] = make("exact", weights=tuple(range(1, N + 1)))
    return every


def samples() -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(N, 2, generator=draw)
    targets = {"digit": torch.arange(N) % 4, "price": x[:, :1] + 0.1, "parity": torch.arange(N) % 2}
    return x, targets, {"sign": (x[:, 0] > 0).long(), "half": (x > 0).long() @ torch.tensor([2, 1])}


def rows(probe: Probe, estimator: Estimator, t: Tensor) -> dict[str, Row]:
    measured = measure(
        {"a": t}, {"a": LayerContext("a")}, probe, [estimator], seeds=[0, 1], epoch=0
    )
    return {f"{row.quantity} {row.seed}": row for row in measured}


def same(row: Row, other: Row, rounding: float) -> None:
    """Equal to the last digit, but for the quantity's name and the time.

    Args:
        row: A row.
        other: Another.
        rounding: How far the numbers may be apart, where sums over samples are one matrix product
            for all variables, whose order of summation is the library's.
    """
    assert row.flags == other.flags
    assert row.diagnostics.keys() == other.diagnostics.keys()
    ours, theirs = (
        [r.value, r.stderr, r.lower, r.upper, *r.diagnostics.values()] for r in (row, other)
    )
    np.testing.assert_allclose(ours, theirs, rtol=rounding, atol=0)


@pytest.mark.parametrize("name", estimators())
def test_each_is_what_it_is_alone(name: str) -> None:
    """Rows of one pass are those of a run for each variable, of every estimator."""
    estimator = estimators()[name]
    x, targets, sources = samples()
    t = torch.tanh(torch.stack([x + 0.1, x @ torch.tensor([[1.0, -0.5], [0.3, 2.0]])]))
    if name == "sklearn":  # takes one feature at a time
        x, t = x[:, :1], t[..., :1]
    rounding = 1e-13 if name in _BY_PRODUCTS else 0.0
    together = rows(Probe(x, targets, sources=sources), estimator, t)
    assert len(together) == 2 * (1 + len(targets) + len(sources))
    variables = {f"I(T;{each})": y for each, y in targets.items()}
    variables |= {f"I({each};T)": y for each, y in sources.items()}
    for quantity, y in variables.items():
        alone = rows(Probe(x, y), estimator, t)
        for seed in (0, 1):
            same(together[f"{quantity} {seed}"], alone[f"I(T;Y) {seed}"], rounding)
            if quantity == "I(T;digit)":
                same(together[f"I(X;T) {seed}"], alone[f"I(X;T) {seed}"], rounding)


def test_one_pass_is_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """T is made discrete once, however many variables there are."""
    x, targets, sources = samples()

    made = []
    original = Binning._discretise

    def count(self: Binning, value: Tensor, *, labels: bool) -> Any:
        made.append(labels)
        return original(self, value, labels=labels)

    monkeypatch.setattr(Binning, "_discretise", count)
    probe = Probe(x, targets, sources=sources)
    for _ in range(3):
        rows(probe, Binning(), torch.tanh(torch.stack([x, x])))
    assert made.count(False) == 3
    assert made.count(True) == 1, "the price is cut into bins once for the probe"


def test_without_targets_sources_are_measured() -> None:
    x, _, sources = samples()
    told = rows(Probe(x, sources=sources), make("binning"), torch.stack([x, x]))
    assert {key.rpartition(" ")[0] for key in told} == {"I(X;T)", "I(sign;T)", "I(half;T)"}


def test_one_unnamed_label_stays_y() -> None:
    x, targets, _ = samples()
    told = rows(Probe(x, targets["digit"]), make("binning"), torch.stack([x, x]))
    assert {key.rpartition(" ")[0] for key in told} == {"I(X;T)", "I(T;Y)"}


# --- tokens ---------------------------------------------------------------------------------------


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.mix = nn.Linear(3, 3)
        self.act = nn.Tanh()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        h = self.embedding(input_ids)
        out: Tensor = self.act(self.mix(h.cumsum(1)))
        return out


def texts() -> tuple[dict[str, Tensor], Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 7, (40, T), generator=draw)
    mask = (torch.arange(T) < torch.randint(2, T + 1, (40, 1), generator=draw)).long()
    return {"input_ids": ids * mask, "attention_mask": mask}, ids * mask


@pytest.mark.parametrize("name", ["binning", "soft_entropy", "kde"])
def test_of_tokens_they_are_those_of_the_flat_samples(name: str) -> None:
    torch.manual_seed(0)
    model, (x, ids) = Reader(), texts()
    mask = x["attention_mask"].bool()
    targets = {
        "next": ngrams(ids, 1, ahead=True, mask=mask),
        "length": mask.sum(1) - 2,
        "place": torch.arange(T).expand(40, T)[..., None] / 3.0,
    }
    sources = {"bigram": ngrams(ids, 2, mask=mask)}
    probe = Probe(x, targets, sources=sources)
    look = Look(["act"], reduce="tokens")

    with Tracer(model, probe, estimators=[name], look=look) as tracer:
        frame = tracer.trace.frame().set_index("quantity")
    kept = (targets["next"] >= 0) & (sources["bigram"] >= 0) & mask
    with torch.no_grad():
        t = model(**x)[kept]
    flat = {
        "I(T;next)": targets["next"][kept],
        "I(T;length)": targets["length"][:, None].expand(40, T)[kept],
        "I(T;place)": targets["place"][kept],
        "I(bigram;T)": sources["bigram"][kept],
    }
    assert frame.loc["I(X;T)", "samples"] == int(kept.sum()) < int(mask.sum())
    for quantity, y in flat.items():
        classes = None if y.is_floating_point() else int(y.max()) + 1
        bound = make(name, range=(-1.0, 1.0)) if name == "binning" else make(name)
        about_x, about_y = information(bound, t, Probe(ids[kept][:, None], y, classes))
        assert frame.loc[quantity, "bits"] == pytest.approx(float(about_y.bits), abs=0, nan_ok=True)
        assert frame.loc["I(X;T)", "bits"] == float(about_x.bits)


def test_a_stored_probe_of_tokens_is_read_again(tmp_path: Path) -> None:
    """With what was left out: the kept activations are of its tokens, and judged by them."""
    torch.manual_seed(0)
    model, (x, ids) = Reader(), texts()
    mask = x["attention_mask"].bool()
    probe = Probe(
        x,
        {"next": ngrams(ids, 1, ahead=True, mask=mask), "place": torch.rand(40, T, 1)},
        sources={"bigram": ngrams(ids, 2, mask=mask)},
    )
    keep, look = Keep(tmp_path / "run", activations=True), Look(["act"], reduce="tokens")
    trace = Tracer(model, probe, estimators=["binning"], look=look, keep=keep).trace
    again = Trace.load(tmp_path / "run").probe()
    kept = trace.activations(0)["act"]
    tokens = again.tokens(len(kept), ["input_ids"])
    assert torch.equal(tokens.y, probe.tokens(len(kept), ["input_ids"]).y)
    assert [each.name for each in tokens.named] == ["bigram", "next", "place"]
    seen = trace.pair("bigram", "next")
    shares = torch.bincount(tokens.named[0].values).double() / len(kept)
    entropy = -float(torch.xlogy(shares, shares).sum()) / math.log(2)
    assert layer_entropies(seen.meta) == {"act": pytest.approx(entropy)}
    assert layer_entropies(trace.meta)["act"] != pytest.approx(entropy)
    assert (seen.trace.meta["n"], tokens.n) == (40, len(kept))  # type: ignore[attr-defined]


def test_a_label_of_padding_is_not_counted() -> None:
    """Whatever stands under padding changes nothing, also where real tokens are left out."""
    torch.manual_seed(0)
    model, (x, ids) = Reader(), texts()
    mask = x["attention_mask"].bool()
    frames = []
    for fill in (0, 5, -100):
        labels = torch.where(mask, ids, fill)
        labels[0, 0] = -100
        y = {"token": labels}
        look = Look(["act"], reduce="tokens")
        with Tracer(model, (x, y), estimators=["binning"], look=look) as tracer:
            frames.append(tracer.trace.frame()["bits"].tolist())
    assert frames[0] == frames[1] == frames[2]


def test_tokens_need_layers_of_tokens() -> None:
    model, (x, ids) = Reader(), texts()
    with pytest.raises(InvalidInput, match=r"source 'token' has a label for each token.*tokens"):
        Tracer(model, Probe(x, torch.arange(40) % 2, sources={"token": ids}), estimators=["exact"])


# --- two of them as the plane ---------------------------------------------------------------------


def traced(tmp_path: Path | None = None, **more: Any) -> Trace:
    x, targets, sources = samples()
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    keep = None if tmp_path is None else Keep(tmp_path / "run", activations=True)
    probe = Probe(x, targets, sources=sources, classes={"digit": ["a", "b", "c", "d"]})
    arguments: dict[str, Any] = {"estimators": ["binning", "ksg"], "keep": keep, **more}
    with Tracer(model, probe, **arguments) as tracer:
        for epoch in (1, 2, 3):
            with torch.no_grad():
                next(model.parameters()).mul_(1.5)
            tracer.snapshot(epoch)
    return tracer.trace


def test_two_of_them_are_the_plane() -> None:
    trace = traced()
    frame = trace.frame()
    for x, y in (("X", "digit"), ("sign", "parity"), ("half", "price")):
        seen = pair(trace, x, y).frame()
        for plain, quantity in (("I(X;T)", f"I({x};T)"), ("I(T;Y)", f"I(T;{y})")):
            ours, theirs = (
                table[table["quantity"] == name].drop(columns="quantity").reset_index(drop=True)
                for table, name in ((seen, plain), (frame, quantity))
            )
            assert ours.equals(theirs), (x, y)
        assert set(seen["quantity"]) == {"I(X;T)", "I(T;Y)"}
    assert set(pair(trace).frame()["quantity"]) == {"I(X;T)", "I(T;Y)"}
    assert pair(pair(trace, "sign"), None, "parity").meta["pair"] == {"x": "X", "y": "parity"}
    readings = trace.readings()
    assert {"I(T;digit)", "I(sign;T)"} <= set(readings["quantity"])
    with pytest.raises(UnknownName, match=r"no x='digit' in the trace; it has X, sign, half"):
        trace.pair("digit")
    with pytest.raises(UnknownName, match=r"no y='Y' in the trace; it has digit, price, parity"):
        trace.plot(y="Y")


def test_entropies_are_those_of_the_pair() -> None:
    seen = traced().pair("half", "parity")
    assert seen.meta["label_entropy"] == 1.0
    _, _, sources = samples()
    shares = torch.bincount(sources["half"]).double() / N
    entropy = float(-(shares * shares.log2()).sum())
    assert seen.meta["input_entropy"] == pytest.approx(entropy)
    most = ceilings(seen, seen.frame())
    assert most["I(X;T)"][0] == pytest.approx(entropy)
    assert most["I(X;T)"][1] == f"H(half) = {entropy:.3g}"
    assert most["I(T;Y)"] == (1.0, "H(parity) = 1")
    shared = normalised(seen)
    whole = seen.frame()
    of_y = whole["quantity"] == "I(T;Y)"
    np.testing.assert_allclose(shared["bits"][of_y], whole["bits"][of_y])
    np.testing.assert_allclose(shared["bits"][~of_y], whole["bits"][~of_y] / entropy)


def test_figures_and_verdicts_name_them() -> None:
    trace = traced()
    axes = trace.plot("KSG", x="sign", y="price").axes[0]
    assert axes.get_xlabel().startswith("I(sign;T) (bits)")
    assert axes.get_ylabel().startswith("I(T;price) (bits)")
    assert trace.plot().axes[0].get_ylabel().startswith("I(T;digit) (bits)")
    told = verdict(trace, x="half")
    assert "I(half;T)" in str(told)
    assert "I(X;T)" not in str(told) + told.details()
    ends = trace.frame().query("quantity == 'I(half;T)' and epoch == 3")["bits"]
    assert sorted(told.table()["final_bits"]) == pytest.approx(sorted(ends))
    assert "I(X;T)" in str(trace.verdict())


def test_a_page_says_which_it_draws(tmp_path: Path) -> None:
    page = traced().report(tmp_path / "report.html").read_text()
    assert "verdicts are of I(X;T) and I(T;digit)" in page


def test_a_source_is_not_all_that_t_knows() -> None:
    """I(T;Y) above I(bigram;T) is no fault: T is not computed from the bigram alone."""
    nan = float("nan")
    named = [
        {"name": name, "role": role, "quantity": quantity, "entropy": 3.0, "kind": "classes"}
        for name, role, quantity in (
            ("bigram", "source", "I(bigram;T)"),
            ("next", "target", "I(T;next)"),
        )
    ]
    trace = Trace.create(meta={"n": 8, "named": [{**each, "class_names": None} for each in named]})
    for quantity in ("I(X;T)", "I(bigram;T)", "I(T;next)"):
        bits = 2.0 if quantity == "I(T;next)" else 1.0
        error: Any = (0.01, nan, nan, "", {}, 0.1)
        trace.append([Row(0, 0, None, "a", quantity, "KSG", "T", bits, *error)])
    above = {x: trust(pair(trace, x)).points["labels_above_inputs"].any() for x in ("X", "bigram")}
    assert above == {"X": True, "bigram": False}


# --- derived --------------------------------------------------------------------------------------


def test_superfluous_information_and_ratio() -> None:
    trace = traced()
    points = derived(trace, y="digit")
    np.testing.assert_array_equal(points["superfluous"], points["I(X;T)"] - points["I(T;Y)"])
    above = points["I(X;T)"] > 0
    ratio = points["I(T;Y)"] / points["I(X;T)"]
    np.testing.assert_array_equal(points["ratio"][above], ratio[above])
    assert (points["reason"][above] == "").all()
    assert points["ratio"][~above].isna().all()


def test_superfluous_information_needs_x_to_decide_y() -> None:
    """The sign of a number is decided by half, not half by the sign, and the digit by neither."""
    x, _, sources = samples()
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    given = {"half": sources["half"], "sign": sources["sign"]}
    probe = Probe(x, {"side": sources["sign"], "digit": torch.arange(N) % 4}, sources=given)
    trace = Tracer(model, probe, estimators=["binning"]).trace
    assert trace.meta["decided"]["I(T;side)"] == ["I(X;T)", "I(half;T)", "I(sign;T)"]
    assert derived(trace, "half", "side")["superfluous"].notna().all()
    points = derived(trace, "half", "digit")
    assert points["superfluous"].isna().all()
    assert (points["reason"] == "I(T;digit): X does not decide Y").all()
    assert points["ratio"].notna().all()


def test_a_trace_that_does_not_say_has_no_superfluous_information() -> None:
    trace = Trace.create(meta={"n": 8})
    nan = float("nan")
    for quantity, bits in (("I(X;T)", 2.0), ("I(T;Y)", 1.0)):
        row = Row(0, 0, None, "a", quantity, "KSG", "T", bits, nan, nan, nan, "", {}, 0.1)
        trace.append([row])
    points = derived(trace)
    assert points["ratio"].tolist() == [0.5]
    assert points["superfluous"].isna().all()
    assert points["reason"].str.contains("does not say").all()


# --- kept, resumed, read again --------------------------------------------------------------------


def test_a_stored_probe_is_read_with_its_variables(tmp_path: Path) -> None:
    trace = traced(tmp_path)
    probe = Trace.load(tmp_path / "run").probe()
    assert probe.samples_digest == trace.meta["samples_digest"]
    assert [each.quantity for each in probe.named] == [
        *("I(sign;T)", "I(half;T)"),
        *("I(T;digit)", "I(T;price)", "I(T;parity)"),
    ]


def test_a_run_is_resumed_with_the_same_variables_only(tmp_path: Path) -> None:

    x, targets, _ = samples()
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    with Tracer(model, (x, targets), estimators=["binning"], keep=tmp_path / "r") as tracer:
        tracer.snapshot(1)
    keep = Keep(tmp_path / "r", resume=True)
    with Tracer(model, (x, targets), estimators=["binning"], keep=keep) as tracer:
        tracer.snapshot(2)
    assert sorted(Trace.load(tmp_path / "r").frame()["epoch"].unique()) == [0, 1, 2]
    swapped = {"price": targets["digit"], "digit": targets["price"], "parity": targets["parity"]}
    with pytest.raises(RunError, match="was traced on another probe"):
        Tracer(model, (x, swapped), estimators=["binning"], keep=keep)


def test_checkpoints_and_ensembles_have_them(tmp_path: Path) -> None:
    x, targets, _ = samples()

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 3), nn.Tanh())

    torch.save(build(0).state_dict(), tmp_path / "epoch1.pt")
    after = Tracer.from_checkpoints(
        build(1), tmp_path / "epoch*.pt", (x, targets), estimators=["binning"]
    )
    both = Tracer(Ensemble(build, [0, 1]), (x, targets), estimators=["binning"]).trace.frame()
    first = both[both["seed"] == 0]
    assert set(first["quantity"]) == {"I(X;T)", "I(T;digit)", "I(T;price)", "I(T;parity)"}
    np.testing.assert_allclose(first["bits"], after.trace.frame()["bits"], atol=1e-6)


def test_a_loader_may_give_several_labels() -> None:

    x, targets, _ = samples()
    pairs = [(x[i], {name: y[i] for name, y in targets.items()}) for i in range(N)]
    probe = Probe.of(DataLoader(pairs, batch_size=7))  # type: ignore[arg-type]
    assert probe.digest == Probe(x, targets).digest
    assert Probe.of(pairs).digest == probe.digest


# --- what is wrong is said ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "sources", "error", "match"),
    [
        ({}, None, ConfigError, "no target in an empty mapping"),
        ({"a": [0, 1, 0]}, None, InvalidInput, r"y\[a\]|target 'a': 3 labels for 4|same number"),
        ({"a": [0, 1, 0, 1], "b": [0, 1]}, None, InvalidInput, "target 'b': 2 labels for 4 sampl"),
        ({"a": [0.5, float("nan"), 1.0, 0.0]}, None, NonFinite, "1 NaN"),
        ({"a": [0, 1, 0, 1], "b": [0.5, float("nan"), 1.0, 0.2]}, None, NonFinite, "'b'.* 1 NaN"),
        ({"T": [0, 1, 0, 1]}, None, ConfigError, "a target needs a name .* none of T, X, got 'T'"),
        ({"a;b": [0, 1, 0, 1]}, None, ConfigError, "needs a name of letters.*got 'a;b'"),
        ({3: [0, 1, 0, 1]}, None, ConfigError, "needs a name of letters.*got 3"),
        ({"a": [0, 1, 0, 1]}, {"a": [0, 1, 1, 0]}, ConfigError, "'a' is a source and a target"),
        ([0, 1, 0, 1], {"Y": [0, 1, 1, 0]}, ConfigError, "none of T, X, Y, got 'Y'"),
        ([0, 1, 0, 1], [0, 1, 1, 0], ConfigError, "sources must be a mapping"),
        ({"a": torch.zeros(4, 2, 2).long()}, None, InvalidInput, r"class ids \(4, 2, 2\)"),
        ({"a": torch.full((4, 3), 5)}, None, InvalidInput, r"which has 2 tokens"),
        ({"a": torch.full((4, 2), -7)}, None, InvalidInput, "-100 leaves a token out, no other"),
    ],
)
def test_what_is_wrong_is_said(y: Any, sources: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match) as raised:
        Probe(torch.eye(4)[:, :2], y, sources=sources)
    assert "\n" not in str(raised.value)


def test_classes_are_told_by_name() -> None:
    x = torch.eye(4)
    probe = Probe(x, {"a": [0, 1, 0, 1], "b": [1, 2, 3, 4]}, classes={"b": 0})
    assert [each.kind for each in probe.named] == ["classes", "numbers"]
    with pytest.raises(ConfigError, match=r"classes: no variable is 'c'; named are: 'a'"):
        Probe(x, {"a": [0, 1, 0, 1]}, classes={"c": 2})


def test_all_tokens_left_out_is_refused() -> None:
    x, ids = texts()
    with pytest.raises(InvalidInput, match="'next' leaves out every token; -100 marks"):
        Probe(x, {"next": torch.full_like(ids, -100)})


# --- from a file, and on the command line ---------------------------------------------------------


def test_a_configuration_may_name_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data function gives them by name, ``ibtrace plot`` and ``verdict`` take them by name."""
    (tmp_path / "of_many_targets.py").write_text(
        "import torch\n\n\n"
        "def data():\n"
        "    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))\n"
        "    digit = torch.arange(40) % 4\n"
        "    return x, {'digit': digit, 'parity': digit % 2, 'price': x[:, 0]}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = dict(configs.read("tishby"))
    del config["variants"]
    config |= {"data": "of_many_targets.data", "epochs": 3, "seeds": 1, "snapshots": 3}
    config |= {"estimators": ["binning"], "batch_size": 20, "probe": {"part": "train"}}
    config["model"]["init_args"]["widths"] = [3, 2, 4]
    (tmp_path / "many.yaml").write_text(yaml.safe_dump(config))
    run = str(tmp_path / "run")
    assert main(["run", str(tmp_path / "many.yaml"), "--out", run, "--quiet"]) == 0
    trace = Trace.load(run)
    quantities = {"I(X;T)", "I(T;digit)", "I(T;parity)", "I(T;price)"}
    assert set(trace.frame()["quantity"]) == quantities
    data = trace.meta["named"][0]
    assert (data["quantity"], trace.meta["n"]) == ("I(T;digit)", 32)
    capsys.readouterr()
    assert main(["plot", run, "--y", "price", "--out", str(tmp_path / "drawn")]) == 0
    assert all(Path(line).is_file() for line in capsys.readouterr().out.splitlines())
    assert main(["verdict", run, "--x", "X"]) == 0
    assert main(["plot", run, "--y", "cost"]) == 2
    assert "no y='cost' in the trace; it has digit, parity, price" in capsys.readouterr().err


def test_a_data_set_may_name_targets() -> None:
    named: Any = {"a": ["p", "q", "p", "q"], "b": [0, 1, 2, 3]}
    data = Dataset("d", torch.eye(4), named)
    assert data.y.tolist() == [0, 1, 0, 1]
    assert [each.name for each in Probe.of(data).named] == ["a", "b"]
    assert Probe.of(data).class_names == ("p", "q")
    with pytest.raises(InvalidInput, match=r"4 inputs and 3 labels y\[b\]"):
        Dataset("d", torch.eye(4), {**named, "b": [0, 1, 2]})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="y is an empty mapping"):
        Dataset("d", torch.eye(4), {})  # type: ignore[arg-type]


def test_the_page_runs_as_printed() -> None:
    page = (Path(__file__).parent.parent / "docs" / "targets.md").read_text()
    scope: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S):
        exec(compile(block, "targets.md", "exec"), scope)
    quantities = {*scope["tracer"].trace.frame()["quantity"]}
    contexts = {f"I(context{k};T)" for k in (1, 2, 3)}
    assert quantities == {"I(X;T)", "I(T;next1)", "I(T;next2)", *contexts}
