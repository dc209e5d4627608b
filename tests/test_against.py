"""Two verdicts side by side differ where, and by as much as, their runs do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ibtrace import cli
from ibtrace.errors import InvalidInput
from ibtrace.plane import against, verdict
from ibtrace.trace import Trace
from ibtrace.types import I_TY, I_XT, Row

NAN = float("nan")
EPOCHS = tuple(range(0, 101, 5))


def run(
    falls: dict[str, float],
    *,
    seeds: int = 5,
    noise: float = 0.05,
    estimator: str = "Binning",
    folder: Path | None = None,
) -> Trace:
    """Layers that rise to 8 bits in the first half, and fall by so many to the end."""
    meta = {"n": 4096, "label_entropy": 1.0, "layers": list(falls)}
    trace = Trace.create(folder, meta=meta)
    own = np.linspace(-noise, noise, seeds) if seeds > 1 else [0.0]
    trace.append(
        Row(
            *(seed, epoch, None, layer, quantity, estimator, "T in 30 bins"),
            *(bits, NAN, NAN, NAN, "", {}, 0.0),
        )
        for seed in range(seeds)
        for epoch in EPOCHS
        for layer, fall in falls.items()
        for quantity, bits in (
            (I_XT, 8 * min(1, epoch / 40) - (fall + own[seed]) * max(0, epoch - 50) / 50),
            (I_TY, 0.9),
        )
    )
    return trace


def test_a_run_against_itself_differs_in_nothing() -> None:
    same = against(verdict(run({"a": 2.0, "b": 0.0})), verdict(run({"a": 2.0, "b": 0.0})))
    assert list(same) == []
    assert same.answers == ()
    assert [change.fall.mean for change in same.findings] == [0, 0]
    assert str(same).startswith("0 answers and 0 of 2 findings (a layer by an estimator) differ")


def test_a_fall_that_is_larger_by_a_bit_is_said_with_an_interval_that_holds_it() -> None:
    held = against(verdict(run({"a": 3.0, "b": 0.0})), verdict(run({"a": 2.0, "b": 0.0})))
    (change,) = held
    assert change.finding.layer == "a"
    assert change.finding.call == change.other.call == "compresses"
    assert change.fall.mean == pytest.approx(1.0, abs=0.1)  # the end is a mean over a window
    one, two = (each.evidence.held_out for each in (change.finding, change.other))
    assert change.fall.mean == pytest.approx(one.mean - two.mean)
    half = np.sqrt(sum((each.upper - each.mean) ** 2 for each in (one, two)))  # symmetric ends
    assert change.fall.upper == pytest.approx(change.fall.mean + half)
    assert change.fall.lower == pytest.approx(change.fall.mean - half)
    assert "a by Binning: compresses; " in str(held)
    assert str(held).endswith("(sure)")
    (back,) = against(verdict(run({"a": 2.0})), verdict(run({"a": 3.0})))
    assert back.fall == pytest.approx((-change.fall.mean, -change.fall.upper, -change.fall.lower))


def test_an_answer_that_turns_is_named_by_its_question() -> None:
    held = against(verdict(run({"a": 2.0, "b": 1.0})), verdict(run({"a": 2.0, "b": -1.0})))
    (answer,) = held.answers
    assert (answer.layer, answer.question, answer.call) == ("b", "resolution", "compresses")
    assert answer.other == "does not compress"
    assert "b, seen at a resolution: compresses, there does not compress" in str(held)
    table = held.table()
    assert table["differs"].tolist() == [False, True]
    assert table["more"].tolist() == pytest.approx((table["fall"] - table["other_fall"]).tolist())


def test_calls_that_differ_without_a_sure_difference_are_told_and_not_called_sure() -> None:
    held = against(verdict(run({"a": 0.3})), verdict(run({"a": 0.2}, noise=0.5, seeds=3)))
    (change,) = held
    assert change.finding.call != change.other.call
    assert change.fall.lower < 0 < change.fall.upper
    assert "(sure)" not in str(held)


def test_what_one_run_lacks_is_named() -> None:
    held = against(verdict(run({"a": 2.0, "b": 0.0})), verdict(run({"a": 2.0, "c": 0.0})))
    assert held.alone == (
        "Only in this run: b by Binning.",
        "Only in the other run: c by Binning.",
    )
    other = against(verdict(run({"a": 1.0})), verdict(run({"a": 1.0}, estimator="KDE")))
    assert str(other).startswith("No layer is judged by the same estimator in both runs.")


def test_a_run_of_one_seed_has_a_difference_and_no_interval() -> None:
    held = against(verdict(run({"a": 2.0}, seeds=1)), verdict(run({"a": 1.0}, seeds=5)))
    (change,) = held.findings
    assert np.isnan(change.fall.lower)
    assert np.isnan(change.fall.upper)
    assert "(sure)" not in str(held)


def test_what_is_no_verdict_is_refused() -> None:
    trace = run({"a": 2.0})
    with pytest.raises(InvalidInput, match=r"two verdicts, got Trace; give trace.verdict\(\)"):
        against(verdict(trace), trace)  # type: ignore[arg-type]  # refused


def test_the_command_pairs_variants_by_name_or_one_with_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, fall in (("one", 2.0), ("two", 1.0)):
        for variant in ("tanh", "relu"):
            run({"a": fall}, folder=tmp_path / name / variant)
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert cli.main(["verdict", one, "--against", two]) == 0
    text = capsys.readouterr().out
    assert text.count("====") == text.count("(sure)") == 2
    assert cli.main(["verdict", f"{one}/tanh", "--against", two, "--estimator", "Binning"]) == 0
    assert capsys.readouterr().out.count("(sure)") == 2
    run({"a": 1.0}, folder=tmp_path / "three" / "elu")
    run({"a": 1.0}, folder=tmp_path / "three" / "gelu")
    assert cli.main(["verdict", one, "--against", str(tmp_path / "three")]) == 2
    assert "the runs share no variant: " in capsys.readouterr().err
