"""What all tests share: one thread, which tests are slow, and a run of those that are left out.

``pytest -m "not slow"`` takes minutes, ``pytest`` half an hour. ``pytest --rest`` runs what the
first left out: what is slow (`tests/slow.txt`), and what it skipped for something not installed.
"""

import importlib
import os
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from hypothesis import settings

from ibtrace.errors import MissingDependency

mpl.use("Agg")
settings.register_profile("untimed", deadline=None)  # how long a case takes says what else runs
settings.load_profile("untimed")
# of the processes that tests start as well: pools of threads that spin starve each other
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

SLOW = Path(__file__).with_name("slow.txt")
"""Written by ``python -m tests.slow``: test functions, whatever their parameters, and files."""
SKIPPED = "ibtrace/skipped"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "only what is slow, and what the last run without this option skipped"
    parser.addoption("--rest", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(LeftOut(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = {line.split()[0] for line in SLOW.read_text().splitlines() if line[:1] not in ("", "#")}
    for item in items:
        if slow & {item.nodeid.partition("[")[0], item.nodeid.partition("::")[0]}:
            item.add_marker(pytest.mark.slow)
    if config.getoption("--rest"):
        cache = getattr(config, "cache", None)  # none without its plugin
        skipped = {*cache.get(SKIPPED, [])} if cache else set()
        wanted = [i for i in items if i.get_closest_marker("slow") or i.nodeid in skipped]
        config.hook.pytest_deselected(items=[item for item in items if item not in {*wanted}])
        items[:] = wanted


class LeftOut:
    """Leaves out what is not there, and takes down what was skipped, for a run of the rest.

    Args:
        config: Of this run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._ids = config, list[str]()

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Of a framework that is not installed the module has no examples that could run."""
        if collection_path.parent.name == "integrations" and collection_path.suffix == ".py":
            try:
                importlib.import_module(f"ibtrace.integrations.{collection_path.stem}")
            except MissingDependency:
                return True
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._ids.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        worker = hasattr(self._config, "workerinput")  # of pytest-xdist: the other end writes
        cache = getattr(self._config, "cache", None)  # none without its plugin
        if cache and not worker and not self._config.getoption("--rest"):
            cache.set(SKIPPED, sorted(self._ids))
