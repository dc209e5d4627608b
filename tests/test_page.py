"""The report as a page: what Python puts into it, and what it refuses."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ibtrace import Tracer
from ibtrace.cli import main
from ibtrace.errors import ConfigError, InvalidInput, RunError
from ibtrace.page import data as page_data
from ibtrace.page import page, write
from ibtrace.page.data import numbers
from ibtrace.page.embed import as_json, packed
from ibtrace.plane import CHECKS, Multiverse, trust
from ibtrace.trace import Scalar, Trace
from ibtrace.types import I_TY, I_XT
from tests.report_traces import EPOCHS, ESTIMATORS, LAYERS, traced
from tests.stored_traces import NARROW, WIDE, codes, kept_trace

HOSTILE = (
    "</script><script>window.broken=1</script>",
    "<img src=x onerror=window.broken=2>",
    '"><svg onload="window.broken=3">',
    "a\u2028b\u2029c",
    "<!--<script>",
    "__proto__",
    "%{x} $title &lt;b&gt; <a href='https://example.org'>l</a>",
)


class _Elements(HTMLParser):
    """The elements of a page, with their attributes, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def embedded(text: str) -> Any:
    """The numbers in a page, as its scripts read them."""
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(block)


def values(block: dict[str, Any]) -> np.ndarray[Any, Any]:
    shape = len(block["layers"]), len(block["seeds"]), len(block["looks"])
    return np.frombuffer(base64.b64decode(block["values"]), "<f4").reshape(shape)


def test_the_numbers_are_those_of_the_trace() -> None:
    trace = traced()
    drawn = numbers({"run": trace})
    assert drawn["layers"] == list(LAYERS)
    assert drawn["estimators"] == list(ESTIMATORS)
    readings = trace.readings()
    blocks = drawn["runs"][0]["blocks"]
    assert {(b["quantity"], b["instrument"]) for b in blocks} == {
        (q, i) for q, i in readings[["quantity", "instrument"]].itertuples(index=False)
    }
    for block in blocks:
        rows = readings[
            (readings["quantity"] == block["quantity"])
            & (readings["instrument"] == block["instrument"])
        ].set_index(["layer", "seed", "epoch"])
        held = values(block)
        for place in np.ndindex(held.shape):
            axes = zip(("layers", "seeds", "looks"), place, strict=True)
            stored = rows.loc[tuple(block[axis][at] for axis, at in axes)]
            assert held[place] == pytest.approx(stored["value"], rel=1e-6)
            if block["flags"]:
                flags = np.frombuffer(base64.b64decode(block["flags"]), "u1").reshape(held.shape)
                assert drawn["flags"][flags[place]] == stored["flags"]


def test_what_was_examined_is_told_of_each_run_in_words_and_in_a_table() -> None:
    class Examined:
        def __str__(self) -> str:
            return "as much by <chance>"

        def summary(self) -> pd.DataFrame:
            return pd.DataFrame({"layer": ["hidden"], "p": [0.25]})

    traces = {"a": traced(), "b": traced()}
    told = page(traces, examinations={"b": Examined()})
    section = told.partition('<section id="examinations">')[2].partition("</section>")[0]
    assert section.startswith("<h2>Estimates examined</h2>")
    assert re.findall(r"<h3>(.*?)</h3>", section) == ["b"]
    assert "as much by &lt;chance&gt;" in section
    assert "hidden" in section
    assert "0.25" in section
    assert "<h2>Estimates examined</h2>" not in page(traces)


def test_every_point_names_the_checks_that_it_fails() -> None:
    trace = traced()
    points = trust(trace, chain=()).points.set_index(["layer", "seed", "epoch", "estimator"])
    drawn = numbers({"": trace})
    failing = 0
    for block in drawn["runs"][0]["blocks"]:
        if block["quantity"] not in drawn["planes"][0]:
            assert block["fails"] == {}
            continue
        fails = np.frombuffer(base64.b64decode(block["fails"]["0"]), "u1")
        fails = fails.reshape(values(block).shape)
        for place in np.ndindex(fails.shape):
            axes = zip(("layers", "seeds", "looks"), place, strict=True)
            point = points.loc[(*(block[axis][at] for axis, at in axes), block["instrument"])]
            named = [name for name in CHECKS if point[name]]
            assert drawn["fails"][fails[place]] == ",".join(named)
            failing += bool(named)
    assert failing == 2 * points["fails"].sum() > 0


def test_an_estimators_own_error_is_the_mean_over_seeds() -> None:
    block = numbers({"": traced()})["runs"][0]["blocks"][0]
    own = np.frombuffer(base64.b64decode(block["stderr"]), "<f4")
    assert own == pytest.approx(0.01)
    assert len(own) == len(LAYERS) * len(EPOCHS)
    assert block["lower"] is None


def fallen(folder: Path) -> Trace:
    """A trace whose layer falls at the widths 1/2 to 2 alone."""
    falls_at = (8, 7, 9)  # of each seed: networks whose numbers are all alike count once
    falling = {
        epoch: [{"a": codes(WIDE if epoch < last else NARROW)} for last in falls_at]
        for epoch in range(16)
    }
    return kept_trace(folder, falling)


def test_a_map_is_that_of_the_trace(tmp_path: Path) -> None:
    trace = fallen(tmp_path / "run")
    resolution = trace.resolution([0.25, 0.5, 1.0, 2.0, 4.0])
    (layer,) = resolution
    (held,) = numbers({"": trace}, {"": resolution})["runs"][0]["maps"]
    assert held["scales"] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert held["bands"] == [[0.5, 2.0]]
    assert held["looks"] == list(range(16))
    for quantity, bits in ((I_XT, layer.mean_x), (I_TY, layer.mean_y)):
        drawn = np.frombuffer(base64.b64decode(held["bits"][quantity]), "<f4")
        assert drawn.reshape(5, 16) == pytest.approx(bits, abs=1e-6)
        assert held["most"][quantity] == bits.max()
    assert held["fall"][0] == pytest.approx(layer.held_out[0].tolist())
    file = trace.report(resolution=resolution)
    said = _Elements(file.read_text()).text
    for line in str(resolution).splitlines():
        assert line in said


GRID: dict[str, Any] = {
    "families": [{"estimator": "binning", "width": [0.125, 1.0]}],
    "least_drop": [0.1, 2.0],
}


def test_the_analyses_of_a_multiverse_are_drawn_in_the_order_of_their_falls(tmp_path: Path) -> None:
    trace = fallen(tmp_path / "run")
    judged = trace.multiverse(GRID)
    trace.report(multiverse=judged)
    (held,) = embedded((tmp_path / "run" / "report.html").read_text())["runs"][0]["analyses"]
    assert held["fall"] == sorted(judged.table["held_out"])
    assert held["call"].count("compresses") == 1  # at width 1, of more than 0.1 bit
    assert held["sentence"] == judged.of("a").sentence()
    levels = {choice["name"]: choice["levels"] for choice in held["choices"]}
    assert {*levels} == {*judged.of("a").varied}
    rows = judged.table.sort_values("held_out", kind="stable")
    for name, values in levels.items():
        assert values == rows[name].tolist()


def test_the_analyses_of_a_multiverse_stand_question_by_question(tmp_path: Path) -> None:
    trace = fallen(tmp_path / "run")
    families = [*GRID["families"], {"estimator": "ksg", "k": [3, 5]}]
    judged = trace.multiverse({"families": families})
    trace.report(multiverse=judged)
    (held,) = embedded((tmp_path / "run" / "report.html").read_text())["runs"][0]["analyses"]
    asked, *_ = held["choices"]
    assert asked["name"] == "question"
    assert asked["levels"] == ["seen at a resolution"] * 2 + ["taken for continuous"] * 2
    bins, near = (judged.of("a").asked[each] for each in ("resolution", "density"))
    falls = [sorted(each.rows["held_out"]) for each in (bins, near)]
    assert held["fall"] == falls[0] + falls[1]


def test_a_multiverse_that_a_run_has_left_is_in_its_report(tmp_path: Path) -> None:
    judged = fallen(tmp_path / "run").multiverse(GRID)
    (tmp_path / "run" / "multiverse").mkdir()
    file = tmp_path / "run" / "multiverse" / "multiverse.csv"
    judged.table.to_csv(file, index=False)
    assert str(Multiverse.read(file)) == str(judged)
    assert main(["report", str(tmp_path / "run"), "--no-maps"]) == 0
    (held,) = embedded((tmp_path / "run" / "report.html").read_text())["runs"][0]["analyses"]
    assert held["sentence"] == judged.of("a").sentence()
    file.write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInput, match=r"multiverse\.csv: not the table of a multiverse"):
        Multiverse.read(file)


@pytest.mark.filterwarnings("default:run. no resolution map:UserWarning")
def test_a_run_that_keeps_activations_gets_maps_unless_they_are_not_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fallen(tmp_path / "run")
    file = tmp_path / "run" / "report.html"
    assert main(["report", str(tmp_path / "run"), "--quiet"]) == 0
    assert [m["layer"] for m in embedded(file.read_text())["runs"][0]["maps"]] == ["a"]
    assert main(["report", str(tmp_path / "run"), "--no-maps"]) == 0
    assert embedded(file.read_text())["runs"][0]["maps"] == []
    (tmp_path / "run" / "probe.safetensors").unlink()
    assert main(["report", str(tmp_path / "run"), "--quiet"]) == 0
    assert "no resolution map: " in capsys.readouterr().err


def test_a_number_that_is_missing_is_missing_in_the_page() -> None:
    trace = traced(seeds=2)
    trace.truncate(after=100, seeds=[1])
    block = numbers({"": trace})["runs"][0]["blocks"][0]
    last = values(block)[:, :, -1]
    assert np.isfinite(last[:, 0]).all()
    assert np.isnan(last[:, 1]).all()


def test_long_curves_are_thinned_to_the_room_there_is_and_the_page_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trace = traced(epochs=range(100), seeds=2)
    assert numbers({"": trace})["thinned"] is None
    cells = len(trace.readings()) / 100
    monkeypatch.setattr(page_data, "_ROOM", 40 * cells * page_data._BYTES)
    drawn = numbers({"": trace})
    assert drawn["thinned"] == [40, 100]
    for block in drawn["runs"][0]["blocks"]:
        looks = block["looks"]
        assert len(looks) == 40
        assert (looks[0], looks[-1]) == (0, 99)
        assert values(block).shape[-1] == 40
    assert "40 of up to 100 looks are drawn; verdicts are of all" in page(trace)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_adds_an_element_or_an_attribute(name: str) -> None:
    plain = _Elements(page({"run": made_of("name")}, **said_of("name")))
    hostile = _Elements(page({name: made_of(name)}, **said_of(name)))
    assert [(tag, [*attrs]) for tag, attrs in hostile.tags] == [
        (tag, [*attrs]) for tag, attrs in plain.tags
    ]
    assert hostile.text.count(name) >= 12  # verdict, tables, record: each says it as it is


def made_of(name: str, every: Sequence[str] = ()) -> Trace:
    """A trace that has a text wherever one may come from outside."""
    return traced(
        epochs=(0, 1, 5),
        layers=every or [name, "b"],
        estimators=every or [name],
        flag=name.replace(",", " "),
        estimand=name,
        lens=name,
        seeds=3,
        config={"model": name, "nested": {"key": [name]}},
        left_out={name: name},
        note=name,
    )


def said_of(name: str) -> dict[str, Any]:
    table = pd.DataFrame([(name, "held", name, name, name)])
    table.columns = pd.Index(["name", "status", "number", "statement", "source"])
    return {"claims": {name: table}, "title": name}


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_embedded_as_they_are(name: str) -> None:
    text = page({name: made_of(name)})
    drawn = embedded(text)
    assert drawn["layers"] == [name, "b"]
    assert drawn["runs"][0]["name"] == name
    assert drawn["estimators"] == [name]


def test_a_name_that_no_encoding_has_is_written_all_the_same(tmp_path: Path) -> None:
    name = "half of a pair \ud800"
    file = write({name: traced(config={"path": name})}, tmp_path / "page.html")
    assert "half of a pair ?" in _Elements(file.read_text(encoding="utf-8")).text


def test_json_holds_nothing_that_could_end_a_script() -> None:
    text = as_json({name: name for name in HOSTILE})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {name: name for name in HOSTILE}


def test_numbers_are_packed_in_the_order_of_the_browsers() -> None:
    array = np.array([[1.5, np.nan], [-np.inf, 12.0]])
    held = np.frombuffer(base64.b64decode(packed(array)), "<f4")
    assert np.array_equal(held, array.ravel(), equal_nan=True)


def test_the_policy_allows_the_pages_own_scripts_alone() -> None:
    parser = _Elements(page(traced()))
    (policy,) = [
        attrs["content"] or ""
        for tag, attrs in parser.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    (scripts,) = [part for part in policy.split("; ") if part.startswith("script-src")]
    assert "unsafe" not in scripts
    for forbidden in ("http:", "https:", "*"):
        assert forbidden not in policy
    for tag, attrs in parser.tags:
        assert not {"src", "srcset", "data", "action"} & {*attrs}, tag
        assert tag not in ("link", "iframe", "object", "embed", "base")


def test_what_everybody_must_read_needs_no_script() -> None:
    trace = traced()
    said = _Elements(page({"tanh": trace, "relu": traced(fall=0.0)})).text
    judged = trace.verdict()
    for line in (*judged.details().splitlines(), *judged.notes, *(v.sentence for v in judged)):
        assert line in said
    assert "2 runs side by side" in said
    assert "4 seeds each" in said
    assert "schema_version" in said


def test_points_that_fail_a_check_are_counted() -> None:
    trace = traced()
    elements = _Elements(page(trace))
    assert "Points that fail a check" in elements.texts
    counts = trace.trust().counts()
    failing = counts[counts["fails"] > 0].iloc[0]
    assert f"{failing['fails']}" in elements.texts
    assert " ".join(str(trace.trust()).split()) in " ".join(elements.text.split())


def test_a_trace_without_information_has_no_verdict_and_says_why() -> None:
    trace = Trace.create()
    trace.append([], [Scalar(0, epoch, "", "train_loss", 1.0 / (1 + epoch)) for epoch in range(3)])
    said = _Elements(page(trace)).text
    assert "No verdict: there is no I(X;T) to judge" in said


def test_what_does_not_fit_into_one_report_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no trace to report"):
        page({})
    with pytest.raises(InvalidInput, match="the trace 'empty' is empty"):
        page({"empty": Trace.create()})
    steps = Trace.create(meta={"clock": "step"})
    rows = [Scalar(0, 0, "", "train_loss", 1.0, step) for step in range(3)]
    steps.append([], rows)
    with pytest.raises(InvalidInput, match="epochs counts epochs, steps counts steps"):
        page({"epochs": traced(), "steps": steps})


def test_only_a_page_is_replaced(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"ends with \.html, got .*trace\.sqlite"):
        write(traced(), tmp_path / "trace.sqlite")
    with pytest.raises(ConfigError, match="report: path"):
        write(traced(), 3)  # type: ignore[arg-type]
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        write(traced(), tmp_path / "folder.html")


def test_a_trace_is_reported_into_its_folder_or_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stored = traced().save(tmp_path / "runs" / "mine")
    assert stored.report() == tmp_path / "runs" / "mine" / "report.html"
    assert "<h1>mine</h1>" in (tmp_path / "runs" / "mine" / "report.html").read_text()
    assert traced().report() == Path("report.html")
    assert traced().report("elsewhere/page.html").is_file()


def test_a_tracer_reports_what_it_traced(tmp_path: Path) -> None:
    x, y = torch.randn(64, 3), torch.arange(64) % 2
    with Tracer(nn.Sequential(nn.Linear(3, 2), nn.Tanh()), (x, y), estimators="binning") as tracer:
        tracer.snapshot(1)
    file = tracer.report(tmp_path / "page.html")
    assert file is not None
    drawn = embedded(file.read_text())
    assert I_XT in [block["quantity"] for block in drawn["runs"][0]["blocks"]]


def test_runs_are_reported_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        for variant in ("tanh", "relu"):
            traced(seeds=2).save(tmp_path / name / variant)
    claims = pd.DataFrame({"name": ["c"], "status": ["held"], "number": ["1"]})
    claims.to_csv(tmp_path / "a" / "claims.csv", index=False)
    assert main(["report", str(tmp_path / "a")]) == 0
    alone = tmp_path / "a" / "report.html"
    assert capsys.readouterr().out.strip() == str(alone)
    assert [run["name"] for run in embedded(alone.read_text())["runs"]] == ["relu", "tanh"]
    assert '<section id="claims">' in alone.read_text()
    both = tmp_path / "both.html"
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(both)]) == 0
    names = [run["name"] for run in embedded(both.read_text())["runs"]]
    assert names == ["a/relu", "a/tanh", "b/relu", "b/tanh"]
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "a")]) == 2
    assert "named twice" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 2
