"""What the report tells of events, their order, and what changes together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ibtrace.alignment import module_of, outputs
from ibtrace.reports.alignment import alignment, changes
from ibtrace.types import I_TY, I_XT, Row
from tests.test_alignment import EPOCHS, Curve, hill, traced, walks

NONE = (float("nan"), float("nan"), float("nan"))
FALLS: Curve = lambda epochs, seed: 3 - np.log1p(epochs)  # noqa: E731  # below 1 at epoch 7
LATE: Curve = lambda epochs, seed: 5 - np.log1p(epochs)  # noqa: E731  # below 1 at epoch 54


def test_the_peak_is_held_against_hidden_layers_and_their_modules() -> None:
    names = {"act1": "fc1", "act2": "fc2", "out": "fc3"}
    curves: dict[tuple[str, str], Curve] = {(I_XT, layer): hill(20) for layer in names}
    curves |= {("gradient SNR", module): FALLS for module in names.values()}
    curves[("gradient SNR", "fc3")] = LATE
    trace = traced(curves)
    assert outputs(trace) == ("out", "fc3")
    assert module_of(trace, "act2") == "fc2"
    told = " ".join(alignment(trace).split())
    assert "peak of I(X;T) of act2 before gradient SNR below 1 of fc2 in 0 of 5 seeds" in told
    assert "below 1 of fc3 in" not in told


def test_modules_that_are_no_chain_with_the_layers_belong_to_none() -> None:
    trace = traced({(I_XT, "act1"): hill(20), (I_XT, "out"): hill(20), ("norm", "fc1"): FALLS})
    assert module_of(trace, "act1") is None
    assert outputs(trace) == ("out",)


def test_information_alone_has_no_alignment_to_tell() -> None:
    assert alignment(traced({(I_XT, "a"): hill(20)})) == ""


def test_what_changes_with_information_is_told_strongest_first() -> None:
    shared, alone = walks(0.97, quantities=9), walks(0.0, quantities=9)
    information = shared.pop((I_XT, "a"))
    curves: dict[tuple[str, str], Curve] = {(I_XT, "b"): hill(20), (I_XT, "a"): information}
    curves |= {("weight", "fc1"): FALLS, ("weight", "fc2"): shared[("q1", "")]}
    curves |= {("own", "a"): shared[("q2", "")], ("own", "b"): shared[("q3", "")]}
    curves |= {("rate", ""): alone[("q4", "")], (I_TY, "a"): shared[("q5", "")]}
    # the output, whose module is fc3
    curves |= {(I_XT, "out"): information, ("weight", "fc3"): shared[("q6", "")]}
    trace = traced(curves, seeds=range(6))
    other = Row(0, 0, None, "a", I_XT, "KDE", "", 1.0, *NONE, "", {}, 0.0)
    trace.append(  # of another estimator nothing is told
        [replace(other, epoch=e, seed=s, value=float(e % 7)) for e in EPOCHS for s in range(6)]
    )
    head, *pairs = changes(trace)
    assert "I(X;T) of a (Exact) and of 3 other quantities" in " ".join(head.split())
    assert "0 is outside for 2:" in " ".join(head.split())
    assert {line.partition("]  ")[2] for line in pairs} == {"weight of fc2", "own of a"}
    strengths = [float(line.split()[0]) for line in pairs]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[-1] > 0.8
    observed = traced(curves | {("gradient SNR", "fc1"): FALLS}, seeds=range(6))
    assert "\n".join(changes(observed)) in alignment(observed)


def test_that_nothing_changes_with_information_is_said_in_one_sentence() -> None:
    (told,) = changes(traced(walks(0.0), seeds=range(6)))
    assert told.endswith("all hold 0.")
    assert changes(traced({(I_XT, "a"): hill(20)})) == []
    (told,) = changes(
        traced({(I_XT, "a"): hill(20), ("flat", ""): lambda epochs, seed: 0 * epochs})
    )
    assert told == "coincidence: no pair has five looks in common at which both change"


def test_of_many_the_strongest_five_are_told() -> None:
    head, *pairs = changes(traced(walks(0.99, quantities=8), seeds=range(6)))
    assert "0 is outside for 7, here the strongest 5:" in " ".join(head.split())
    assert len(pairs) == 5
