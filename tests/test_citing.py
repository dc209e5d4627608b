"""``ibtrace cite``: every source that the package names has its entry, and a run names its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch import nn

import ibtrace
from ibtrace import Keep, Tracer, estimators, lenses, papers
from ibtrace.cli import main
from ibtrace.reports import citing

_ROOT = Path(__file__).parent.parent
_YEAR = re.compile(r"\b(19|20)\d\d\b")


def sources() -> Iterator[str]:
    for name in estimators.registry:
        yield estimators.make(name).tags.reference
    for name in lenses.names():
        yield lenses.make(name).tags.reference
    for name in papers.PAPERS:
        paper = papers.find(name)
        yield from (claim.source for claim in paper.claims)
        yield from (prediction.source for prediction in paper.predictions)


@pytest.mark.parametrize("source", sorted({*sources()}))
def test_every_source_with_a_year_has_its_entry(source: str) -> None:
    for part in filter(_YEAR.search, source.split(";")):
        found = citing.cited(part)
        assert found
        for entry in found:
            assert entry.key in citing.entries(), part
            assert _YEAR.search(entry.bibtex)
        years = [match[0] for match in _YEAR.finditer(part.partition("arXiv")[0])]
        assert sorted(entry.key[-4:] for entry in found) == sorted(years)


def test_the_first_author_is_meant_and_no_other() -> None:
    for words, keys in {
        "Goldfeld & Greenewald 2021, NeurIPS; Goldfeld et al. 2022": "goldfeld2021 goldfeld2022",
        "Chung, Lee & Sompolinsky 2018": "chung2018",
        "Cohen et al. 2021, Cohen et al. 2022": "cohen2021 cohen2022",
        "Goodfellow, Vinyals & Saxe 2015": "goodfellow2015",
        "Sánchez Giraldo, Rao & Principe 2015": "sanchezgiraldo2015",
        "after Zhang et al. 2017": "zhang2017",
        "Somebody & Zhang 2017": "somebodyzhang2017",
        "{mine}": "mine",
    }.items():
        assert " ".join(entry.key for entry in citing.cited(words)) == keys


def test_entries_are_bibtex_of_different_keys_in_order() -> None:
    text = (Path(citing.__file__).parent / "references.bib").read_text()
    keys = re.findall(r"^@\w+\{([^,]+),$", text, re.MULTILINE)
    assert [*citing.entries()] == keys
    assert keys[1:] == sorted({*keys[1:]})
    for entry in citing.entries().values():
        assert entry.bibtex.count("{") == entry.bibtex.count("}")
        assert re.search(r"^  title = \{.+\},$", entry.bibtex, re.MULTILINE)
        assert entry.key == "ibtrace" or citing.cited(" ".join(_said_of(entry))) == [entry]


def _said_of(entry: citing.Entry) -> tuple[str, str]:
    author = re.search(r"author = \{([^,]+)", entry.bibtex)
    assert author
    return author[1], entry.key[-4:]


def test_a_run_cites_what_it_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = torch.rand(64, 3), torch.arange(64) % 2
    keep = Keep(tmp_path / "run")
    model, names = nn.Linear(3, 2), ["ksg", "binning"]
    with Tracer(model, (x, y), estimators=names, lenses=["saturation"], keep=keep):
        pass
    claims = pd.DataFrame({"name": ["a", "b"], "source": ["Ross 2014; mine", None]})
    claims.to_csv(tmp_path / "run" / "claims.csv")
    assert main(["cite", str(tmp_path / "run")]) == 0
    text = capsys.readouterr().out
    keys = re.findall(r"^@\w+\{([^,]+),$", text, re.MULTILINE)
    assert keys == ["ibtrace", "kraskov2004", "shwartzziv2017", "saxe2018", "ross2014", "mine"]
    assert "% KSG\n@article{kraskov2004" in text
    assert "% claims\n@article{ross2014" in text
    assert main(["cite"]) == 0
    assert capsys.readouterr().out.count("@") == 1
    assert main(["cite", str(tmp_path / "none")]) == 2


def test_what_is_said_of_the_project_to_machines_is_said_alike() -> None:
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    meta = json.loads((_ROOT / "docs" / "codemeta.json").read_text())
    cff = yaml.safe_load((_ROOT / "CITATION.cff").read_text())
    for name in ("name", "description", "keywords"):
        assert meta[name] == project[name]
    assert meta["version"] == cff["version"] == ibtrace.__version__
    assert meta["license"].endswith(f"/{project['license']}")
    assert cff["license"] == project["license"]
    assert [re.split("[<>=]", each)[0] for each in project["dependencies"]] == meta[
        "softwareRequirements"
    ]
    assert meta["runtimePlatform"] == f"Python {project['requires-python']}"
    assert [each["name"] for each in meta["author"]] == [each["name"] for each in cff["authors"]]
