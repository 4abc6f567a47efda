"""The wheel holds the package with its recipes and experiments, and trains by name where there is no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it, which for a pure wheel is what an installer does."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site-packages")
    # As in an environment within somebody's own project, whose commits are not ours.
    owner = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
    for command in (["init", "--quiet"], [*owner, "commit", "--quiet", "--allow-empty", "--message=theirs"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder / "site-packages"


@pytest.fixture
def run(installed: Path, tmp_path: Path):
    """Run the program of the wheel in an empty folder."""
    # Coverage is of the checkout's files.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    environment |= {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}

    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", "rectified_lpjepa", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def relative(folder: Path, pattern: str, below: str = "") -> set[str]:
    return {below + str(path.relative_to(folder)) for path in folder.rglob(pattern) if "__pycache__" not in path.parts}


def test_the_wheel_holds_the_package_and_its_recipes(installed: Path) -> None:
    package = relative(ROOT / "rectified_lpjepa", "*.*", "rectified_lpjepa/")
    recipes = relative(ROOT / "configs", "*.yaml", "rectified_lpjepa/configs/")
    experiments = {f"rectified_lpjepa/experiments/{path.name}" for path in (ROOT / "experiments").glob("*.yaml")}
    held = {name for name in relative(installed, "*.*") if ".dist-info" not in name}
    assert held == package | recipes | experiments
    (metadata,) = installed.glob("*.dist-info/METADATA")
    assert "Project-URL: Paper, https://arxiv.org/abs/2602.01456" in metadata.read_text(encoding="utf-8")


def test_the_wheel_trains_by_name(run, tmp_path: Path) -> None:
    printed = run("fit", "--config", "digits", "--trainer.max_epochs=3", "--trainer.limit_train_batches=2")
    assert "3 epochs, 6 steps" in printed
    (directory,) = (tmp_path / "runs").iterdir()
    assert directory.name.startswith("digits-")
    assert json.loads((directory / "result.json").read_text(encoding="utf-8"))["commit"] == "unknown"


def test_the_wheel_plans_sweeps_and_experiments_by_name(run, tmp_path: Path) -> None:
    assert "fit --config" in run("experiment", "run", "02", "--dry-run")
    assert run("sweep", "run", "sweeps/digits_mu", "--dry-run").count("fit --config") == 8
    assert not list(tmp_path.iterdir())
