"""The files around the code agree with it: versions, Pythons, make targets of the workflows, citation."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import rectified_lpjepa

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def jobs(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))["jobs"]


def made(text: str) -> set[str]:
    """Collect the targets of the make commands in a text."""
    commands = re.findall(r"(?<![\w-])make((?: [a-z][a-z-]*)+)", text)
    return {target for command in commands for target in command.split()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_make_targets_that_there_are(path: Path) -> None:
    steps = [step for job in jobs(path.name).values() for step in job["steps"]]
    called = made("\n".join(step.get("run", "") for step in steps))
    assert called
    assert called <= TARGETS
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in steps if "uses" in step)


def test_the_workflow_runs_all_that_a_change_must_pass() -> None:
    steps = [step.get("run", "") for job in jobs("ci.yml").values() for step in job["steps"]]
    required = made((ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert {"lint", "test"} <= required <= made("\n".join(steps))


def test_the_workflow_tests_what_the_package_says_it_runs_on() -> None:
    declared = {name for name in PROJECT["classifiers"] if re.search(r"Python :: 3\.", name)}
    pythons = jobs("ci.yml")["test"]["strategy"]["matrix"]["python"]
    assert {f"Programming Language :: Python :: {python}" for python in pythons} == declared
    assert PROJECT["requires-python"] == f">={pythons[0]},<3.{int(pythons[-1].partition('.')[2]) + 1}"
    bounds = {name: bound for name, _, bound in (part.partition(">=") for part in PROJECT["dependencies"])}
    packages = {row["torch"]: row["packages"] for row in jobs("ci.yml")["torch"]["strategy"]["matrix"]["include"]}
    assert packages["lowest"] == f"torch=={bounds['torch']}.* torchvision=={bounds['torchvision']}.*"


def test_the_commands_for_contributors_are_make_targets() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    quoted = "\n".join(re.findall(r"`+([^`]+)`+", text))
    assert {"setup", "lint", "test", "format", "dist"} <= made(quoted) <= TARGETS
    for path in re.findall(r"`((?:rectified_lpjepa|tests|configs|experiments)[\w/.]*)`", text):
        assert (ROOT / path).exists(), path


def test_all_files_tell_the_same_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert newest is not None
    assert {PROJECT["version"], citation["version"], newest[1]} == {rectified_lpjepa.__version__}
    assert citation["license"] == PROJECT["license"]
    assert citation["preferred-citation"]["url"] == PROJECT["urls"]["Paper"]


def test_the_forms_for_issues_can_be_filled_in() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert [form.stem for form in forms] == ["bug", "new_method", "question"]
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "labels", "body"} == content.keys()
        assert any(part.get("validations", {}).get("required") for part in content["body"])
