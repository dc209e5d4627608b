"""The report in a real browser: it asks for nothing, moves, keeps what was chosen, is for all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ibtrace import Keep, Tracer
from ibtrace.page import write
from ibtrace.plane import interval, mean_coordinates
from ibtrace.trace import Trace
from ibtrace.types import I_TY, I_XT
from tests.browser import Browser, started
from tests.report_traces import EPOCHS, LAYERS, traced
from tests.test_page import GRID, HOSTILE, fallen, made_of, said_of


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    yield from started(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    return {"tanh": traced(), "relu": traced(fall=0.5, draw=1)}


@pytest.fixture(scope="module")
def file(traces: dict[str, Trace], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(traces, tmp_path_factory.mktemp("page") / "report.html")


# What Plotly was given to draw of one subplot: the large marks, one for each layer.
_MARKS = """
    const draw = document.getElementById(arguments[0]);
    return draw.data
        .filter((t) => (t.xaxis ?? 'x') === arguments[1] && t.name !== undefined && t.x.length)
        .map((t) => [t.name, t.x[0], t.y[0]]);
"""
_NOW = "return document.getElementById('now').textContent"


def marks(browser: Browser, axis: str = "x") -> dict[str, tuple[float, float]]:
    """Where the large marks of the plane stand, by layer."""
    return {name: (x, y) for name, x, y in browser.run(_MARKS, "plane-0-draw", axis)}


def slide(browser: Browser, at: int) -> None:
    """Move the slider as a hand does."""
    browser.run(
        "const slider = document.getElementById('look'); slider.value = arguments[0];"
        "slider.dispatchEvent(new Event('input', { bubbles: true }));",
        at,
    )
    browser.settled()


def toggle(browser: Browser, name: str) -> None:
    """Press the checkbox of that name."""
    browser.run(
        "[...document.querySelectorAll('#filters label')]"
        ".find((label) => label.textContent === arguments[0]).querySelector('input').click()",
        name,
    )
    browser.settled()


def press(browser: Browser, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser.driver).send_keys(*keys).perform()
    browser.settled()


def test_it_asks_for_nothing_and_logs_no_error(browser: Browser, file: Path) -> None:
    browser.open(file)
    for panel in browser.run("return [...document.querySelectorAll('.panel')].map((p) => p.id)"):
        if not browser.run("return document.getElementById(arguments[0]).hidden", panel):
            browser.show(panel)
    slide(browser, 2)
    browser.download("plane-0", "SVG")
    assert browser.logged() == []
    asked = [url for url in browser.requests() if not url.startswith(("blob:", "data:"))]
    assert asked == [file.as_uri()]
    assert browser.run("return performance.getEntriesByType('resource').length") == 0


def test_the_browser_itself_forbids_requests_and_other_scripts(
    browser: Browser, file: Path
) -> None:
    browser.open(file)
    said = browser.driver.execute_async_script(
        "const done = arguments[0]; const said = [];"
        "document.addEventListener('securitypolicyviolation', (e) => said.push("
        "e.effectiveDirective));"
        "fetch('http://127.0.0.1:9/').catch(() => {});"
        "const image = new Image(); image.src = 'http://127.0.0.1:9/a.png';"
        "const script = document.createElement('script');"
        "script.textContent = 'window.broken = 1'; document.body.append(script);"
        "const span = document.createElement('span'); document.body.append(span);"
        "span.setAttribute('onclick', 'window.broken = 2'); span.click();"
        "setTimeout(() => done(said.sort()), 200);"
    )
    assert said == ["connect-src", "img-src", "script-src-attr", "script-src-elem"]
    assert browser.run("return window.broken") is None


def test_the_slider_moves_what_is_drawn_to_the_means_at_its_epoch(
    browser: Browser, file: Path, traces: dict[str, Trace]
) -> None:
    browser.open(file)
    for at, epoch in ((len(EPOCHS) - 1, 300), (0, 0), (3, 5)):
        slide(browser, at)
        assert browser.run(_NOW) == f"epoch {epoch}"
        for axis, trace in zip(("x", "x2"), traces.values(), strict=True):
            means = mean_coordinates(trace.frame())
            means = means[(means["epoch"] == epoch) & (means["estimator"] == "Binning")]
            drawn = marks(browser, axis)
            assert [*drawn] == list(LAYERS)
            for layer, x, y in means[["layer", I_XT, I_TY]].itertuples(index=False):
                assert drawn[layer] == pytest.approx((x, y), rel=1e-5)
    marked = browser.run(
        "return [...document.querySelectorAll('#plane-0-draw .scatterlayer .point')].length"
    )
    assert marked >= 2 * len(LAYERS) * 5  # the marks are there to see, with four seeds each


def test_the_slider_draws_its_line_on_every_curve(browser: Browser, file: Path) -> None:
    browser.open(file)
    browser.show("curve-0-0")
    slide(browser, 4)
    lines = browser.run(
        "return document.getElementById('curve-0-0-draw').layout.shapes"
        ".filter((s) => s.line.dash === 'dot').map((s) => s.x0)"
    )
    assert lines == pytest.approx([np.log10(11)] * 2)
    browser.show("quantity-1")
    assert browser.run(
        "return document.getElementById('quantity-1-draw').layout.shapes.map((s) => s.x0)"
    ) == pytest.approx([np.log10(11)] * 2)


def test_bands_are_the_intervals_over_the_seeds_that_are_shown(
    browser: Browser, file: Path, traces: dict[str, Trace]
) -> None:
    browser.open(file)
    toggle(browser, "2")
    browser.show("curve-0-0")
    band, line = browser.run(
        "return document.getElementById('curve-0-0-draw').data.slice(0, 2)"
        ".map((trace) => [...trace.y])"
    )
    frame = traces["tanh"].frame()
    frame = frame[
        (frame["layer"] == "hidden1")
        & (frame["estimator"] == "Binning")
        & (frame["quantity"] == I_XT)
        & (frame["seed"] != 2)
    ]
    for at, epoch in enumerate(EPOCHS):
        mean, lower, upper = interval(frame[frame["epoch"] == epoch]["bits"].to_numpy())
        assert line[at] == pytest.approx(mean, rel=1e-5)
        assert band[at] == pytest.approx(upper, rel=1e-5)
        assert band[-1 - at] == pytest.approx(lower, rel=1e-5)


def test_what_was_chosen_survives_the_slider(browser: Browser, file: Path) -> None:
    browser.open(file)
    toggle(browser, "hidden2")
    toggle(browser, "relu")
    toggle(browser, "KDE")
    toggle(browser, "1")
    browser.run("Plotly.relayout('plane-0-draw', {'xaxis.range': [7, 9], 'yaxis.range': [0, 1]})")
    for at in (0, 5):
        slide(browser, at)
        browser.show("plane-1")
        assert [*marks(browser)] == ["hidden1", "output"]
        assert browser.run("return document.getElementById('plane-0-draw').layout.xaxis2") is None
        seeds = browser.run(
            "return document.getElementById('plane-0-draw').data"
            ".filter((t) => t.marker && t.marker.size === 5).map((t) => t.x.length)"
        )
        assert seeds == [3, 3]
        zoom = browser.run("return document.getElementById('plane-0-draw')._fullLayout.xaxis.range")
        assert zoom == [7, 9]
        boxes = browser.run(
            "return [...document.querySelectorAll('#filters input:not(:checked)')]"
            ".map((box) => box.parentElement.textContent)"
        )
        assert boxes == ["relu", "hidden2", "1"]
    toggle(browser, "hidden2")
    assert [*marks(browser)] == list(LAYERS)


def test_no_name_runs_or_is_shown_as_anything_but_itself(browser: Browser, tmp_path: Path) -> None:
    names = HOSTILE[::3]  # of runs; layers and estimators have all
    traces = {name: made_of(name, HOSTILE) for name in names}
    whole = "".join(HOSTILE)
    file = write(traces, tmp_path / "page.html", **said_of(whole))
    browser.open(file)
    assert browser.run("return document.querySelector('h1').textContent") == whole
    labels = "return [...document.querySelectorAll('#filters label')].map((l) => l.textContent)"
    assert browser.run(labels)[: len(names) + 2 * len(HOSTILE)] == [*names, *HOSTILE, *HOSTILE]
    texts = "return [...document.querySelectorAll('#plane-0-draw text')].map((t) => t.textContent)"
    assert not {*names} - {*browser.run(texts)}  # each above its subplot, letter for letter
    places = browser.run(
        "return document.getElementById('plane-0-draw').data.map((t, at) => [t, at])"
        ".filter(([t]) => t.xaxis === 'x' && t.name && t.x.length).map(([, at]) => at)"
    )
    assert len(places) == len(HOSTILE)
    for place in places[::2]:
        browser.run("Plotly.Fx.hover('plane-0-draw', [{curveNumber: arguments[0], "
                    "pointNumber: 0}])", place)  # fmt: skip
        hover = "return document.querySelector('#plane-0-draw .hoverlayer')?.textContent"
        assert any(name.replace(",", " ") in browser.until(hover) for name in HOSTILE)
    browser.run("document.querySelector('#plane-0 details').open = true")
    browser.until("return !!document.querySelector('#plane-0 tbody th')")
    heads = "return [...document.querySelectorAll('#plane-0 tbody th')].map((h) => h.textContent)"
    assert {*browser.run(heads)} == {*HOSTILE}
    table = pd.read_csv(io.StringIO(browser.download("plane-0", "CSV")), keep_default_na=False)
    assert {*table["layer"]} == {*HOSTILE}
    ElementTree.fromstring(browser.download("plane-0", "SVG"))
    browser.show("quantity-1")
    assert browser.run("return document.querySelectorAll('.draw a, .draw img').length") == 0
    assert browser.run("return window.broken") is None
    assert browser.run("return ({}).layers") is None  # nothing got a prototype of its own
    assert browser.logged() == []


def test_a_figure_is_saved_as_svg_with_its_legend(browser: Browser, file: Path) -> None:
    browser.open(file, dark=True)
    for panel in ("plane-0", "curve-0-1"):
        browser.show(panel)
        root = ElementTree.fromstring(browser.download(panel, "SVG"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text") if node.text]
        texts += [node.text for node in root.iter("{http://www.w3.org/2000/svg}tspan") if node.text]
        for text in (*LAYERS, "tanh", "relu", "I(T;Y) (bits)"):
            assert text in texts
        assert len([*root.iter("{http://www.w3.org/2000/svg}path")]) > 20
        # on white, whatever the page is on
        background = root.find(".//{http://www.w3.org/2000/svg}rect")
        assert background is not None
        assert "rgb(255, 255, 255)" in background.attrib["style"]


def test_the_data_of_a_figure_are_those_of_the_trace(
    browser: Browser, file: Path, traces: dict[str, Trace]
) -> None:
    browser.open(file)
    toggle(browser, "3")
    table = pd.read_csv(io.StringIO(browser.download("plane-0", "CSV")))
    assert list(table["run"].unique()) == ["tanh", "relu"]
    assert len(table) == 2 * len(LAYERS) * 2 * len(EPOCHS)
    for row in table.iloc[::7].to_dict("records"):
        frame = traces[row["run"]].frame()
        frame = frame[
            (frame["layer"] == row["layer"])
            & (frame["epoch"] == row["epoch"])
            & (frame["estimator"] == row["instrument"])
            & (frame["quantity"] == row["quantity"])
            & (frame["seed"] != 3)
        ]
        assert row["seeds"] == 3
        assert (row["mean"], row["lower"], row["upper"]) == pytest.approx(
            interval(frame["bits"].to_numpy()), rel=1e-5
        )
        for seed, bits in zip(frame["seed"], frame["bits"], strict=True):
            assert row[f"seed {seed}"] == pytest.approx(bits, rel=1e-6)
        assert np.isnan(row["seed 3"])
        flagged = "near_ceiling (2 of 3 seeds)"
        assert row["flags"] == flagged if row["layer"] == "hidden1" else pd.isna(row["flags"])


def test_the_keyboard_alone_is_enough(browser: Browser, file: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(file)
    focused = "return document.activeElement.id || document.activeElement.textContent"
    press(browser, Keys.TAB)
    assert browser.run(focused) == "To the verdict"
    seen = []
    for _ in range(60):
        press(browser, Keys.TAB)
        seen.append(browser.run(focused))
        if seen[-1] == "look":
            break
    assert seen[-2:] == ["play", "look"]
    press(browser, Keys.HOME)
    assert browser.run(_NOW) == "epoch 0"
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.run(_NOW) == "epoch 2"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.run(outline) == "solid"
    press(browser, Keys.TAB, Keys.TAB)  # past the fold's summary
    while browser.run("return document.activeElement.type") != "checkbox":
        press(browser, Keys.TAB)
    first = browser.run("return document.activeElement.parentElement.textContent")
    press(browser, Keys.SPACE)
    assert first == "tanh"
    browser.show("plane-0")
    assert marks(browser, "x2") == {}
    for _ in range(80):
        press(browser, Keys.TAB)
        if browser.run("return document.activeElement.textContent") == "CSV":
            break
    for file in browser.saved.iterdir():
        file.unlink()
    press(browser, Keys.ENTER)
    assert browser.newest("CSV").read_text().startswith("run,instrument")


def test_play_goes_through_training_and_stops_at_its_end(browser: Browser, file: Path) -> None:
    browser.open(file)
    press_play = "document.getElementById('play').click()"
    pressed = "return document.getElementById('play').getAttribute('aria-pressed')"
    seen = browser.driver.execute_async_script(
        "const done = arguments[0]; const seen = [];"
        "const now = document.getElementById('now');"
        "new MutationObserver(() => { seen.push(now.textContent);"
        f"if (now.textContent === 'epoch {EPOCHS[-1]}') setTimeout(() => done(seen), 0); }})"
        ".observe(now, { childList: true, characterData: true, subtree: true });"
        f"{press_play}"
    )
    assert seen == [f"epoch {epoch}" for epoch in EPOCHS]
    assert browser.run(pressed) == "false"
    browser.run(press_play)
    assert browser.run(pressed) == "true"
    slide(browser, 1)  # a hand on the slider stops it
    assert browser.run(pressed) == "false"
    assert browser.run(_NOW) == "epoch 1"


def test_who_wants_no_motion_sees_a_few_stills(browser: Browser, tmp_path: Path) -> None:
    file = write(traced(epochs=range(48), seeds=1, layers=["a"]), tmp_path / "long.html")
    browser.open(file)
    browser.media(still=True)
    assert browser.run("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    browser.run("document.getElementById('play').click()")
    browser.until(f"{_NOW} !== 'epoch 0'")
    assert browser.run(_NOW) == "epoch 4"  # 48 looks in 12 stills
    browser.run("document.getElementById('play').click()")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_scrolls_one_way(browser: Browser, tmp_path: Path, dark: bool) -> None:
    long = "a_module_with_a_name_as_long_as_they_get.of.a.transformer.that.nobody.shortened.12"
    trace = traced(layers=[long, "b"], estimators=[f"Binning({long})"], config={long: {long: long}})
    file = write({long: trace, "b": traced()}, tmp_path / "long.html", **said_of(long))
    browser.open(file, phone=True, dark=dark)
    browser.run("for (const fold of document.querySelectorAll('details')) fold.open = true")
    for panel in ("plane-0", "curve-0-0", "quantity-0"):
        browser.show(panel)
    width = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert browser.run(width) == [390, 390]
    wide = browser.run(
        "return [...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, svg') "
        "&& e.getBoundingClientRect().right > 391).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []


_CONTRAST = """
    const channel = (c) => (c /= 255) <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
    const light = (rgb) => rgb.slice(0, 3).map(channel)
        .reduce((sum, c, at) => sum + c * [.2126, .7152, .0722][at], 0);
    const numbers = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
    const behind = (e) => {
        for (; e; e = e.parentElement) {
            const colour = numbers(getComputedStyle(e).backgroundColor);
            if (colour[3] !== 0) return colour;
        }
        return [255, 255, 255];
    };
    return [...document.querySelectorAll(arguments[0])].map((e) => {
        const style = getComputedStyle(e);
        const ink = light(numbers(e instanceof SVGElement ? style.fill : style.color));
        const paper = light(behind(e));
        return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    });
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_can_be_read_in_both_modes(browser: Browser, file: Path, dark: bool) -> None:
    browser.open(file, dark=dark)
    behind = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, behind[4:-1].split(","))) < 3 * 60) is dark
    browser.run("document.querySelector('#plane-0 details').open = true")
    texts = "h1, h2, h3, p, li, a, pre, button, legend, label, dt, dd, th, td, summary, output"
    contrasts = browser.run(_CONTRAST, f":is({texts}):not(.skip)")
    assert len(contrasts) > 100
    assert min(contrasts) >= 4.5
    drawn = browser.run(_CONTRAST, "#plane-0-draw text")
    assert min(drawn) >= 4.5


def test_the_mode_can_change_while_the_page_is_open(browser: Browser, file: Path) -> None:
    ink = "return document.getElementById('plane-0-draw').layout.font.color"
    browser.open(file)
    light = browser.run(ink)
    browser.media(dark=True)
    browser.until(f"{ink} !== '{light}'")
    browser.run(
        "const colours = [...document.querySelectorAll('select')].at(-1); colours.value = 'light';"
        "colours.dispatchEvent(new Event('change'))"
    )
    browser.settled()
    assert browser.run(ink) == light


def test_a_screen_reader_has_names_tables_and_headings(browser: Browser, file: Path) -> None:
    browser.open(file)
    browser.show("curve-0-0")
    browser.run("for (const d of document.querySelectorAll('#curve-0-0 details')) d.open = true")
    browser.until("return !!document.querySelector('#curve-0-0 table')")
    heads = browser.run(
        "return [...document.querySelectorAll('#curve-0-0 thead th')].map((h) => h.textContent)"
    )
    assert heads == ["layer", "run", "epoch", I_XT, "seeds", "flags", "fails"]
    rows = "return document.querySelectorAll('#curve-0-0 tbody tr').length"
    assert browser.run(rows) == 2 * len(LAYERS) * len(EPOCHS)
    tree = browser.cdp("Accessibility.getFullAXTree")["nodes"]
    named: dict[str, list[Any]] = {}
    for node in tree:
        if not node["ignored"]:
            name = node.get("name", {}).get("value", "")
            named.setdefault(node["role"]["value"], []).append(name)
    for role in ("button", "checkbox", "slider", "combobox", "image", "link", "table"):
        assert named[role], role
        assert all(named[role]), role
    assert len(set(named["button"]) & {"Information plane by Binning as SVG"}) == 1
    levels = browser.run(
        "return [...document.querySelectorAll('h1, h2, h3, h4')].filter((h) => h.offsetParent)"
        ".map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert browser.run("return document.documentElement.lang") == "en"


def test_the_table_follows_the_slider(browser: Browser, file: Path) -> None:
    browser.open(file)
    browser.run("document.querySelector('#plane-0 details').open = true")
    cell = "return document.querySelector('#plane-0 tbody td:nth-child(3)')?.textContent"
    browser.until(f"{cell} === '300'")
    slide(browser, 1)
    assert browser.run(cell) == "1"


def test_maps_are_drawn_with_the_scales_of_a_sure_fall(browser: Browser, tmp_path: Path) -> None:
    trace = fallen(tmp_path / "run")
    resolution = trace.resolution([0.25, 0.5, 1.0, 2.0, 4.0])
    browser.open(trace.report(resolution=resolution), panel="map-0-0")
    heat, peaks = browser.run(
        "return document.getElementById('map-0-0-draw').data.map((t) => [t.x, t.y, t.z])"
    )
    assert heat[0] == pytest.approx(np.log10(1 + np.arange(16)))
    assert heat[1] == [-2, -1, 0, 1, 2]
    assert np.array(heat[2]) == pytest.approx(resolution.of("a").mean_x, abs=1e-6)
    assert [x is not None for x in peaks[0]] == [False, True, True, True, False]
    (bar,) = browser.run(
        "return document.getElementById('map-0-0-draw').layout.shapes"
        ".filter((s) => s.type === 'rect').map((s) => [s.y0, s.y1])"
    )
    assert bar == [-1.5, 1.5]
    table = pd.read_csv(io.StringIO(browser.download("map-0-1", "CSV")))
    assert len(table) == 5 * 16
    assert table["mean"].to_numpy() == pytest.approx(resolution.of("a").mean_y.ravel(), abs=1e-6)
    ElementTree.fromstring(browser.download("map-0-0", "SVG"))
    assert browser.logged() == []


def test_a_map_without_labels_has_its_table_too(browser: Browser, tmp_path: Path) -> None:
    model, x = nn.Sequential(nn.Linear(3, 2), nn.Tanh()), torch.rand(32, 3)
    keep = Keep(tmp_path / "run", activations=True)
    with Tracer(model, data=x, estimators=["binning"], keep=keep) as tracer:
        tracer.snapshot(1)
    trace = tracer.trace
    browser.open(trace.report(resolution=trace.resolution([0.25, 0.5])), panel="map-0-0")
    browser.run("document.querySelector('#map-0-0 details').open = true")
    browser.until("return document.querySelectorAll('#map-0-0 tbody tr').length === 2")
    assert len(pd.read_csv(io.StringIO(browser.download("map-0-0", "CSV")))) == 2 * 2
    assert browser.logged() == []


def test_many_quantities_stand_folded_by_lens_and_are_drawn_when_opened(
    browser: Browser, tmp_path: Path
) -> None:
    x, y = torch.rand(32, 3), torch.arange(32) % 2
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))
    lenses = ["geometry", "neural_collapse", "norms"]
    with Tracer(model, data=(x, y), estimators=["binning"], lenses=lenses) as tracer:
        tracer.snapshot(1)
    browser.open(write({"": tracer.trace}, tmp_path / "many.html"), panel="curve-0-0")
    folded = "[...document.querySelectorAll('#quantities details.folded')]"
    told = browser.run(f"return {folded}.map((each) => each.firstChild.textContent)")
    named = [each.split(":")[0] for each in told]
    assert {name.removeprefix("read by ") for name in named[:-1]} == {
        "NeuralCollapse",
        "Norms",
        "Geometry",
    }
    assert "distinct_rows" in told[-1]
    figures = f"{folded}.map((each) => each.querySelectorAll('figure').length)"
    assert sum(browser.run(f"return {figures}")) > 12
    panel = browser.run(f"return {folded}.at(-1).querySelector('figure').id")
    drawn = f"return PANELS.find((each) => each.id === '{panel}').drawn"
    assert browser.run(drawn) is None
    browser.run(f"{folded}.at(-1).open = true")
    browser.show(panel)
    assert browser.run(drawn)
    assert browser.logged() == []


def test_a_trace_without_a_finite_number_is_still_a_page(browser: Browser, tmp_path: Path) -> None:
    file = write(traced(fall=np.nan, lens="", logged=False), tmp_path / "nothing.html")
    browser.open(file, panel="")
    assert browser.logged() == []
    links = browser.run(
        "return [...document.querySelectorAll('#contents a')].map((a) => a.textContent)"
    )
    assert links == ["Verdict", "Configuration and provenance"]


def test_every_analysis_is_a_mark_with_its_choices_below(browser: Browser, tmp_path: Path) -> None:
    trace = fallen(tmp_path / "run")
    judged = trace.multiverse(GRID)
    browser.open(trace.report(multiverse=judged), panel="specification-0-0")
    *curves, dots = browser.run(
        "return document.getElementById('specification-0-0-draw').data.map((t) => [t.x, t.y])"
    )
    falls = dict(sorted((x, y) for xs, ys in curves for x, y in zip(xs, ys, strict=True)))
    assert [*falls] == list(range(len(judged)))
    assert [*falls.values()] == pytest.approx(sorted(judged.table["held_out"]))
    varied = judged.of("a").varied
    assert len(dots[0]) == len(judged) * len(varied)
    table = pd.read_csv(io.StringIO(browser.download("specification-0-0", "CSV")))
    assert table["mean"].to_numpy() == pytest.approx(sorted(judged.table["held_out"]))
    ElementTree.fromstring(browser.download("specification-0-0", "SVG"))
    browser.run("document.querySelector('#specification-0-0 details').open = true")
    browser.until("return document.querySelectorAll('#specification-0-0 tbody tr').length === 4")
    assert browser.logged() == []


def test_hovering_tells_layer_epoch_bits_interval_and_flags(browser: Browser, file: Path) -> None:
    browser.open(file)
    slide(browser, 3)
    browser.run("Plotly.Fx.hover('plane-0-draw', [{curveNumber: 5, pointNumber: 0}])")
    said = browser.until("return document.querySelector('#plane-0-draw .hoverlayer')?.textContent")
    assert "hidden1 · epoch 5" in said
    for part in ("I(X;T) 9.", "bits [", "mean of 4 seeds", "standard error 0.01"):
        assert part in said
    assert "I(X;T) flagged near_ceiling (2 of 4 seeds)" in said


_LARGE = """
    const draw = document.getElementById('plane-0-draw');
    return draw.data.filter((t) => (t.xaxis ?? 'x') === 'x' && t.name !== undefined && t.x.length)
        .map((t) => [t.name, t.marker.color]);
"""


def test_a_layer_most_of_whose_points_fail_a_check_is_hollow(browser: Browser, file: Path) -> None:
    browser.open(file)
    slide(browser, 0)
    filled = dict(browser.run(_LARGE))
    assert len(set(filled.values())) == len(LAYERS)
    for seed in ("0", "1"):  # of the others hidden2 is below zero by Binning
        toggle(browser, seed)
    hollow = dict(browser.run(_LARGE))
    paper = browser.run("return THEMES[themeNow()].paper")
    assert [name for name, colour in hollow.items() if colour == paper] == ["hidden2"]
    browser.run("Plotly.Fx.hover('plane-0-draw', [{curveNumber: 9, pointNumber: 0}])")
    said = browser.until("return document.querySelector('#plane-0-draw .hoverlayer')?.textContent")
    assert "fails: below_zero (2 of 2 seeds)" in said
    slide(browser, 1)
    assert paper not in dict(browser.run(_LARGE)).values()
