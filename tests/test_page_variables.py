"""The report's planes of named variables, and the bottleneck curve beneath the first."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ibtrace.bounds import bottleneck
from ibtrace.cli import main
from ibtrace.errors import InvalidInput
from ibtrace.page import page
from ibtrace.page.data import numbers
from ibtrace.plane import PlaneBound, coordinates, mean_coordinates, pairs, trust
from ibtrace.probe import Probe
from ibtrace.trace import Trace
from ibtrace.tracer import Keep, Tracer
from ibtrace.types import I_TY, I_XT
from tests.browser import Browser, started

N = 96
PLANES = [
    ["I(X;T)", "I(T;digit)"],
    ["I(X;T)", "I(T;parity)"],
    ["I(shade;T)", "I(T;digit)"],
    ["I(shade;T)", "I(T;parity)"],
]


def made(run: Path | None = None, seeds: int = 2) -> Trace:
    """Two targets and a source beside the inputs."""
    digits = torch.arange(N) % 6
    noise = torch.randint(2, (N,), generator=torch.Generator().manual_seed(0))
    targets = {"digit": (digits + noise) % 6, "parity": digits % 2}
    probe = Probe(torch.eye(6)[digits], targets, sources={"shade": digits // 2})
    for seed in range(seeds):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 2))
        keep, names = Keep(run), ["exact", "binning"]
        with Tracer(net, probe, estimators=names, every=1, seed=seed, keep=keep) as tracer:
            tracer.snapshot(1)
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.mul_(3)
            tracer.snapshot(2)
    return tracer.trace


def unpacked(block: dict[str, Any], text: str, kind: str) -> np.ndarray[Any, Any]:
    shape = len(block["layers"]), len(block["seeds"]), len(block["looks"])
    return np.frombuffer(base64.b64decode(text), kind).reshape(shape)


def failing(drawn: dict[str, Any], plane: int) -> dict[tuple[Any, ...], set[str]]:
    """The checks that points fail in a plane, of each number of the page."""
    found: dict[tuple[Any, ...], set[str]] = {}
    for block in drawn["runs"][0]["blocks"]:
        if str(plane) not in block["fails"]:
            continue
        at = unpacked(block, block["fails"][str(plane)], "u1")
        for place in np.argwhere(at):
            layer, seed, look = (
                block[axis][i] for axis, i in zip(("layers", "seeds", "looks"), place, strict=True)
            )
            key = (seed, look, layer, block["instrument"], block["quantity"])
            found[key] = set(drawn["fails"][at[tuple(place)]].split(","))
    return found


def test_every_two_variables_are_a_plane_with_checks_and_ceilings_of_its_own() -> None:
    trace = made()
    drawn = numbers({"run": trace})
    (run,) = drawn["runs"]
    assert drawn["planes"] == PLANES == [plane["quantities"] for plane in run["planes"]]
    assert {block["quantity"] for block in run["blocks"]} >= {
        name for names in PLANES for name in names
    }
    for at, seen in enumerate(pairs(trace)):
        points = trust(seen, chain=()).points
        expected = {}
        for point in points[points["fails"]].to_dict("records"):
            names = {
                name for name in drawn["fails"] if name and "," not in name and point.get(name)
            }
            for quantity in PLANES[at]:
                key = *(point[name] for name in ("seed", "epoch", "layer", "estimator")), quantity
                expected[key] = names
        told = failing(drawn, at)
        assert told == expected
    most = {tuple(p["quantities"]): p["estimators"][0]["most"] for p in run["planes"]}
    assert most["I(shade;T)", "I(T;parity)"] == {
        "I(shade;T)": [pytest.approx(np.log2(3)), "H(shade) = 1.58"],
        "I(T;parity)": [1.0, "H(parity) = 1"],
    }


def test_a_point_above_the_curve_fails_in_the_plane_of_the_curve_alone() -> None:
    trace = made()
    frame = pairs(trace)[0].frame()
    low = bottleneck(x=torch.arange(N) % 2, y=(torch.arange(N) % 2))  # of H(X) = 1 bit
    drawn = numbers({"": trace}, bounds={"": PlaneBound(low)})
    above = coordinates(frame).query(f"`{I_XT}` > 1.001 or `{I_TY}` > 1.001")
    told = failing(drawn, 0)
    named = {key[:4] for key, names in told.items() if "above_bound" in names}
    rows = above[["seed", "epoch", "layer", "estimator"]].itertuples(index=False, name=None)
    assert named == set(rows)
    assert 0 < len(named)
    assert not any(
        "above_bound" in names for at in (1, 2, 3) for names in failing(drawn, at).values()
    )
    (first, *others) = drawn["runs"][0]["planes"]
    assert first["bound"]["x"][-1] == first["bound"]["y"][-1] == 1.0  # bits
    assert first["estimators"][0]["most"]["I(X;T)"] == [1.0, "H(X) = 1"]
    assert [plane["bound"] for plane in others] == [None] * 3


def test_the_verdict_tells_the_distance_and_a_bound_that_is_none_is_refused(
    tmp_path: Path,
) -> None:
    trace = made(tmp_path / "run")
    told = [page(trace), trace.report(bound=True).read_text()]
    judged = [each.partition('<section id="plane"')[0] for each in told]
    assert ["bottleneck curve" in each for each in judged] == [False, True]
    assert main(["report", str(tmp_path / "run"), "--bound", "--quiet"]) == 0
    again = (tmp_path / "run" / "report.html").read_text()
    assert again.count("The line is the bottleneck bound") == 1
    with pytest.raises(InvalidInput, match="bound must be a curve"):
        # mypy: what is refused
        page(trace, bounds={"": 3})  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from started(tmp_path_factory.mktemp("browser"))


_MARKS = """
    return document.getElementById('plane-0-draw').data
        .filter((t) => t.name !== undefined && t.x.length).map((t) => [t.name, t.x[0], t.y[0]]);
"""
_SHAPES = """
    return document.getElementById('plane-0-draw').layout.shapes
        .filter((shape) => shape.type === 'path').length;
"""
_TITLES = """
    const { xaxis, yaxis } = document.getElementById('plane-0-draw').layout;
    return [xaxis.title.text, yaxis.title.text];
"""


def test_a_choice_of_variables_changes_what_is_drawn(browser: Browser, tmp_path: Path) -> None:
    trace = made()
    browser.open(trace.report(tmp_path / "report.html", bound=True))
    for at, (seen, names) in enumerate(zip(pairs(trace), PLANES, strict=True)):
        browser.run(
            "const list = [...document.querySelectorAll('.choice')]"
            ".find((label) => label.textContent.startsWith('Variables')).querySelector('select');"
            "list.value = arguments[0]; list.dispatchEvent(new Event('change'));",
            at,
        )
        browser.settled()
        means = mean_coordinates(seen.frame())
        means = means[(means["epoch"] == 2) & (means["estimator"] == trace.estimators[0])]
        drawn = {name: place for name, *place in browser.run(_MARKS)}
        for layer, x, y in means[["layer", I_XT, I_TY]].itertuples(index=False):
            assert drawn[layer] == pytest.approx((x, y), rel=1e-5, abs=1e-6)
        assert browser.run(_TITLES) == [f"{name} (bits)" for name in names]
        assert browser.run(_SHAPES) == (2 if at == 0 else 0)
        shown = browser.run(
            "return [...document.querySelectorAll('#curves figure:not([hidden]) h3')]"
            ".map((h) => h.textContent)"
        )
        assert {title.split(" by ")[0] for title in shown} == {*names}
    assert browser.logged() == []


def test_the_curve_stays_beneath_the_points_in_the_axes(browser: Browser, tmp_path: Path) -> None:
    trace = made()
    curve = trace.bound()
    browser.open(trace.report(tmp_path / "report.html", bound=True))
    (left, right), (low, high) = browser.run(
        "const { xaxis, yaxis } = document.getElementById('plane-0-draw')._fullLayout;"
        "return [xaxis.range, yaxis.range];"
    )
    most = max(curve.i_xt.max(), trace.frame()["bits"].max())
    assert -0.2 * most <= left <= 0 < 0.9 * most <= right <= 1.2 * most
    assert -0.2 * most <= low <= 0 < 0.98 * curve.i_xy <= high <= 1.2 * most
    assert "The line is the bottleneck bound" in browser.run(
        "return document.querySelector('#plane-0 .note').textContent"
    )
