"""``ibtrace doctor``: what is there, what is missing for which command, and what is wrong."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from ibtrace.cli import main
from ibtrace.reports import doctor

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
_GROUPS = {
    "sweep",
    "integrations",
    "docs",
    "test",
    "test-integrations",
    "dev",
}  # of other extras, or for who works on ibtrace


def said(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    return main(["doctor"]), capsys.readouterr().out


def test_every_extra_is_told() -> None:
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert {*doctor.EXTRAS} == {*extras} - _GROUPS


def test_a_machine_that_has_all_is_told_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, text = said(capsys)
    assert (status, text.splitlines()[-1]) == (0, "Nothing is wrong.")
    for name in ("torch", "numpy", "seaborn", "npeet-plus", "CUDA", *doctor.EXTRAS):
        assert f"\n  {name} " in text
    assert str(tmp_path / "runs") in text


def test_what_is_missing_is_told_with_what_needs_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ripser", "seaborn"):
        monkeypatch.setitem(sys.modules, name, None)
    status, text = said(capsys)
    assert status == 1
    assert "the lens topology needs pip install 'ibtrace[topology]'" in text
    *_, last = text.splitlines()
    assert last.startswith("WRONG: seaborn: ModuleNotFoundError")
    assert "pip install 'seaborn" in last


def test_a_folder_of_data_that_is_none_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IBTRACE_DATA", str(tmp_path / "nowhere"))
    status, text = said(capsys)
    assert status == 1
    assert "is not a folder" in text.splitlines()[-1]


def test_a_look_that_fails_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> int:
        raise OSError("no such device")

    monkeypatch.setattr("torch.cuda.device_count", broken)
    status, text = said(capsys)
    assert status == 1
    assert "WRONG: devices: OSError: no such device" in text
    assert "\n  MNIST " in text


@pytest.mark.parametrize("there", [[], ["test"], ["train", "test"]])
def test_parts_of_data_that_are_not_there_are_told(
    there: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("ibtrace.datasets.mnist")  # not the function
    monkeypatch.setattr(module, "held", lambda: dict.fromkeys(there, tmp_path))
    _, text = said(capsys)
    for part in ("train", "test"):
        assert (f"{part} images in {tmp_path}" in text) == (part in there)
        assert (f"no {part} images: downloaded when" in text) == (part not in there)
