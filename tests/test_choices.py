"""A grid of analysis choices says what it makes, and what is wrong in it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ibtrace.errors import ConfigError, RunError, UnknownName
from ibtrace.estimators import KSG, Binning
from ibtrace.trace import Choices
from ibtrace.trace.choices import Judging

BINS: dict[str, Any] = {"estimator": "binning", "bins": [10, 30], "range": ["snapshot", [-1, 1]]}


def test_the_default_grid_is_whole() -> None:
    choices = Choices.read(None)
    assert len(choices) >= 120
    assert [family.name for family in choices.families][:2] == ["bins", "widths"]
    kinds = {type(e).__name__ for family in choices.families for e, _ in family.estimators}
    assert kinds == {"Binning", "AdaptiveBinning", "KDE", "MatrixRenyi", "KSG", "SoftEntropy"}
    ranges = {own.get("range") for family in choices.families for _, own in family.estimators}
    assert {"activation", "snapshot", "trace"} <= ranges


def test_every_combination_is_made_once() -> None:
    grid = {
        "samples": [1, "1/2"],
        "least_drop": [0.1, 0.5],
        "seeds": ["all", 3],
        "looks": 7,
        "families": [BINS, {"name": "nearest", "estimator": "ksg", "k": 4, "samples": "1/4"}],
    }
    choices = Choices.read(grid)
    bins, nearest = choices.families
    assert [own for _, own in bins.estimators] == [
        {"bins": "10", "range": "snapshot"},
        {"bins": "10", "range": "[-1, 1]"},
        {"bins": "30", "range": "snapshot"},
        {"bins": "30", "range": "[-1, 1]"},
    ]
    assert bins.estimators[1][0] == Binning(bins=10, range=(-1.0, 1.0))
    assert nearest.name == "nearest"
    assert nearest.estimators == ((KSG(k=4), {"k": "4"}),)
    assert nearest.samples == (Fraction(1, 4),)
    assert Judging(Fraction(1), 3, 0.5) in nearest.judgings
    assert (len(bins), len(nearest), len(choices)) == (4 * 2 * 4, 4, 36)
    assert choices.looks == 7
    assert Choices.read(choices) is choices


def test_a_grid_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("families:\n  - {estimator: binning.idnns}\n")
    assert Choices.read(file).families[0].estimators[0][0] == Binning.idnns()
    file.write_text("- 1\n")
    with pytest.raises(ConfigError, match="a grid is a mapping with families, got list"):
        Choices.read(file)
    file.write_text("a: [")
    with pytest.raises(ConfigError, match="no YAML"):
        Choices.read(file)
    with pytest.raises(RunError, match="cannot be read"):
        Choices.read(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"families": []}, ConfigError, "families must be a list with one family at least"),
        ({"families": "bins"}, ConfigError, "families must be a list"),
        ({"families": [{"bins": 3}]}, ConfigError, "a family names its estimator, got"),
        ({"families": [BINS, BINS]}, ConfigError, "two families are called 'binning'"),
        ({"families": [{"estimator": "bining"}]}, UnknownName, "no estimator is called 'bining'"),
        ({"families": [{**BINS, "bin": 3}]}, ConfigError, "bin"),
        ({"sample": 1}, ConfigError, "'sample' is unknown; a grid has families, looks, samples"),
        ({"samples": ["1/0"]}, ConfigError, "binning: samples: a share such as 1/2, got '1/0'"),
        ({"samples": [2]}, ConfigError, "samples: a share above 0, at most 1, got 2"),
        ({"training": [0]}, ConfigError, "training: a share above 0"),
        ({"training": [1, "2/2"]}, ConfigError, "training: different values"),
        ({"seeds": ["some"]}, ConfigError, "seeds .or all, best half, leave one out. must be"),
        ({"seeds": [0]}, ConfigError, "seeds"),
        ({"least_drop": [-1]}, ConfigError, "least_drop: bits, 0 or more, got -1"),
        ({"least_drop": []}, ConfigError, "least_drop: different values, one at least"),
        ({"looks": 1}, ConfigError, "looks"),
    ],
)
def test_what_is_wrong_is_named(
    changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Choices.read({"families": [BINS], **changes})


def test_a_list_that_was_meant_as_one_value_is_told_how() -> None:
    bins = {"estimator": "binning", "bins": [10, 30]}
    with pytest.raises(ConfigError, match=r"as one value write range: \[\[-1, 1\]\]$"):
        Choices.read({"families": [{**bins, "range": [-1, 1]}]})
    (family,) = Choices.read({"families": [{**bins, "range": [[-1, 1]]}]}).families
    assert [each.range for each, _ in family.estimators] == [(-1, 1), (-1, 1)]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"got 0(?!.*one value)"):
        Choices.read({"families": [{"estimator": "ksg", "k": [0, 3]}]})
