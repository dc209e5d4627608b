"""One process of the two that test_distributed starts: ``python -m tests.ranks NAME RANK DIR``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from ibtrace.capture import Look
from ibtrace.errors import ConstantMean, InvalidInput
from ibtrace.estimators import Binning, Exact, SoftEntropy
from ibtrace.probe import Probe
from ibtrace.tracer import Tracer
from ibtrace.types import Estimator
from tests import zoo
from tests.arguments import grouped
from tests.decoders import Decoder, tokens

N = 24
Result = dict[str, Any]


def whole(case: zoo.Case) -> Probe:
    """The probe of all ranks together."""
    return Probe(*case.data(N))


def part(case: zoo.Case, first: int = N // 2) -> Probe:
    """This rank's part of the probe: the first samples, or the others."""
    return whole(case).take(slice(first) if dist.get_rank() == 0 else slice(first, None))


def parallel(model: nn.Module) -> nn.Module:
    return DistributedDataParallel(model)


def sharded(model: nn.Module, *, blocks: bool = True) -> nn.Module:
    """The model's parameters in two parts; with its blocks sharded by themselves as well."""
    mesh = init_device_mesh("cpu", (2,))
    for block in model.children() if blocks else ():
        if any(True for _ in block.parameters()):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def training(
    case: zoo.Case,
    wrap: Callable[[nn.Module], nn.Module],
    folder: Path,
    tracer: Callable[[nn.Module], Tracer] | None,
    *,
    validated: bool = False,
) -> Result:
    """Train on this rank's half of each batch, weights saved at each snapshot by rank 0.

    Args:
        case: Model and data.
        wrap: Makes the model a distributed one.
        folder: Where the weights go.
        tracer: Makes the tracer; None trains without.
        validated: Forward the model in eval mode before each snapshot, as a validation does.
    """
    model = wrap(case.model())
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    keep(model, folder, 0)
    look = tracer(model) if tracer else None
    losses = []
    for step, (x, y) in enumerate(zoo.batches(case), start=1):
        torch.manual_seed(step)
        mine = slice(dist.get_rank(), None, 2)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(zoo.logits(model, zoo.part(x, mine)), y[mine])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        keep(model, folder, step)  # before the rest: it parts an FSDP2 model's parameters again
        if validated:
            with torch.no_grad():
                zoo.logits(model.eval(), x)
            model.train()
        if look:
            kinds = [type(parameter) for parameter in model.parameters()]
            look.snapshot(step)
            # a validation leaves parameters whole, where a snapshot parts them again
            assert validated or [type(parameter) for parameter in model.parameters()] == kinds
    if look:
        look.close()
    keep(model, folder, step)
    return {
        "losses": losses,
        "marks": zoo.marks(model),
        "optimizer": zoo.plain(optimizer.state_dict()),
        "generators": zoo.generators(),
        "rows": look.trace.frame() if look else None,
        "verdict": str(look.verdict()) if look else None,
    }


def keep(model: nn.Module, folder: Path, epoch: int) -> None:
    """Save the whole weights."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(model, options=options)
    if dist.get_rank() == 0:
        folder.mkdir(exist_ok=True)
        torch.save(state, folder / f"epoch{epoch}.pt")


def data_parallel(folder: Path) -> Result:
    """DDP with a tracer on the wrapper, on its module, and with none."""
    case = zoo.ZOO["resnet"]

    def through(model: nn.Module, *, inner: bool) -> Tracer:
        traced = model.module if inner else model
        assert isinstance(traced, nn.Module)
        name = "inner" if inner else "outer"
        return Tracer(traced, whole(case), every=1, keep=folder / f"run-{name}")

    train = partial(training, case, parallel)
    return {
        "untraced": train(folder / "untraced", None),
        "outer": train(folder / "outer", partial(through, inner=False)),
        "inner": train(folder / "inner", partial(through, inner=True)),
    }


def fully_sharded(folder: Path) -> Result:
    """FSDP2 by blocks and as a whole, with a tracer and with none."""
    case = zoo.ZOO["resnet"]

    def tracer(model: nn.Module) -> Tracer:
        return Tracer(model, whole(case), every=1)

    as_one, train = partial(sharded, blocks=False), partial(training, case)
    return {
        "blocks": train(sharded, folder / "blocks", tracer),
        "blocks untraced": train(sharded, folder / "untraced", None),
        "one": train(as_one, folder / "one", tracer),
        "one untraced": train(as_one, folder / "untraced", None),
        "validated": train(as_one, folder / "validated", tracer, validated=True),
        "validated untraced": train(as_one, folder / "untraced", None, validated=True),
    }


class Uneven(nn.Module):
    """A network of which a layer mixes its samples on one rank, where it is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.act, self.side = nn.Linear(6, 3), nn.Tanh(), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        self.side(x.sort(0).values if dist.get_rank() else x)
        out: Tensor = self.act(self.fc(x))
        return out


def parts_of_a_probe(folder: Path) -> Result:
    """A probe in parts, for each model and layers of `PARTS`."""
    with pytest.raises(InvalidInput, match="parts of the probe of one size on all ranks"):
        Tracer(sharded(zoo.mlp()), part(zoo.ZOO["mlp"], 10), look=Look(sharded=True))
    x, rank = torch.randn(4, 6), dist.get_rank()
    for y in (["a", "bc"[rank]] * 2, torch.tensor([0.0, 1.0, 1.0, 0.0]) + 0.5 * rank):
        with pytest.raises(InvalidInput, match=r"do not read their labels alike.*classes="):
            Tracer(parallel(zoo.mlp()), (x, y), look=Look(sharded=True))
    with pytest.raises(InvalidInput, match=r"do not trace the same layers \(here .*exclude="):
        Tracer(
            parallel(Uneven()), (torch.randn(20, 6), torch.arange(20) % 2), look=Look(sharded=True)
        )
    named = Probe(x, ["a", "bc"[rank]] * 2, ["a", "b", "c"])
    whole_probe = Tracer(
        parallel(zoo.mlp()), named, estimators=["exact"], look=Look(sharded=True)
    ).probe
    assert rank or whole_probe.y.tolist() == [0, 1, 0, 1, 0, 2, 0, 2]

    def train(name: str, way: Way) -> Result:
        case = zoo.ZOO[way.model]

        def tracer(model: nn.Module) -> Tracer:
            here = part(case, way.first)
            return Tracer(model, here, **grouped(every=1, sharded=True, **way.arguments))

        return training(case, way.wrap, folder / name, tracer)

    return {name: train(name, way) for name, way in PARTS.items()}


@dataclass(frozen=True)
class Way:
    """One way of tracing with a probe in parts.

    Args:
        model: A name of the zoo.
        wrap: Makes the model a distributed one.
        first: How many samples rank 0 has.
        arguments: Of the tracer.
    """

    model: str
    wrap: Callable[[nn.Module], nn.Module]
    first: int
    arguments: Mapping[str, Any] = field(default_factory=dict)


PARTS = {
    "lstm": Way("lstm", parallel, 10),
    "sharded lstm": Way("lstm", sharded, 12),
    "batch norm": Way("resnet", parallel, 12),
    "tokens": Way("gpt2", parallel, 9, {"reduce": "tokens", "layers": "transformer.h.?.mlp"}),
}
ADDING: list[Estimator] = [SoftEntropy(points=5), Exact(), Binning(bins=4, range=(-1, 1))]


def streams(wrap: Callable[[nn.Module], nn.Module], probe: Probe, **arguments: Any) -> Tracer:
    """A tracer of tokens whose layers do not fit into memory, but for what ``arguments`` say."""
    torch.manual_seed(0)
    given = {"reduce": "tokens", "max_bytes": 200, "batch_size": 4, **arguments}
    look = Look(["blocks.0", "blocks.1"], **given)
    return Tracer(wrap(Decoder()), probe, estimators=ADDING, look=look)


def means(probe: Probe, max_bytes: int | None) -> Tracer:
    """A tracer of means that differ between samples, and between ranks, by rounding alone."""
    net = nn.Sequential(nn.InstanceNorm1d(8), nn.Flatten(), nn.Linear(40, 2))
    look = Look(["0"], reduce="gap:first", batch_size=4, max_bytes=max_bytes, sharded=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantMean)
        return Tracer(parallel(net), probe, estimators=[Exact()], look=look)


def added_up(folder: Path) -> Result:
    """Statistics that add up over batches and over the ranks' parts of a probe."""
    as_one, first = partial(sharded, blocks=False), dist.get_rank() == 0
    uneven, even = (slice(n) if first else slice(n, None) for n in (11, 15))
    tracers = {
        "parts": streams(parallel, tokens().take(uneven), sharded=True),
        "parts of both": streams(as_one, tokens().take(even), sharded=True),
        "whole probe": streams(parallel, tokens()),
        "sharded model": streams(as_one, tokens()),
    }
    x = torch.randn(30, 8, 5, generator=torch.Generator().manual_seed(0))
    here = Probe(x, torch.arange(30) % 2).take(uneven)
    tracers |= {"means held": means(here, None), "means": means(here, 100)}
    return {name: tracer.trace.frame() for name, tracer in tracers.items()}


SCENARIOS = {f.__name__: f for f in (data_parallel, fully_sharded, parts_of_a_probe, added_up)}


def main() -> None:
    name, rank, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    torch.save(SCENARIOS[name](folder), folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
