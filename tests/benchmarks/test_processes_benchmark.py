"""The sides of the benchmark of processes compute the same, and send what the tables say."""

import json

import pytest
import torch
from misbehaving import misbehave
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from rectified_lpjepa.benchmarks import processes as benchmark
from rectified_lpjepa.benchmarks.group import run_group
from rectified_lpjepa.benchmarks.loss import Size
from rectified_lpjepa.benchmarks.processes import draw_target, features, make_objective, share_of_distance
from rectified_lpjepa.main import main
from rectified_lpjepa.objectives import Shard

VIEWS, SMALL = 3, Size(12, 8, 21)
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("raise", ProcessRaisedException, "broken on purpose"),
        ("die", ProcessExitedException, "exit code 3"),
        ("hang", TimeoutError, "2 processes did not finish within 3 s"),
    ],
)
def test_a_process_that_fails_fails_the_caller(how, error, message):
    with pytest.raises(error, match=message):
        run_group(misbehave, 2, how, timeout=3 if how == "hang" else 60)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_shares_are_those_of_the_objective_and_add_up_to_its_gradient(count):
    objective = make_objective(SMALL.directions)
    z = features(SMALL, VIEWS, CPU)
    objective.invariance_weight = 0.0
    objective(z, z, seed=benchmark.SEED, step=benchmark.STEP).loss.backward()
    whole = z.grad / objective.distribution_weight
    assert whole.norm() > 1e-3
    target, total = draw_target(objective.target, SMALL, CPU), 0.0
    for rank in range(count):
        share_of_distance(z, target, objective, Shard(rank, count))
        total = total + z.grad
    torch.testing.assert_close(total, whole)


def steps_of(rank, world_size):
    group = benchmark.Group(SMALL, VIEWS, Shard(rank, world_size), CPU)
    group.objective.invariance_weight = 0.0  # its gradient depends on how the views are shared out
    group.one()
    gradients = {"own rows": group._own_rows, "one": group.whole.grad}
    for name in ("sharded", "replicated"):
        getattr(group, name)()
        gradients[name] = group.own.grad / world_size  # averaged over the processes, as parameters' gradients are
    for name in ("collectives", "all_reduce"):
        getattr(group, name)()
        gradients[name] = group.own.grad
    gradients["whole"] = group.whole.detach()
    gradients["targets"] = [group.whole_target(), group.shared_target()]
    return gradients


def test_the_sides_of_a_step_compute_the_same():
    seen = run_group(steps_of, 2, timeout=120)
    one = seen[0]["one"]
    assert one.norm() > 1e-3
    for saw in seen:
        for name in ("sharded", "replicated"):
            torch.testing.assert_close(saw[name], one[:, saw["own rows"]])
        torch.testing.assert_close(saw["collectives"], 2 * saw["whole"][:, saw["own rows"]])
        torch.testing.assert_close(saw["all_reduce"], saw["collectives"])
        assert {target.shape for target in saw["targets"]} == {(SMALL.batch, SMALL.dim)}
        assert torch.equal(saw["targets"][1], seen[0]["targets"][1])


def test_the_command_prints_and_stores_both_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    monkeypatch.setattr(benchmark, "available_cores", lambda: 2)
    sizes = ["--views", "3", "--batch", "12", "--dim", "8", "--directions", "21", "--processes", "[1, 2, 4]"]
    main(["benchmark", "processes", *sizes, "--repeats", "1", "--device", "cpu", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "processes-cpu.json").read_text())["rows"]
    assert [row["W"] for row in rows] == [1, 2, 4]
    for row in rows:
        # Float32 features of the other processes come in, and as many gradients go out.
        count = row["W"]
        gathered = (count - 1) * (3 * (12 // count) * 8) * 4
        assert row["sent MiB"] * 2**20 == row["counted MiB"] * 2**20 == 2 * gathered
        assert row["with all-reduce MiB"] * 2**20 == 3 * gathered
        assert row["of one process"]["median"] > 0
    steps = json.loads((tmp_path / "processes-step-cpu.json").read_text())["rows"]
    assert {row["W"] for row in steps} == {2}  # four processes on two cores are not timed
    assert len(steps) == 7
    assert "one process" in printed


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    with pytest.raises(ValueError, match="multiple of each number of processes"):
        benchmark.processes((1, 3), batch=256)
