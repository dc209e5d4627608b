"""Size of the report of a large synthetic run, and how long a browser takes to open it.

    python benchmarks/report_page.py [RUN…]

Without a run: 50 seeds, 300 looks, 6 layers, 4 estimators. Needs Debian's chromium and
chromium-driver, and selenium. *open* is from the address to the first figures drawn, the middle of
five times; *step* how long a move of the slider takes with the plane of the first estimator in
sight, over all looks. *cpu* is what the page's main thread worked in that time, which other
processes on the machine do not lengthen.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ibtrace.page import write
from ibtrace.reports.paging import write_page
from ibtrace.runtime.schedule import log_spaced
from tests.browser import Browser, started
from tests.report_traces import traced


def main(runs: list[str]) -> None:
    folder = Path(tempfile.mkdtemp())
    file = folder / "report.html"
    begin = time.perf_counter()
    if runs:
        write_page(runs, file)
    else:
        looks = [at for at in range(10_001) if log_spaced(10_000, 465)(at)]
        layers, estimators = (
            [f"hidden{at}" for at in range(1, 7)],
            ["Binning", "Exact", "KDE", "KSG"],
        )
        trace = traced(seeds=50, epochs=looks, layers=layers, estimators=estimators)
        print(f"{len(looks)} looks; made in {time.perf_counter() - begin:.0f} s")
        begin = time.perf_counter()
        write(trace, file)
    print(f"written in {time.perf_counter() - begin:.0f} s: {file.stat().st_size / 1e6:.2f} MB")
    for browser in started(folder):
        times = [opened(browser, file) for _ in range(5)]
        wall, cpu = (statistics.median(kind) for kind in zip(*times, strict=True))
        print(f"open: {wall:.2f} s, cpu {cpu:.2f} s")
        before = worked(browser)
        wall, looks_shown = browser.driver.execute_async_script(_STEPS)
        cpu = (worked(browser) - before) / looks_shown
        print(f"step: {1000 * wall:.0f} ms, cpu {1000 * cpu:.0f} ms")


_STEPS = """
    const done = arguments[0]; let at = 0; const begin = performance.now();
    const step = () => {
        if (at === LOOKS.length) 
            return done([(performance.now() - begin) / LOOKS.length / 1000, LOOKS.length]);
        goTo(at++); requestAnimationFrame(() => setTimeout(step, 0));
    };
    step();
"""


def worked(browser: Browser) -> float:
    """Seconds that the main thread has worked since the page was asked for."""
    metrics = browser.cdp("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def opened(browser: Browser, file: Path) -> tuple[float, float]:
    """Seconds until the first figures are drawn, and those of work in them."""
    size = {"width": 1280, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
    browser.cdp("Emulation.setDeviceMetricsOverride", **size)
    browser.driver.get("about:blank")
    browser.driver.set_script_timeout(300)
    browser.cdp("Performance.disable")
    browser.cdp("Performance.enable", timeDomain="threadTicks")
    before, begin = worked(browser), time.perf_counter()
    browser.driver.get(file.as_uri())
    browser.until("return !!document.getElementById('plane-0-draw').data")
    browser.settled()
    return time.perf_counter() - begin, worked(browser) - before


if __name__ == "__main__":
    main(sys.argv[1:])
