"""A verdict keeps questions apart: the information itself, at a resolution, of densities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ibtrace.errors import InvalidInput
from ibtrace.estimators import make
from ibtrace.models.quantize import quantize
from ibtrace.plane import LayerVerdict, Verdict, details, judge, verdict
from ibtrace.plane.answer import Answer
from ibtrace.plane.drops import Array
from ibtrace.trace import Scalar, Trace
from ibtrace.tracer import Keep, Tracer
from ibtrace.types import EXACT_BITS, I_TY, I_XT, Question, Row, label

NAN = float("nan")
SEEDS, EPOCHS = 5, 60
CONVERGED = {0: 1.0, 29: 0.1, 59: 0.09}
QUESTIONS: dict[str, Question] = {
    **{"Exact": "information", "NoisyChannel(in_network=True)": "information"},
    **{"Binning": "resolution", "Ranged": "resolution", "KDE": "resolution"},
    **{"KSG": "density", "Sliced": "density"},
}
ITSELF = ("Exact", "KSG")


def curves(start: float, end: float, top: float | None = None) -> Array:
    """From start to end in a straight line, over a peak in the middle if there is a top."""
    rng = np.random.default_rng(0)
    knots = ([0, 1], [start, end]) if top is None else ([0, 0.5, 1], [start, top, end])
    noise = rng.normal(0, 0.02, (SEEDS, EPOCHS)) + rng.normal(0, 0.02, (SEEDS, 1))
    bits: Array = np.interp(np.linspace(0, 1, EPOCHS), *knots) + noise
    return bits


FLAT = np.full((SEEDS, EPOCHS), 12.0)
FALLS, RISES = curves(5, 3, top=7), curves(2, 6)


def traced(
    estimates: Mapping[str, Array],
    exact: Array | None = FLAT,
    *,
    population: bool = False,
    quantity: str = I_XT,
    losses: Mapping[int, float] | None = None,
) -> Trace:
    """One layer: its estimates, and the exact bits by its rows (None: not counted)."""
    questions = {name: QUESTIONS[name] for name in estimates}
    variables = {name: {"hidden": "itself"} for name in estimates if name in ITSELF}
    meta = {"n": 4096, "population": population, "questions": questions, "variables": variables}
    trace = Trace.create(meta=meta)
    scalars = [Scalar(0, e, "", "train_loss", loss) for e, loss in (losses or CONVERGED).items()]
    rows = []
    for name, of_seeds in estimates.items():
        for (seed, epoch), bits in np.ndenumerate(of_seeds):
            origin = (seed, epoch, None, "hidden", quantity, name, f"T by {name}")
            rows.append(Row(*origin, float(bits), NAN, NAN, NAN, "", {}, 0.0))
    if exact is not None:
        scalars += [
            Scalar(seed, epoch, "hidden", EXACT_BITS, float(bits))
            for (seed, epoch), bits in np.ndenumerate(exact)
        ]
    trace.append(rows, scalars)
    return trace


def layer_of(trace: Trace) -> LayerVerdict:
    (layer,) = verdict(trace)
    return layer


def calls(layer: LayerVerdict) -> dict[str, str]:
    return {answer.question: answer.call for answer in layer}


# --- the information itself, and what is seen of it ----------------------------------------------


@pytest.mark.parametrize("by", ["Exact", "the distinct rows of T"])
def test_all_of_h_x_is_no_ceiling_of_a_population(by: str) -> None:
    """The bins lose what the layer keeps, whether `Exact` was chosen or its rows were counted."""
    estimates = {"Binning": FALLS} | ({"Exact": FLAT} if by == "Exact" else {})
    layer = layer_of(traced(estimates, population=True))
    assert calls(layer) == {"information": "does not compress", "resolution": "compresses"}
    finding = verdict(traced(estimates, population=True)).of("hidden", "Binning")
    fall = finding.evidence.held_out
    assert finding.evidence.peak.epoch in range(27, 33)
    assert layer.sentence == (
        f"I(X;T) is 12.00 bits throughout (by {by}, all of X): that is H(X), nothing is lost. "
        f"Seen as T by Binning, it falls by {fall.mean:.2f} bits [{fall.lower:.2f}, "
        f"{fall.upper:.2f}] after epoch {finding.evidence.peak.epoch}."
    )


@pytest.mark.parametrize("by", ["Exact", "the distinct rows of T"])
def test_on_a_sample_the_same_is_a_ceiling(by: str) -> None:
    estimates = {"Binning": FALLS} | ({"Exact": FLAT} if by == "Exact" else {})
    layer = layer_of(traced(estimates))
    assert calls(layer) == {"information": "inconclusive", "resolution": "compresses"}
    (finding,) = layer.information.findings
    assert (finding.estimator, finding.cause.kind) == (by, "saturated")
    assert layer.information.sentence == (
        f"I(X;T) is 12.00 bits throughout (by {by}, on 4,096 samples), the most that they can "
        "show: whether it falls is open."
    )


@pytest.mark.parametrize("population", [True, False])
def test_rows_that_merge_are_a_fall_of_the_information_itself(population: bool) -> None:
    layer = layer_of(traced({"Binning": RISES}, curves(9, 4), population=population))
    assert calls(layer) == {"information": "compresses", "resolution": "does not compress"}
    assert layer.information.sentence.startswith("I(X;T) falls by 4.")
    assert "(by the distinct rows of T, " in layer.information.sentence
    assert layer.sentence.endswith("Seen as T by Binning, it does not fall and ends at 6.00 bits.")


def test_nothing_but_exact() -> None:
    layer = layer_of(traced({"Exact": FLAT}, population=True))
    assert calls(layer) == {"information": "does not compress"}
    assert (layer.resolution, layer.density) == (None, None)
    assert layer.sentence == layer.information.sentence


def test_below_h_x_a_constant_is_said_without_praise() -> None:
    layer = layer_of(traced({"Binning": FALLS}, np.full(FLAT.shape, 8.0), population=True))
    assert calls(layer)["information"] == "does not compress"
    said = "I(X;T) is 8.00 bits throughout (by the distinct rows of T, all of X)."
    assert layer.information.sentence == said


def test_while_training_goes_on_nothing_is_said_not_to_fall() -> None:
    falling = {0: 1.0, 29: 0.6, 59: 0.2}
    layer = layer_of(traced({"Binning": RISES}, population=True, losses=falling))
    assert set(calls(layer).values()) == {"inconclusive"}
    assert "throughout (by the distinct rows of T, all of X); no call: training had not" in (
        layer.information.sentence
    )
    assert "does not fall so far (" in layer.sentence


# --- disagreement within one question -----------------------------------------------------------


def test_resolutions_that_contradict_each_other_are_reported_not_counted() -> None:
    estimates = {"Binning": RISES, "Ranged": RISES, "KDE": FALLS}
    layer = layer_of(traced(estimates, population=True))
    assert calls(layer) == {
        "information": "does not compress",
        "resolution": "hangs on the resolution",
    }
    assert layer.resolution is not None
    sentence = layer.resolution.sentence
    start = (
        "Whether a fall is seen hangs on the resolution: as T by Binning and as T by Ranged, it "
    )
    assert sentence.startswith(f"{start}does not fall and ends at 6.00 bits; as T by KDE, it falls")


def test_one_that_sees_no_fall_for_its_ceiling_contradicts_nobody() -> None:
    layer = layer_of(traced({"Binning": FALLS, "KDE": FLAT}))
    assert calls(layer)["resolution"] == "compresses"
    assert (
        "as T by KDE, it ends at 12.00 bits, near its ceiling, where no fall would"
        in layer.sentence
    )


def test_one_that_leaves_it_open_makes_no_contradiction_and_no_call() -> None:
    open_ = FALLS + np.linspace(0, 1, EPOCHS) * np.array([[-3.0], [8], [3], [1], [5]])
    layer = layer_of(traced({"Binning": FALLS, "KDE": open_}))
    assert calls(layer)["resolution"] == "inconclusive"
    assert "as T by Binning, it falls by" in layer.sentence
    assert "as T by KDE, it may or may not fall, by" in layer.sentence


# --- densities ----------------------------------------------------------------------------------


def test_densities_only() -> None:
    layer = layer_of(traced({"KSG": FALLS, "Sliced": RISES}, curves(9, 4)))
    assert calls(layer) == {"information": "compresses", "density": "hangs on the estimator"}
    assert layer.resolution is None
    assert layer.density is not None
    start = (
        "Taken for continuous, a fall hangs on the estimator, though T is a function of X and they "
        "have no joint density: by KSG it falls by "
    )
    assert layer.density.sentence.startswith(start)
    assert layer.density.sentence.endswith("; by Sliced it does not fall and ends at 6.00 bits.")


def test_where_t_may_be_random_a_density_is_not_denied_and_rows_tell_nothing() -> None:
    random = np.full(FLAT.shape, NAN)
    layer = layer_of(traced({"Exact": FLAT, "KSG": FALLS}, random, population=True))
    assert calls(layer) == {"information": "inconclusive", "density": "compresses"}
    said = "T may be random given X, so that its distinct rows do not tell."
    assert layer.information.sentence == f"I(X;T) itself is not known: {said}"
    assert layer.sentence.count("no joint density") == 0
    assert "Taken for continuous: by KSG it falls by" in layer.sentence


def test_a_fall_of_a_projection_is_no_claim_on_t_that_has_no_density() -> None:
    layer = layer_of(traced({"Sliced": FALLS}))
    assert calls(layer)["density"] == "compresses"
    assert "no joint density" not in layer.sentence
    still = layer_of(traced({"KSG": FALLS}))
    assert calls(still)["density"] == "inconclusive"
    assert "without a call: what falls is the estimate: the true I(X;T) did not" in still.sentence


# --- what a network truly has -------------------------------------------------------------------


def test_the_networks_own_noise_is_the_information_itself() -> None:
    """Before the noise all rows are distinct; what the layer sends on is less, and falls."""
    channel = "NoisyChannel(in_network=True)"
    trace = traced({channel: FALLS, "Exact": FLAT, "Binning": RISES}, population=True)
    layer = layer_of(trace)
    assert calls(layer) == {"information": "compresses", "resolution": "does not compress"}
    assert layer.information.sentence.startswith("I(X;T) falls by 3.")
    assert layer.information.sentence.endswith(f"(by {channel}, all of X); it ends at 3.00 bits.")
    assert {finding.estimator for finding in layer.information.findings} == {channel, "Exact"}
    kept = layer_of(traced({channel: FLAT}, population=True))  # merges nothing
    assert calls(kept)["information"] == "does not compress"


def quantized_run(run: Path, bits: int, seeds: int = 3) -> Verdict:
    """The inputs of three units shrink below a step of the quantized layer, one after another."""
    x = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 5)
    for seed in range(seeds):
        torch.manual_seed(seed)
        linear = nn.Linear(5, 5, bias=False)
        linear.weight.data = torch.eye(5) + 0.05 * torch.rand(5, 5)
        net = quantize(nn.Sequential(linear, nn.Tanh()), bits)
        weight = next(net.parameters())
        tracer = Tracer(
            net, (x, (x[:, 0] > 0).long()), look=["1"], estimators=["exact"], every=1, seed=seed,
            keep=Keep(run),
        )  # fmt: skip
        with tracer:
            for epoch in range(1, 13):
                weight.data[:3] *= 0.5 if epoch > seed else 1.0
                tracer.snapshot(epoch, train_loss=0.3**epoch)
    return Trace.load(run).verdict()


@pytest.mark.parametrize(("bits", "call"), [(4, "compresses"), (32, "inconclusive")])
def test_a_quantized_network_truly_loses_information(tmp_path: Path, bits: int, call: str) -> None:
    """32 inputs; in float32 the same weights keep them all apart."""
    (layer,) = quantized_run(tmp_path / "run", bits)
    assert calls(layer) == {"information": call}
    assert "by Exact, on 32 samples" in layer.sentence
    falls = layer.sentence.startswith("I(X;T) falls by 3.00 bits [3.00, 3.00]")
    assert falls == (bits == 4)


# --- no question of I(X;T) ----------------------------------------------------------------------


def test_estimators_of_i_ty_alone_leave_the_information_itself() -> None:
    trace = traced({"KSG": FALLS}, curves(9, 4), quantity=I_TY)
    layer = layer_of(trace)
    assert calls(layer) == {"information": "compresses"}
    assert layer.sentence.startswith("I(X;T) falls by 4.")
    with pytest.raises(InvalidInput, match=r"there is no I\(X;T\) to judge"):
        verdict(traced({"KSG": FALLS}, None, quantity=I_TY))


def test_what_is_not_counted_is_not_known() -> None:
    layer = layer_of(traced({"Binning": FALLS}, None))
    assert calls(layer) == {"information": "inconclusive", "resolution": "compresses"}
    assert layer.information.findings == ()
    said = "I(X;T) itself is not known: the trace holds no count of the distinct rows of T."
    assert layer.information.sentence == said


# --- where the question comes from --------------------------------------------------------------


def test_a_trace_records_what_its_estimators_ask(tmp_path: Path) -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    data = (x, (x[:, 0] > 0).long())
    net = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    with Tracer(net, data, estimators=["binning", "exact"], keep=tmp_path / "run"):
        pass
    with pytest.warns(UserWarning, match="goes on without Binning.*, Exact and with KSG as well"):
        Tracer(net, data, estimators=["ksg"], keep=tmp_path / "run", seed=1).close()
    trace = Trace.load(tmp_path / "run")
    labels = [label(make(name)) for name in ("binning", "exact", "ksg")]
    recorded = dict(zip(labels, ("resolution", "information", "density"), strict=True))
    assert trace.meta["questions"] == recorded
    asked = {finding.estimator: finding.question for finding in verdict(trace).findings}
    assert asked.items() >= recorded.items()


def test_a_table_that_does_not_say_claims_the_least() -> None:
    trace = traced({"KSG": FALLS}, None)
    assert judge(trace.frame()).of("hidden").question == "resolution"
    assert (
        judge(trace.frame(), questions=trace.meta["questions"]).of("hidden").question == "density"
    )


# --- the text -----------------------------------------------------------------------------------


def test_layers_of_which_the_same_is_said_share_a_sentence() -> None:
    one = traced({"Binning": FALLS[:1]}, FLAT[:1])
    frame, scalars = one.frame(), one.scalars()
    frames = [frame.assign(layer=name) for name in ("fc1", "fc2")]
    copies = [scalars[scalars["layer"] == ""]]
    copies += [scalars[scalars["layer"] != ""].assign(layer=name) for name in ("fc1", "fc2")]
    found = judge(pd.concat(frames), n=4096, scalars=pd.concat(copies))
    first, *_ = found.summary().splitlines()
    assert first.startswith("fc1, fc2  I(X;T) is 12.00 bits throughout (by the distinct rows of T")
    said = " ".join(found.summary().split())
    assert said.count("1 seed, at least 3 are needed") == 2  # itself, and as it is seen
    two = traced({"Binning": FALLS[:1], "KDE": RISES[:1]}, FLAT[:1])
    said = layer_of(two).sentence
    assert said.count("1 seed, at least 3 are needed") == 2
    assert "as T by KDE, it ends at 6.0" in said
    assert said.endswith("0.00 below its peak; no call: 1 seed, at least 3 are needed.")
    assert math.isnan(found.of("fc1", "Binning").evidence.held_out.mean)


def test_questions_have_tables_of_their_own() -> None:
    details = verdict(traced({"Binning": FALLS, "KSG": FALLS})).details()
    places = [
        details.index(head)
        for head in (
            *("The information itself\n---", "the distinct rows of T: T exactly"),
            *("Seen at a resolution\n---", "Binning: T by Binning"),
            *("Taken for continuous\n---", "KSG: T by KSG"),
            "the information itself  seen at a resolution  taken for continuous",
        )
    ]
    assert places == sorted(places)
    assert max(map(len, details.splitlines())) <= 110


def test_a_long_name_has_a_line_to_itself_and_a_short_one_no_room_to_spare() -> None:
    def table(*names: str) -> list[str]:
        answer = Answer("information", "inconclusive", "", ())
        layers = [LayerVerdict(name, answer, None, None) for name in names]
        return details.calls(layers).splitlines()[1:]

    assert table("a", "b") == [
        "layer  the information itself",
        "a      inconclusive",
        "b      inconclusive",
    ]
    head, short, long, its = table("a", "l" * 60)
    assert head.index("the information") == short.index("inconclusive") == 42
    assert (long, its) == ("l" * 60, " " * 42 + "inconclusive")
