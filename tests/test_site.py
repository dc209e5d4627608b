"""The site names every page, command, key and public name once; its strict build is in .ci/run."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from ibtrace import cli, estimators, lenses, problems
from ibtrace.errors import ConfigError
from ibtrace.training import config, configs
from tests.test_layers import EXPORTS, LEVEL, ROOMS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
HOOKS = ("api", "commands", "estimators", "keys", "places", "rooms")


@pytest.fixture(scope="module")
def hooks() -> Iterator[dict[str, ModuleType]]:
    """The modules that make pages, as mkdocs imports them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(DOCS / "hooks"), *sys.path])
        yield {name: importlib.import_module(name) for name in HOOKS}
    for name in HOOKS:
        sys.modules.pop(name, None)


def site() -> dict[str, Any]:
    """The site's configuration."""

    class Loader(yaml.SafeLoader):
        """YAML whose Python objects, which only mkdocs needs, are left out."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    found: dict[str, Any] = yaml.load((ROOT / ".mkdocs.yml").read_text(), Loader)
    return found


def named(entry: Any) -> Iterator[str]:
    """The pages that an entry of the navigation names."""
    if isinstance(entry, str):
        yield entry
    else:
        for each in entry.values() if isinstance(entry, dict) else entry:
            yield from named(each)


def test_the_navigation_names_every_page_once(hooks: dict[str, ModuleType]) -> None:
    told = Counter(named(site()["nav"]))
    assert set(told.values()) == {1}
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    made = {*hooks["api"].pages(), "api/estimators.md", "commands.md", "keys.md", "imports.md"}
    brought = {at for at in hooks["places"].brought() if not at.startswith("files/")}
    assert set(told) == written | made | brought


def test_what_is_loaded_is_on_the_machine() -> None:
    """No font, script or picture is asked for from anywhere."""
    assert site()["theme"]["font"] is False
    assert {"search", "offline"} <= {str(plugin) for plugin in site()["plugins"]}
    asked = re.findall(
        r"(?:src|href|url)\W+https?://\S+", (DOCS / "theme" / "site.css").read_text()
    )
    assert not asked


def test_every_command_and_each_of_its_options_is_told(hooks: dict[str, ModuleType]) -> None:
    (commands,) = (action.choices for action in cli._parser()._actions if action.choices)
    assert isinstance(commands, dict)
    page = hooks["commands"].page()
    parts = dict(re.findall(r"^## ibtrace (\w+)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    assert list(parts) == list(commands)
    for name, parser in commands.items():
        offered = set(re.findall(r"(?<!\w)--?\w[\w-]*", parser.format_usage())) - {"-h"}
        rows = re.findall(r"^\| (`.*?) \|", parts[name], re.MULTILINE)
        assert set(re.findall(r"(?<![\w-])--?\w[\w-]*", " ".join(rows))) == offered | (
            {"--out"} if "-o" in offered else set()
        )
        assert parser.description in parts[name]


def test_every_key_is_told_with_its_type_and_what_it_means(hooks: dict[str, ModuleType]) -> None:
    page = hooks["keys"].page()
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    names = [name for name, *_ in rows]
    assert {name for name in names if "." not in name} == configs.KEYS
    assert len(names) == len({*names})
    assert {"split.fraction", "split.how", "probe.part", "probe.samples"} < {*names}
    assert "`variants`" in page
    assert "`controls`" in page


def test_the_keys_that_are_needed_are_those_without_which_nothing_is_built(
    hooks: dict[str, ModuleType],
) -> None:
    page = hooks["keys"].page()
    needed = re.findall(r"^\| `(\w+)` \| [^|]+, needed \|", page, re.MULTILINE)
    whole = configs.variants(configs.read("tishby"))["tanh"]
    assert config.build({key: whole[key] for key in needed}).training.epochs == whole["epochs"]
    for left_out in needed:
        with pytest.raises(ConfigError, match=left_out):
            config.build({key: whole[key] for key in needed if key != left_out})


def directives(hooks: dict[str, ModuleType]) -> Counter[str]:
    """How often each name is told on a page of the API."""
    text = "\n".join([*hooks["api"].pages().values(), hooks["estimators"].page()])
    told = re.findall(r"^::: (\S+)\n(?:    options:\n      heading: (\S+)$)?", text, re.MULTILINE)
    return Counter(heading or path for path, heading in told)


def test_no_name_of_the_api_means_a_module(hooks: dict[str, ModuleType]) -> None:
    """Of a function in a module of its own name, its path alone would show the module."""
    text = "\n".join([*hooks["api"].pages().values(), hooks["estimators"].page()])
    paths = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert "ibtrace.datasets.ngrams.ngrams" in paths
    assert not [path for path in paths if _is_module(path)]


def _is_module(path: str) -> bool:
    try:
        return importlib.util.find_spec(path) is not None
    except ImportError:  # a name inside what is no package, or of a framework that is missing
        return False


def resolved(name: str) -> Any:
    """The object that a name of the API means."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_every_public_name_is_on_exactly_one_page(hooks: dict[str, ModuleType]) -> None:
    told = directives(hooks)
    assert set(told.values()) == {1}
    public = {f"ibtrace.{name}" for name, at in EXPORTS.items() if at != f"ibtrace.{name}"}
    assert public - {*told} == set()
    for integration in ("lightning", "huggingface", "ignite", "tensorboard", "wandb", "mlflow"):
        assert any(name.startswith(f"ibtrace.integrations.{integration}.") for name in told)
    found = [resolved(name) for name in told if ".integrations." not in name]
    for registry in (estimators.registry, lenses.registry, problems.registry):
        assert all(sum(each is one for one in found) == 1 for each in registry.values())


def test_the_estimators_tables_are_their_tags(hooks: dict[str, ModuleType]) -> None:
    page = hooks["estimators"].page()
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", page, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(estimators.names())
    for name, cells in rows:
        tags = estimators.make(name).tags
        assert tags.estimand in cells.replace(r"\|", "|")
        assert tags.reference in cells.replace(r"\|", "|")


def test_the_rooms_are_those_of_the_layer_test(hooks: dict[str, ModuleType]) -> None:
    assert hooks["rooms"].table() == ROOMS
    page = hooks["rooms"].page()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert {name: int(row) for name, row, _ in rows} == LEVEL
    for name, row, used in rows:
        below = [LEVEL[other] for other in re.findall(r"`(\w+)`", used)]
        assert all(level < int(row) for level in below), name
    assert "`estimators`" in dict((name, used) for name, _, used in rows)["measure"]
    architecture = hooks["rooms"].drawn((DOCS / "architecture.md").read_text())
    assert "mermaid" not in architecture
    assert "capture · measure · lenses" in architecture


def test_a_link_out_of_docs_leads_to_a_page_of_the_site(hooks: dict[str, ModuleType]) -> None:
    places = hooks["places"]
    text = "[a](../README.md#b), [c](extending.md), [d](https://e.org), [f](#g)\n"
    fence = "```\n[h](../README.md)\n```\n"
    assert places.relinked(text + fence, DOCS, "runs.md") == (
        "[a](index.md#b), [c](extending.md), [d](https://e.org), [f](#g)\n" + fence
    )
    deeper = places.relinked(
        "[a](../../README.md) ![b](../figures/bound.png)", DOCS / "papers", "papers/zhang.md"
    )
    assert deeper == "[a](../index.md) ![b](../figures/bound.png)"
    home = places.relinked("[a](docs/papers/README.md) [b](benchmarks)", ROOT, "index.md")
    assert home == "[a](papers/README.md) [b](benchmarks.md)"
    nowhere = "[a](../nowhere.md)"
    assert places.relinked(nowhere, DOCS, "runs.md") == nowhere  # and the strict build says so


def test_whatever_a_page_links_to_is_brought_to_the_site(hooks: dict[str, ModuleType]) -> None:
    places, seen = hooks["places"], 0
    brought = places.brought()
    pages = [*DOCS.rglob("*.md"), *(ROOT / name for name in places.NAMED)]
    for page in pages:
        for path in places.targets(page.read_text(), page.parent):
            assert path.is_relative_to(DOCS) or places.place(path) in brought
            seen += 1
    assert seen > 100
    assert "information_plane.png" in str(brought["files/runs/reference/information_plane.png"])


def test_the_build_is_strict() -> None:
    """Told to be quiet, mkdocs counts no warnings, and strict means nothing."""
    (command,) = re.findall(r"mkdocs build .*", (ROOT / ".ci" / "run").read_text())
    assert "--strict" in command
    assert not {"-q", "--quiet"} & {*command.split()}
    checks = site()["validation"]
    assert checks["links"]["anchors"] == checks["links"]["not_found"] == "warn"
    assert checks["nav"]["omitted_files"] == checks["nav"]["not_found"] == "warn"


def test_examples_in_docstrings_are_code(hooks: dict[str, ModuleType]) -> None:
    pytest.importorskip("griffe")
    doctests = importlib.import_module("doctests")
    text = (
        "A.\n\n>>> a\n1\n\nB.\n\nExample:\n    >>> for x in y:\n    ...     x\n    [1,\n     2]\n"
    )
    assert doctests.fenced(text) == (
        "A.\n\n```pycon\n>>> a\n1\n```\n\nB.\n\nExample:\n"
        "    ```pycon\n    >>> for x in y:\n    ...     x\n    [1,\n     2]\n    ```\n"
    )
    assert doctests.fenced("no example > here") == "no example > here"
