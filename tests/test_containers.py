"""The image's parts fit together, as far as that shows without an engine; `docker/check.sh` builds and runs it."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import documents
import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGE = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8").replace("\\\n", " ")
LINES = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
COMMANDS = [line[match.start(1) :] for line in LINES if (match := re.search(r"\b((?:fit|experiment) .+)", line))]
TARGETS = [line for line in LINES if line.startswith("make ")]


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.+)$", DOCKERFILE, flags=re.MULTILINE)


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    return parsed


def in_context(path: str) -> bool:
    """Say whether .dockerignore lets a path in: the last of the lines that match it, or a folder above it, decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            parts = Path(path).parts
            tails = [parts[start:] for start in range(len(parts) if "**/" in line else 1)]
            heads = ["/".join(tail[:end]) for tail in tails for end in range(1, len(tail) + 1)]
            if any(fnmatch.fnmatchcase(head, pattern) and head.count("/") == pattern.count("/") for head in heads):
                kept = line.startswith("!")
    return kept


def test_every_source_is_there_and_in_the_context() -> None:
    sources = [source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]]
    assert len(sources) >= 7
    for source in sources:
        files = [ROOT / source] if (ROOT / source).is_file() else list((ROOT / source).rglob("*"))
        assert any(in_context(str(file.relative_to(ROOT))) for file in files), source


@pytest.mark.parametrize("folder", ["configs", "rectified_lpjepa"])
def test_the_context_has_all_of_a_folder(folder: str) -> None:
    for file in (ROOT / folder).rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert in_context(str(file.relative_to(ROOT))), file


def test_the_context_has_the_experiments_without_results_and_nothing_of_no_use() -> None:
    assert all(in_context(str(file.relative_to(ROOT))) for file in (ROOT / "experiments").glob("*.yaml"))
    for path in (
        "experiments/results/README.md",
        "runs/digits-0123abcd/result.json",
        "datasets/cifar-100-python/train",
        ".venv/bin/python",
        ".git/config",
        "rectified_lpjepa/__pycache__/cli.cpython-312.pyc",
        "rectified_lpjepa/data/__pycache__/cifar.cpython-312.pyc",
    ):
        assert not in_context(path), path


def test_the_base_is_an_argument_whose_default_has_a_python_that_the_project_supports() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)$", DOCKERFILE, flags=re.MULTILINE)
    (version,) = re.findall(r"^python:(\d+\.\d+)-slim", base)
    assert version in SpecifierSet(PROJECT["requires-python"])
    assert all(line.split()[0] == "${BASE}" for line in instructions("FROM"))


def test_what_is_installed_is_locked_with_hashes() -> None:
    downloads = re.findall(r"pip download .+?(?=&&|\n)", DOCKERFILE)
    assert len(downloads) == 1
    assert "--require-hashes" in downloads[0]
    assert "requirements.lock" in downloads[0]
    assert all("--no-index" in install for install in re.findall(r"pip \S+ \S+ install .+?(?=&&|\n)", DOCKERFILE))


def test_the_image_runs_the_program_as_a_user_without_rights() -> None:
    assert json.loads(instructions("ENTRYPOINT")[0])[0] in PROJECT["scripts"]
    assert instructions("USER") == ["10001"]
    assert "--uid 10001" in DOCKERFILE


def test_compose_keeps_runs_in_a_volume_and_reads_data_in_another() -> None:
    services = compose()["services"]
    places = [volume.removesuffix(":ro").rsplit(":", 1)[1] for volume in services["train"]["volumes"]]
    assert sorted(places) == sorted(json.loads(instructions("VOLUME")[0]))
    assert services["train"]["network_mode"] == "none"
    assert services["train-gpu"]["extends"] in services
    assert services["train-gpu"]["profiles"] == ["gpu"]
    assert set(compose()["volumes"]) <= {volume.split(":")[0] for volume in services["tensorboard"]["volumes"]}
    for service in services.values():
        if "build" in service:
            assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
            assert set(service["build"]["args"]) <= {argument.split("=")[0] for argument in instructions("ARG")}


def test_there_are_commands_to_test() -> None:
    assert len(COMMANDS) == 6
    assert len(TARGETS) == 4


@pytest.mark.parametrize("target", [*TARGETS, "make docker-check"])
def test_a_target_is_there(target: str) -> None:
    subprocess.run(["make", "--dry-run", *shlex.split(target)[1:]], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("command", [*COMMANDS, compose()["services"]["train"]["command"]])
def test_a_command_of_the_image_is_accepted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    documents.check(shlex.split(command))


def test_what_the_makefile_reproduces_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    printed = subprocess.run(
        ["make", "--dry-run", "docker-reproduce", "EXPERIMENT=02", "PROFILE=smoke"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (arguments,) = re.findall(r"rectified-lpjepa experiment (.+)$", printed, flags=re.MULTILINE)
    assert arguments.startswith("run ")
    documents.check(["experiment", *shlex.split(arguments)])


def test_the_check_is_a_script_that_bash_can_read() -> None:
    subprocess.run(["bash", "-n", "docker/check.sh"], cwd=ROOT, check=True)
    assert (ROOT / "docker" / "check.sh").stat().st_mode & 0o111
