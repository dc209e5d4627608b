"""A real browser for tests of pages: headless Chromium, without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"),
)


class Browser:
    """A page in a tab: what it shows, logs, asks for and saves.

    Args:
        driver: Selenium's.
        saved: The folder of downloads.
    """

    def __init__(self, driver: Any, saved: Path) -> None:
        self.driver = driver
        self.saved = saved

    def open(
        self, file: Path, *, phone: bool = False, dark: bool = False, panel: str = "plane-0"
    ) -> None:
        """Open a report as a person would, and go to a figure."""
        size = {"width": 390 if phone else 1280, "height": 844, "deviceScaleFactor": 1}
        self.cdp("Emulation.setDeviceMetricsOverride", **size, mobile=phone)
        self.media(dark=dark)
        self.driver.get("about:blank")
        self.logged()
        self.requests()
        self.driver.get(file.resolve().as_uri())
        if panel:
            self.show(panel)

    def media(self, *, dark: bool = False, still: bool = False) -> None:
        """What the system prefers."""
        preferred = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if still else "no-preference",
        }
        features = [{"name": name, "value": value} for name, value in preferred.items()]
        self.cdp("Emulation.setEmulatedMedia", features=features)

    def cdp(self, command: str, **arguments: Any) -> Any:
        """A command of the browser's own protocol."""
        return self.driver.execute_cdp_cmd(command, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def settled(self) -> None:
        """Wait until what changed is drawn: two frames later."""
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)));"
        )

    def show(self, panel: str) -> None:
        """Scroll to a panel, which draws it as it is to be now."""
        self.run("document.getElementById(arguments[0]).scrollIntoView()", panel)
        self.until(
            f"const panel = PANELS.find((each) => each.id === '{panel}');"
            "return panel.at === state.at && panel.drawn.startsWith(`${state.changes},`)"
        )
        self.settled()

    def until(self, script: str) -> Any:
        """Wait until a script returns something true, and return it."""
        from selenium.webdriver.support.wait import WebDriverWait

        return WebDriverWait(self.driver, 20, 0.05).until(lambda _: self.run(script))

    def logged(self) -> list[str]:
        """Warnings and errors of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call."""
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def download(self, panel: str, kind: str) -> str:
        """Press a panel's button; the content of the file that it saves."""
        for file in self.saved.iterdir():  # a file of the same name is replaced
            file.unlink()
        self.run(
            "[...document.querySelectorAll(`#${arguments[0]} figcaption button`)]"
            ".find((button) => button.textContent === arguments[1]).click()",
            panel,
            kind,
        )
        return self.newest(kind).read_text(encoding="utf-8")

    def newest(self, kind: str) -> Path:
        """The file of a kind that was saved, once it is whole."""
        for _ in range(200):
            whole = [*self.saved.glob(f"*.{kind.lower()}")]
            if whole and whole[0].stat().st_size:
                return whole[0]
            self.settled()
        raise AssertionError(f"no {kind} was saved")


def started(folder: Path) -> Iterator[Browser]:
    """A browser, closed at the end; skips with a reason where there is none."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("needs Debian's chromium and chromium-driver")
    pytest.importorskip("selenium", reason="needs selenium: pip install '.[test]'")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*_FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    saved = folder / "saved"
    saved.mkdir()
    options.add_experimental_option("prefs", {"download.default_directory": str(saved)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    try:
        behaviour = {"behavior": "allow", "downloadPath": str(saved)}
        chromium.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        chromium.set_script_timeout(20)
        yield Browser(chromium, saved)
    finally:
        chromium.quit()
