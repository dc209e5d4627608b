"""Everything that ibtrace claims of its speed, measured in one run: ``python -m benchmarks``.

One thread; CPU seconds; the ways of a case by turns, so that a machine's noise meets all of them.
It writes ``results/benchmarks.json``, the tables between the marks in ``README.md`` and
``docs/figures/benchmarks.png``; ``--quick`` takes a minute, measures small ones and writes only
where ``--out`` says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import estimators, machine, replication
from benchmarks.timing import RESULTS, environment, marked

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "figures" / "benchmarks.png"
_PEERS = ("numba", "npeet-plus", "infomeasure", "ennemi")
_MEMORY = {
    "binning of 60,000 x 1024": ("binning", 60_000, 1024),
    "KDE of 20,000 x 1024": ("kde", 20_000, 1024),
}
_PEAK = """
import resource, sys, torch
from ibtrace import estimators
from ibtrace.probe import Probe
torch.set_num_threads(1)
name, n, d = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
t = torch.randn(n, d, generator=torch.Generator().manual_seed(0)).tanh_()
estimators.information(estimators.make(name), t, Probe(torch.arange(n), torch.arange(n) % 2))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)
"""


def memory(quick: bool) -> dict[str, float]:
    """Peak GiB of a process, torch and data included, that makes one estimate."""
    found = {}
    for name, (estimator, n, d) in _MEMORY.items():
        size = (512, 32) if quick else (n, d)
        command = [sys.executable, "-c", _PEAK, estimator, *map(str, size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = round(float(done.stdout), 2)
    return found


def tables(found: Mapping[str, Any]) -> str:
    """What was found, as Markdown."""
    rates = ", ".join(f"{name} {value:g}" for name, value in found["machine"].items())
    lines = [f"One thread of this machine: {rates}.", ""]
    lines += ["| case | ibtrace (ms) | peers (ms) | times faster |", "| --- | --- | --- | --- |"]
    for case, row in found["beside peers"].items():
        others = [name for name in row["ms"] if name != estimators.OURS]
        cells = [
            f"{row['ms'][estimators.OURS]:,.4g}",
            ", ".join(f"{name} {row['ms'][name]:,.4g}" for name in others),
            ", ".join(f"{row['times faster than'][name]:.3g}" for name in others),
        ]
        lines.append("| " + " | ".join([case, *cells]) + " |")
    lines += ["", "| estimator | ms at the largest N | grows with N as | with d as |"]
    lines += ["| --- | --- | --- | --- |"]
    for name, row in found["growth"].items():
        n, seconds = [*row["N"].items()][-1]
        power = row["exponents"]
        lines.append(
            f"| `{name}` | {1e3 * seconds:,.4g} (N = {int(n):,}, d = 4) | N^{power['N']:.2g} |"
            + (f" d^{power['d']:.2g} |" if "d" in power else " one column |")
        )
    run = found["replication"]
    lines += ["", "Training and tracing, against a loop over seeds with NumPy estimates:", ""]
    lines += [f"- {name}: {row['ratio']:g} times faster" for name, row in run["ratios"].items()]
    lines += [
        f"- {what} grow the time as {what}^{power:.2g}" for what, power in run["exponents"].items()
    ]
    lines += ["", "Peak memory of a process, torch and the data included:", ""]
    lines += [f"- {name}: {gib:.2g} GiB" for name, gib in found["memory"].items()]
    return "\n".join(lines) + "\n"


def figure(found: Mapping[str, Any], path: Path) -> None:
    """Time over N of every estimator, and how many times faster than its peers."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    drawn, (left, right) = plt.subplots(
        1, 2, figsize=(12, 7), width_ratios=[1, 1.1], layout="constrained"
    )
    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    grown = sorted(found["growth"].items(), key=lambda item: -[*item[1]["N"].values()][-1])
    for (name, row), colour in zip(grown, colours, strict=False):
        n = np.array([int(each) for each in row["N"]])
        label = f"{name}  N^{row['exponents']['N']:.1f}"
        left.loglog(n, [1e3 * s for s in row["N"].values()], "o-", ms=3, color=colour, label=label)
    left.set(xlabel="samples N", ylabel="CPU time of one call, d = 4 (ms)")
    left.set_xticks(n := sorted({int(n) for row in found["growth"].values() for n in row["N"]}), n)
    left.minorticks_off()
    left.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    ratios = [
        (f"{case.replace(': N =', ', N =')}  /  {peer}", ratio)
        for case, row in found["beside peers"].items()
        for peer, ratio in row["times faster than"].items()
        if not peer.startswith(estimators.OURS)
    ][::-1]
    names, times = [name for name, _ in ratios], [ratio for _, ratio in ratios]
    right.hlines(names, 1, times, color="tab:blue", lw=1)
    right.plot(times, names, "o", ms=4, color="tab:blue")
    right.axvline(1, color="black", lw=0.8)
    right.set(xscale="log", xlabel="times faster than the peer (1: as fast)")
    right.xaxis.set_major_formatter("{x:g}")
    right.xaxis.set_minor_formatter("")
    right.tick_params(axis="y", labelsize=7)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    drawn.savefig(path, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small ones, in a minute")
    parser.add_argument("--out", type=Path, help="write the numbers and the figure here, no page")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    quick = options.quick
    found: dict[str, Any] = {"environment": environment(_PEERS)}
    found["machine"] = machine.rates(256 if quick else 2048)
    for part, rows in (
        ("beside peers", estimators.beside(quick)),
        ("growth", estimators.growth(quick)),
    ):
        found[part] = {}
        for name, row in rows:
            found[part][name] = row
            print(name, json.dumps(row, ensure_ascii=False), flush=True)
    found["replication"] = replication.measured(quick)
    found["memory"] = memory(quick)
    print(text := tables(found))
    folder = options.out or (None if quick else RESULTS)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    packed = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    (folder / "benchmarks.json").write_text(packed)
    figure(found, (folder / "benchmarks.png") if options.out else FIGURE)
    if not options.out:
        page = HERE / "README.md"
        page.write_text(marked(page.read_text(), "benchmarks", text))


if __name__ == "__main__":
    main()
