"""A grid: what is asked for is what the jobs are, each once, each under a name of its own."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ibtrace.errors import ConfigError, RunError
from ibtrace.training import config, configs, jobs
from ibtrace.training.grid import Plan, parsed

BASE: dict[str, Any] = {
    "model": {"class_path": "ibtrace.models.MLP", "init_args": {"activation": "tanh"}},
    "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
    "seeds": 2,
}

scalars = st.one_of(
    st.integers(-5, 5), st.booleans(), st.floats(-9, 9), st.text(max_size=6), st.none()
)
several = st.lists(scalars | st.lists(scalars, max_size=3), min_size=1, max_size=4, unique_by=repr)


def test_the_keys_are_those_that_an_experiment_takes() -> None:
    assert configs.KEYS == config._hints().keys()


@given(a=several, b=several, seeds=st.integers(1, 5), per_job=st.integers(1, 3))
def test_every_combination_is_a_point_and_every_seed_of_it_is_in_one_job(
    a: list[Any], b: list[Any], seeds: int, per_job: int
) -> None:
    grid = {"batch_size": a, "optimizer.init_args.lr": b, "seeds": [*range(seeds)]}
    plan = Plan.of(BASE, grid, per_job)
    asked = [repr(pair) for pair in product(a, b)]
    assert [repr(tuple(point.values.values())) for point in plan.points.values()] == asked
    for point in plan.points.values():
        assert point.raw["optimizer"]["init_args"]["lr"] in b
        mine = [seed for job in plan.jobs if job.point == point.name for seed in job.seeds]
        assert mine == point.raw["seeds"] == [*range(seeds)]
    names = [job.name for job in plan.jobs]
    assert len({*names}) == len(names)
    assert all(Path(name).name == name and len(name) < 200 for name in names)
    assert {job.number: job for job in plan.jobs} == dict(enumerate(plan.jobs))


@given(n=st.integers(1, 12), tasks=st.none() | st.integers(1, 15))
def test_the_tasks_of_an_array_share_the_jobs_out(n: int, tasks: int | None) -> None:
    plan = Plan.of(BASE, {"seeds": [*range(n)]})
    shares = [plan.share(task, tasks) for task in range(n if tasks is None else tasks)]
    assert sorted(job.number for share in shares for job in share) == [*range(n)]
    with pytest.raises(ConfigError, match=r"#SBATCH --array=0-"):
        plan.share(len(shares), tasks)


def test_variants_are_an_axis_unless_the_grid_has_all_that_they_set() -> None:
    tishby = configs.read("tishby")
    plan = Plan.of(tishby, parsed(["optimizer.init_args.lr=1e-3,1e-4"]))
    assert [*plan.points][:2] == ["variant=tanh, lr=0.001", "variant=tanh, lr=0.0001"]
    assert plan.points["variant=relu, lr=0.001"].raw["model"]["init_args"]["activation"] == "relu"
    over = Plan.of(tishby, parsed(["model.init_args.activation=elu,tanh"]))
    assert [*over.points] == ["activation=elu", "activation=tanh"]
    assert "variants" not in over.points["activation=elu"].raw
    one = Plan.of(tishby, parsed(["variant=relu", "epochs=1"]))
    assert [*one.points] == ["variant=relu, epochs=1"]
    lin = {**tishby, "variants": {"a": {"epochs": 3, "batch_size": 2}, "b": {"epochs": 4}}}
    with pytest.raises(ConfigError, match="epochs was set, but variant a sets epochs itself"):
        Plan.of(lin, parsed(["epochs=1,2"]))
    with pytest.raises(ConfigError, match="no variant 'selu'; there are tanh, relu"):
        Plan.of(tishby, parsed(["variant=selu"]))
    with pytest.raises(ConfigError, match="no variant 'a'; the configuration has none"):
        Plan.of(BASE, parsed(["variant=a"]))


def test_values_that_read_alike_have_names_of_their_own() -> None:
    grid = parsed(["model.init_args.activation=a/b,a b", "model.init_args.widths=[12, 2],[12, 3]"])
    plan = Plan.of(BASE, grid)
    assert [*plan.points][:2] == [
        "activation=a_b~0, widths=12-2",
        "activation=a_b~0, widths=12-3",
    ]
    both = Plan.of(BASE, parsed(["optimizer.init_args.lr=1", "model.init_args.lr=1"]))
    assert [*both.points] == ["optimizer.init_args.lr=1, model.init_args.lr=1"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["tishby"], "takes KEY=VALUE,VALUE …, got 'tishby'"),
        (["lr="], "takes KEY=VALUE,VALUE …, got 'lr='"),
        (["epochs=1", "epochs=2"], "has epochs twice; give all its values at once, epochs=A,B"),
        (["epochs=1,1"], "epochs: 1 is there twice"),
        (["epochs=9..1"], "epochs: 9..1 is no range"),
        (["epochs=[1"], "epochs: .* is not YAML"),
        (["seeds=5"], "seeds=5 may be one seed or 5: write seeds=0..4 or seeds=5..5"),
    ],
)
def test_a_grid_that_cannot_be_read_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"--grid {message}"):
        parsed(texts)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["epoch=1"], "no key 'epoch' in a configuration; there are batch_size"),
        (["model=a", "model.init_args.activation=b"], "has model, and .* inside it"),
        (["seeds=a,b"], "seeds must be different whole numbers such as 0..49"),
        (["seeds.a=1"], "seeds is .*, not a mapping"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan.of(BASE, parsed(texts))


def test_controls_and_jobs_without_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match="a sweep has no controls"):
        Plan.of({**BASE, "controls": ["frozen"]}, {})
    with pytest.raises(ConfigError, match="--seeds-per-job must be 1 or more, got 0"):
        Plan.of(BASE, {}, 0)


def test_a_folder_holds_one_sweep(tmp_path: Path) -> None:
    folder, texts = tmp_path / "sweep", ["epochs=1,2", "seeds=0..3"]
    plan = Plan.of(BASE, parsed(texts), 2)
    jobs.prepare(folder, plan)
    jobs.prepare(folder, Plan.of(BASE, parsed(texts), 2))
    assert jobs.stored_plan(folder) == plan
    others = {
        r"grid.epochs was \[1, 2\], not \[1, 3\]": (["epochs=1,3", "seeds=0..3"], 2),
        r"seeds was \[0, 1, 2, 3\], not \[0, 1\]": (["epochs=1,2", "seeds=0..1"], 2),
        "seeds_per_job was 2, not 1": (texts, 1),
    }
    for message, (other, per_job) in others.items():
        with pytest.raises(RunError, match=f"holds another sweep: {message}"):
            jobs.prepare(folder, Plan.of(BASE, parsed(other), per_job))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="exists already, and is no sweep"):
        jobs.prepare(tmp_path, Plan.of(BASE, {}))
    with pytest.raises(RunError, match=r"no sweep.yaml there"):
        jobs.stored_plan(tmp_path)
    (tmp_path / jobs.SWEEP).write_text(yaml.safe_dump({"grid": {}}))
    with pytest.raises(RunError, match="not the record of a sweep, or damaged"):
        jobs.stored_plan(tmp_path)
