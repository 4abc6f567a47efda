"""What a wrong launch is told, environment by environment, and that right ones pass.

The variables are those that SLURM 22.05 sets; tests/slurm compares them with a real cluster's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

from rectified_lpjepa.evaluation.extraction import Devices
from rectified_lpjepa.preflight import Layout, check_launch, requested_layout, usable_accelerator
from rectified_lpjepa.trainer_checks import check_trainer


def step(per_node: str, nodes: int, tasks: int, **changes: str) -> dict[str, str]:
    """Variables of a task that srun started in a batch job."""
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_STEP_ID": "0", "SLURM_NTASKS": str(tasks)}
    variables |= {"SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_STEP_NUM_NODES": str(nodes), "SLURM_NNODES": str(nodes)}
    variables |= {"SLURM_STEP_TASKS_PER_NODE": per_node, "SLURM_NTASKS_PER_NODE": per_node[0]} | changes
    return {name: value for name, value in variables.items() if value}


def batch_script(**changes: str) -> dict[str, str]:
    return {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NNODES": "1", "SLURM_PROCID": "0"} | changes


def torchrun(processes: int, on_node: int) -> dict[str, str]:
    count = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(on_node)}
    return {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "MASTER_ADDR": "localhost"} | count


@pytest.mark.parametrize(
    ("environment", "layout"),
    [
        ({}, Layout()),
        ({}, Layout(devices=2, gpus=2, batch_size=64)),
        (torchrun(8, 4), Layout(4, 2)),
        # torchrun within a SLURM job counts, not SLURM
        (step("1(x2)", 2, 2) | torchrun(8, 4), Layout(4, 2)),
        (step("1", 1, 1), Layout()),
        (step("1", 1, 1, SLURM_NTASKS_PER_NODE=""), Layout()),
        (step("1(x2)", 2, 2), Layout(1, 2)),
        (step("4(x8)", 8, 32), Layout(4, 8, gpus=4, batch_size=256)),
        (batch_script(), Layout()),
        (batch_script(), Layout(4, gpus=4)),
        (batch_script(SLURM_NTASKS="1"), Layout()),
        # an interactive session: Lightning starts the processes itself
        (batch_script(SLURM_JOB_NAME="interactive", SLURM_NTASKS="4"), Layout(4)),
        (step("2", 1, 2, SLURM_JOB_NAME="bash", SLURM_PTY_PORT="4711"), Layout(2)),
        (step("1", 1, 1, SLURM_JOB_NAME="interactive"), Layout(2)),
    ],
)
def test_right_launches_pass(environment: dict[str, str], layout: Layout) -> None:
    check_launch(environment, layout)


def test_the_documented_batch_script_passes() -> None:
    text = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text(encoding="utf-8")
    [script] = [block for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL) if "#SBATCH" in block]
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, flags=re.MULTILINE))
    nodes, per_node = int(asked["nodes"]), int(asked["ntasks-per-node"])
    environment = step(f"{per_node}(x{nodes})", nodes, nodes * per_node, SLURM_JOB_NAME=asked["job-name"])
    given = {name: int(number) for name, number in re.findall(r"--trainer\.(\w+) (\d+)", script)}
    assert given.keys() == {"devices", "num_nodes"}
    check_launch(environment, Layout(**given, gpus=int(asked["gpus-per-node"]), batch_size=256))


WRONG: list[tuple[dict[str, str], Layout, tuple[str, ...]]] = [
    (
        step("1", 1, 1),
        Layout(4),
        ("--trainer.devices 4", "1 task(s) per node", "#SBATCH --ntasks-per-node=4", "--trainer.devices 1"),
    ),
    (step("2", 1, 2), Layout(1), ("--trainer.devices 1`, but", "2 task(s) per node", "--trainer.devices 2")),
    (step("2", 1, 2), Layout(1, is_auto=True), ("--trainer.devices auto`, 1 here", "2 task(s) per node")),
    (step("1(x2)", 2, 2), Layout(1, 1), ("--trainer.num_nodes 1", "2 node(s)", "--trainer.num_nodes 2", "--nodes=1")),
    (step("1", 1, 1), Layout(1, 2), ("--trainer.num_nodes 2", "1 node(s)", "#SBATCH --nodes=2")),
    (step("2(x2),1", 3, 5, SLURM_NTASKS_PER_NODE=""), Layout(2, 3), ("2, 2, 1 tasks on the nodes",)),
    (step("1(x2)", 2, 2, SLURM_NTASKS_PER_NODE=""), Layout(1, 2), ("without `--ntasks-per-node`", "-node=1")),
    (step("1", 1, 1, SLURM_NTASKS_PER_NODE="4"), Layout(1), ("under `--ntasks-per-node=4`", "--ntasks-per-node=1")),
    (step("1(x2)", 2, 2), Layout(4, 1), ("--trainer.num_nodes 2", "--ntasks-per-node=4")),  # both at once
    (batch_script(SLURM_NTASKS="2"), Layout(2), ("2 task(s)", "without srun", "--ntasks-per-node=2 rectified-lpjepa")),
    (batch_script(SLURM_NTASKS="1"), Layout(2), ("2 process(es) were asked for", "without srun")),
    (batch_script(SLURM_NTASKS="2"), Layout(), ("2 task(s)", "without srun")),
    (batch_script(SLURM_NNODES="2"), Layout(1, 2), ("num_nodes 2", "neither SLURM nor torchrun started this process")),
    (
        step("2", 1, 2, SLURM_JOB_NAME="interactive"),
        Layout(2),
        ("called 'interactive'", "2 tasks would train alone", "--job-name=train"),
    ),
    (step("2", 1, 2, SLURM_JOB_NAME="bash"), Layout(2), ("called 'bash'",)),
    (
        batch_script(SLURM_JOB_NAME="interactive", SLURM_NTASKS="8", SLURM_NNODES="2"),
        Layout(4, 2),
        ("neither SLURM nor torchrun started this process", "srun --nodes=2 --ntasks-per-node=4"),
    ),
    (
        step("4", 1, 4, SLURM_GPUS_PER_TASK="1", CUDA_VISIBLE_DEVICES="0"),
        Layout(4, gpus=1),
        ("needs 4 GPUs", "sees 1 (CUDA_VISIBLE_DEVICES=0)", "--gpus-per-node=4` in place of `--gpus-per-task"),
    ),
    (
        step("4", 1, 4, SLURM_GPUS_PER_TASK="1", CUDA_VISIBLE_DEVICES="0"),
        Layout(1, gpus=1, is_auto=True),
        ("needs 4 GPUs", "--gpus-per-node=4` in place of `--gpus-per-task"),
    ),
    (step("4", 1, 4), Layout(4, gpus=2), ("sees 2", "#SBATCH --gpus-per-node=4", "--trainer.devices 2")),
    ({"CUDA_VISIBLE_DEVICES": "1"}, Layout(2, gpus=1), ("sees 1 (CUDA_VISIBLE_DEVICES=1)", "--trainer.devices 1")),
    (torchrun(2, 2), Layout(4), ("2 process(es) here and 2 in all", "--trainer.devices 2", "--nproc_per_node=4")),
    (torchrun(8, 4), Layout(4, 1), ("8 in all", "--trainer.devices 4 --trainer.num_nodes 2", "--nnodes=1")),
    (torchrun(2, 2), Layout(1, is_auto=True), ("--trainer.devices auto`, 1 here", "2 process(es)")),
    ({}, Layout(1, 2), ("num_nodes 2", "neither SLURM nor torchrun started this process", "torchrun --nnodes=2")),
    (
        {},
        Layout(3, batch_size=128),
        ("batch_size 128", "3 processes (3 on each of 1 node(s))", "--data.batch_size 126"),
    ),
    (step("4(x8)", 8, 32), Layout(4, 8, batch_size=16), ("32 processes", "--data.batch_size 32")),
]


@pytest.mark.parametrize(("environment", "layout", "parts"), WRONG)
def test_wrong_launches_are_told_what_to_change(
    environment: dict[str, str], layout: Layout, parts: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="HINT") as refusal:
        check_launch(environment, layout)
    message = str(refusal.value)
    assert not [part for part in parts if part not in message], message


def trainer(**changes: Any) -> dict[str, Any]:
    return {"accelerator": "auto", "devices": "auto", "num_nodes": 1, "plugins": None} | changes


@pytest.mark.parametrize(
    ("devices", "count"), [("auto", 4), (-1, 4), ("-1", 4), (2, 2), ("2", 2), ([0, 3], 2), ("0,3", 2), ("3,", 1)]
)
@pytest.mark.parametrize("accelerator", ["auto", "gpu", "cuda"])
def test_devices_are_counted_as_lightning_does(
    monkeypatch: pytest.MonkeyPatch, devices: Any, count: int, accelerator: str
) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(CUDAAccelerator, "auto_device_count", staticmethod(lambda: 4))
    layout = requested_layout(trainer(accelerator=accelerator, devices=devices, num_nodes=2), 8)
    assert layout == Layout(count, 2, 8, gpus=4, is_auto=devices in ("auto", -1, "-1"))


def test_without_gpus_auto_is_one_process() -> None:
    assert requested_layout(trainer(accelerator="cpu"), None) == Layout(is_auto=True)


def test_what_is_not_known_here_is_left_to_lightning() -> None:
    assert requested_layout(trainer(accelerator="tpu", devices=8), 8) is None
    plugin = {"class_path": "lightning.pytorch.plugins.environments.LightningEnvironment"}
    assert requested_layout(trainer(plugins=[plugin]), 8) is None
    with pytest.raises(ValueError, match="a number, a list such as 0,1 or auto"):
        requested_layout(trainer(devices="two"), 8)


def test_the_command_line_refuses_before_it_opens_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    for name, value in step("2", 1, 2).items():
        monkeypatch.setenv(name, value)
    options = ["--model.objective=RDMReg", "--data=NpzDataModule", f"--data.path={tmp_path / 'absent.npz'}"]
    for command in ("fit", "validate"):
        message = refusal(command, *options, "--trainer.accelerator=cpu", f"--run.dir={tmp_path / 'run'}")
        assert "`--trainer.devices auto`, 1 here, but SLURM started 2 task(s) per node" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("asked", ["mps", "gpu", "lightning.pytorch.accelerators.MPSAccelerator"])
def test_a_gpu_of_apples_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refusal: Callable[..., str], asked: str
) -> None:
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: False))
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    options = ["--model.objective=RDMReg", "--data=NpzDataModule", f"--data.path={tmp_path / 'absent.npz'}"]
    message = refusal("fit", *options, f"--trainer.accelerator={asked}", f"--run.dir={tmp_path / 'run'}")
    assert "have no float64" in message
    assert "--trainer.accelerator cpu" in message
    assert not (tmp_path / "run").exists()


def test_beside_a_gpu_of_apples_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    for has_cuda, chosen in ((False, "cpu"), (True, "auto")):
        monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda has_cuda=has_cuda: has_cuda))
        assert usable_accelerator("auto") == chosen
        assert usable_accelerator("cpu") == "cpu"
    with pytest.raises(ValueError, match=r"`--accelerator cpu`"):
        Devices("mps").trainer()


def test_without_a_gpu_of_apples_everything_is_left_as_it_is() -> None:
    for asked in ("auto", "cpu", "gpu", "cuda", "tpu"):
        assert usable_accelerator(asked) == asked


def test_a_trainer_made_in_python_is_refused_a_gpu_of_apples_too() -> None:
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("mps")))
    with pytest.raises(ValueError, match="have no float64"):
        check_trainer(cast("Any", trainer), objective=cast("Any", None), batch_size=8, local_size=None)
