"""What the world does to a run: full disks, signals, names, clocks. One line, and nothing lost."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from matplotlib.figure import Figure

from ibtrace import Keep, Look, Tracer, plots
from ibtrace.cli import main
from ibtrace.errors import ConfigError, RunError
from ibtrace.runtime.files import held
from ibtrace.trace import Trace
from ibtrace.training import config, folders, loop
from tests.test_train import raw

ROOT = Path(__file__).parent.parent
LINUX = sys.platform == "linux"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)  # a write that fails may fail as late as it can
Done = subprocess.CompletedProcess[str]


def told(*arguments: str, begin: str = "", **options: object) -> Done:
    """``ibtrace ARGUMENTS`` in a process of its own, after Python statements that prepare it."""
    code = f"{begin}\nimport sys\nfrom ibtrace.cli import main\nsys.exit(main())"
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, text=True, env=ENVIRONMENT, check=False, **given)  # type: ignore[call-overload,no-any-return]


def one_line(said: str, match: str) -> None:
    lines = [each for each in said.splitlines() if each and not each.startswith("compiled ")]
    assert len(lines) == 1, said
    assert lines[0].startswith("ibtrace: ")
    assert match in lines[0]


def numbers(trace: Trace) -> pd.DataFrame:
    return trace.frame().drop(columns="seconds")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A configuration of a network that trains in no time."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(raw(epochs=12, seeds=1)))
    return path


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """What such a network gives."""
    return loop.train(config.build(raw(epochs=12, seeds=1)), tmp_path_factory.mktemp("run"))


# --- the standard output ------------------------------------------------------------------------


@pytest.fixture
def no_reader() -> Iterator[int]:
    """The end of a pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("command", [["--version"], ["--help"], ["list"], ["list", "configs"]])
def test_a_reader_that_has_seen_enough_ends_the_command(command: list[str], no_reader: int) -> None:
    done = told(*command, stdout=no_reader)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [["list", "configs"], ["--help"]])
def test_an_output_on_a_full_disk_is_one_line(command: list[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = told(*command, stdout=full)
    assert done.returncode == 2
    one_line(done.stderr, "standard output: cannot be written (No space")


@pytest.mark.skipif(os.name == "nt", reason="files are not closed so on Windows")
def test_a_closed_output_takes_nothing_and_costs_nothing() -> None:
    code = """
import os, sys, tqdm
from ibtrace.cli import main
status = main(["list", "configs"])
[*tqdm.tqdm([1])]
sys.exit(status or os.open(sys.executable, os.O_RDONLY) <= 2)"""
    for closing in (">&-", "2>&-", "<&- >&- 2>&-"):
        command = ["sh", "-c", f'exec "$0" -c "$1" {closing}', sys.executable, code]
        assert subprocess.run(command, env=ENVIRONMENT, check=False).returncode == 0


def test_an_output_without_our_letters_is_written_with_others() -> None:
    done = told("list", begin="import sys; sys.stdout.reconfigure(encoding='ascii')")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"\xf8" in done.stdout


# --- disks and folders --------------------------------------------------------------------------


@contextmanager
def room(most: int) -> Iterator[None]:
    """Let this process write no file of more bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("most", [200, 6_000, 50_000])  # the configuration, the trace, its looks
def test_a_run_that_finds_no_room_is_one_line_and_goes_on_where_there_is_some(
    most: int, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["run", str(small), "--quiet", f"--out={out}"]
    with room(most):
        assert main(command) == 2
    one_line(capsys.readouterr().err, str(out))
    assert not list(out.glob(".*part*"))
    again = ["run", str(out), "--resume", "--quiet"] if (out / "config.yaml").exists() else command
    assert main(again) == 0
    whole = loop.train(config.build(raw(epochs=12, seeds=1)), tmp_path / "whole")
    pd.testing.assert_frame_equal(numbers(Trace.load(out)), numbers(whole))


_ON_A_SMALL_DISK = """
import shutil, subprocess, sys
from ibtrace.cli import main
config, disk, kept = sys.argv[1:]
mount = lambda *how: subprocess.run(["mount", *how, disk], check=False).returncode
if mount("-t", "tmpfs", "-o", "size=64k", "none"):
    sys.exit(77)
assert main(["run", config, "--quiet", "--out", disk + "/run"]) == 2
assert mount("-o", "remount,size=64m") == 0
assert main(["run", disk + "/run", "--quiet", "--resume"]) == 0
shutil.copytree(disk + "/run", kept)
"""


def test_a_full_disk_is_said_and_what_was_written_is_kept(small: Path, tmp_path: Path) -> None:
    """A real one, in a namespace of mounts of its own."""
    if not shutil.which("unshare") or not shutil.which("mount"):
        pytest.skip("no unshare and mount here")
    (tmp_path / "disk").mkdir()
    places = [str(tmp_path / name) for name in ("small.yaml", "disk", "kept")]
    command = ["unshare", "-rm", sys.executable, "-c", _ON_A_SMALL_DISK, *places]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert "trace.sqlite: the disk is full; what was written before is whole" in done.stderr
    assert len(Trace.load(tmp_path / "kept").verdict().layers) > 0


def test_what_does_not_fit_is_said_whoever_writes_it(tmp_path: Path) -> None:
    """The writers of torch and matplotlib fail by something else than the system did."""
    figure = Figure()
    figure.add_subplot().plot(torch.randn(20_000))
    png, pdf = (file.stat().st_size for file in plots.save(figure, tmp_path / "before"))
    assert png < pdf
    for write in (
        lambda: plots.save(figure, tmp_path / "figure"),
        lambda: loop.write_checkpoint(tmp_path, {"a": torch.randn(pdf)}),
    ):
        with room((png + pdf) // 2), pytest.raises(RunError, match=r"written \(File too large"):
            write()
    assert {path.name for path in tmp_path.iterdir()} == {"before.png", "before.pdf", "figure.png"}


@contextmanager
def bound() -> Iterator[None]:
    """Let permissions bind this thread, also if it is root's."""
    libc, header = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; and their upper halves
    libc.capget(header, sets)
    before, sets[0] = sets[0], sets[0] & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(header, sets)


@pytest.mark.skipif(not LINUX, reason="root is bound by permissions by means of Linux")
def test_a_folder_that_is_read_only_is_one_line(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["run", str(small), "--quiet", f"--out={run}"]) == 0
    frame = Trace.load(run).frame()
    commands = [
        (["run", str(small), "--quiet", f"--out={tmp_path}/other"], 2, "Permission denied"),
        (["run", str(run), "--quiet", "--resume"], 2, str(run)),
        (["plot", str(run)], 2, "Permission denied"),
        (["report", str(run), "--quiet"], 2, "Permission denied"),
        (["verdict", str(run)], 0, ""),
    ]
    for path in (*run.iterdir(), run, tmp_path):
        path.chmod(path.stat().st_mode & 0o555)
    try:
        with bound():
            for command, status, said in commands:
                capsys.readouterr()
                assert main(command) == status
                err = capsys.readouterr().err
                one_line(err, said) if status else None
    finally:
        for path in (tmp_path, run, *run.iterdir()):
            path.chmod(path.stat().st_mode | 0o200)
    pd.testing.assert_frame_equal(Trace.load(run).frame(), frame)


NAMES = {"letters": "Ωμέγα ✓ #?%$\\q$", "spaces": "  a b\n", "bytes": os.fsdecode(b"\xff\xe9")}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_folder_may_have_any_name(
    name: str, tmp_path: Path, trace: Trace, capsys: pytest.CaptureFixture[str]
) -> None:
    if not LINUX and name != NAMES["letters"]:
        pytest.skip("no such names here")
    out = str(tmp_path / name)
    trace.save(out)
    for command in ("verdict", "plot", "report"):
        assert main([command, out]) == 0
    assert len(Trace.load(out)) == len(trace)
    assert capsys.readouterr().err == ""


LONG = "x" * 300


@pytest.mark.parametrize(
    "command",
    [
        f"run {LONG}",
        f"run tishby --out {LONG}",
        f"replicate tishby --out {LONG}",
        f"replicate tishby --resume --out {LONG}",
        f"verdict {LONG}",
        f"plot {LONG}",
        f"report {LONG}",
        f"cite {LONG}",
        f"sweep tishby --grid epochs=1 --out {LONG}",
        f"trace {LONG} --checkpoints {LONG}",
        f"compare --run {LONG}",
        f"multiverse {LONG}",
    ],
)
def test_a_name_that_is_too_long_is_one_line(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "File name too long" in said
    with pytest.raises(ConfigError, match="cannot be reached"):
        Trace.load(LONG)


def test_a_path_that_sqlite_does_not_open_is_named(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["y" * 200] * 6)
    with pytest.raises(RunError, match=r"a path of \d{4} bytes, SQLite opens up to 504"):
        Trace.create(deep)
    near = tmp_path / ("z" * (504 - len(bytes(tmp_path)) - len("/trace.sqlite") - 240 - 1))
    Trace.create(near / ("z" * 200))
    assert len(Trace.load(near / ("z" * 200))) == 0


# --- signals ------------------------------------------------------------------------------------

LONG_RUN = ["--seeds=1", "--epochs=100000", "--quiet"]


def rows(file: Path) -> int:
    return len(Trace.load(file))


def stopped(command: Sequence[str], out: Path, by: signal.Signals) -> Done:
    """What a command says that is told to stop once a variant has rows."""
    line = [sys.executable, "-m", "ibtrace", *command, f"--out={out}", *LONG_RUN]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT) as process:
        while process.poll() is None and not any(map(rows, out.glob("*/trace.sqlite"))):
            time.sleep(0.05)
        process.send_signal(by)
        said = process.communicate()
    return subprocess.CompletedProcess(line, process.returncode, *said)


@pytest.mark.skipif(os.name == "nt", reason="no such signals on Windows")
@pytest.mark.parametrize("activations", [["tanh"], ["tanh", "relu"]])
def test_sigterm_ends_a_run_as_ctrl_c_does(activations: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    chosen = [word for name in activations for word in ("--activation", name)]
    done = stopped(["replicate", "tishby", *chosen], out, signal.SIGTERM)
    assert done.returncode == 143, done.stderr
    one_line(done.stderr, f"go on with: ibtrace replicate tishby --out {out} --resume")
    assert any(map(rows, out.glob("*/trace.sqlite")))
    with held(out / folders.LOCK) as free:  # nobody is left behind
        assert free
    assert not list(out.rglob(".*part*"))


def test_the_first_sigterm_counts_and_what_was_there_before_comes_back() -> None:
    from ibtrace.runtime.signals import terminated_as_interrupted

    before = signal.getsignal(signal.SIGTERM)
    with terminated_as_interrupted() as stop:
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # nothing: the end that the first began goes on
    assert stop.terminated
    assert signal.getsignal(signal.SIGTERM) is before


_LEFT = """
import os, signal, sys, time
from ibtrace.runtime.signals import end_with
parent, seconds = os.getpid() + int(sys.argv[1]), float(sys.argv[2])
begun, told = os.pipe()
if os.fork() == 0:
    end_with(parent)
    os.write(told, b"!")
    time.sleep(seconds)
    print("still here", flush=True)
    os._exit(0)
os.read(begun, 1)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="no fork on Windows")
def test_a_worker_ends_with_the_process_that_began_it() -> None:
    for other, seconds, said in [("0", "60", ""), ("1", "0.1", "still here\n")]:
        command = [sys.executable, "-c", _LEFT, other, seconds]
        # the end of the output is that of the last process that holds it
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
        assert done.stdout == said


# --- others, and other times --------------------------------------------------------------------


def test_two_processes_do_not_train_in_one_folder(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with held(out / folders.LOCK):
        for more in ([], ["--resume"]):
            if more:
                (out / folders.CONFIG).write_bytes(small.read_bytes())
            assert main(["run", str(small), f"--out={out}", "--quiet", *more]) == 2
            one_line(capsys.readouterr().err, "another process is training there")
    assert main(["run", str(out), "--resume", "--quiet"]) == 0  # a lock goes with its holder


def tracer(run: Path, *, resume: bool = False) -> Tracer:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2))
    x, y = torch.randn(32, 3), torch.arange(32) % 2
    keep = Keep(run, resume=resume)
    return Tracer(network, (x, y), estimators="exact", keep=keep, look=Look(initial=not resume))


def test_of_two_that_trace_one_seed_the_later_goes_on(tmp_path: Path) -> None:
    first = tracer(tmp_path / "run")
    first.snapshot(1)
    second = tracer(tmp_path / "run", resume=True)
    second.snapshot(2)
    second.log(2, loss=0.5)
    for late in (lambda: first.snapshot(2), lambda: first.log(2, loss=0.1)):
        with pytest.raises(RunError, match="another process traces seed 0 into this run now"):
            late()
    second.snapshot(3)
    second.close()
    trace = Trace.load(tmp_path / "run")
    assert sorted(set(trace.frame()["epoch"])) == [0, 1, 2, 3]
    assert trace.scalars().query("name == 'loss'")["value"].tolist() == [0.5]


def test_seeds_of_one_run_may_be_traced_by_several(tmp_path: Path) -> None:
    trace = Trace.create(tmp_path)
    others = [Trace.load(tmp_path) for _ in range(2)]
    for seed, other in enumerate(others):
        other.claim([seed])
    for other in others:
        other.truncate(5, [0] if other is others[0] else [1])
    with pytest.raises(RunError, match="traces seed 0"):
        others[1].truncate(5, [0])
    trace.truncate(5)  # who claimed nothing is not asked


def test_a_killed_process_leaves_nothing_that_bars_the_next(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in (".lock", ".config.0123abcd.part.yaml", ".trace.sqlite.0123abcd.part"):
        (out / name).write_bytes(b"torn" * (name != ".lock"))
    folders.prepare(out, raw(), resume=False)
    loop.train(config.build(raw(epochs=2, seeds=1)), out)
    assert len(Trace.load(out)) > 0


def backwards() -> Callable[[], float]:
    """A clock that loses an hour at each look."""
    now = [2e9]

    def look() -> float:
        now[0] -= 3600
        return now[0]

    return look


def test_a_clock_that_jumps_changes_no_number(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", backwards())
    jumping = loop.train(config.build(raw(epochs=12, seeds=1)), tmp_path, label="bar")
    pd.testing.assert_frame_equal(numbers(jumping), numbers(trace))
    assert (jumping.frame()["seconds"] >= 0).all()


def test_a_trace_of_another_version_is_told_by_the_command(
    trace: Trace, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What older ones hold is read: tests/test_old_schemas.py."""
    out = tmp_path / "run"
    trace.save(out).update_meta({"schema_version": 99})
    (out / folders.CONFIG).write_bytes(small.read_bytes())
    for command in (["verdict", str(out)], ["run", str(out), "--resume", "--quiet"]):
        assert main(command) == 2
        one_line(capsys.readouterr().err, "written by a newer ibtrace (schema 99, this one reads")
