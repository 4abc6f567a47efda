"""Every command, snippet and quoted message of the README and of docs/ runs, parses, or exists."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import documents
import pytest
from PIL import Image

from rectified_lpjepa.cli import CLI
from rectified_lpjepa.commands import COMMANDS
from rectified_lpjepa.data.listing import list_images
from rectified_lpjepa.experiment.file import read_experiment

ROOT, PAGES = documents.ROOT, documents.PAGES
WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in documents.blocks(page))]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project's configurations and experiments, and the files that pages show."""
    folder = tmp_path_factory.mktemp("documentation")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "experiments").mkdir()
    for file in (ROOT / "experiments").glob("*.yaml"):
        (folder / "experiments" / file.name).symlink_to(file)
    for name, text in documents.files().items():
        assert not (folder / name).exists(), f"two pages, or a page and the project, have a file {name}"
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def in_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.syspath_prepend(str(workspace))
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])


def test_there_is_something_to_test() -> None:
    assert len(documents.commands()) >= 40
    assert len(WITH_PYTHON) >= 8
    assert len(documents.quoted_messages()) >= 40
    assert {"barlow.py", "my_backbones.py", "stripes.py", "sweep.yaml"} <= documents.files().keys()
    assert not any(re.search(r"@[A-Z]+@", text) for text in PAGES.values())


@pytest.mark.parametrize("command", documents.commands())
@pytest.mark.usefixtures("in_workspace")
def test_a_command_is_accepted(command: str) -> None:
    if "train.py" in shlex.split(command, comments=True):
        importlib.import_module("train")
    documents.check_line(command)


def test_all_commands_have_a_row() -> None:
    rows = re.findall(r"^\| (`.+?) \|", PAGES["docs/commands.md"], flags=re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(COMMANDS)


@pytest.mark.usefixtures("in_workspace")
def test_a_mistyped_command_or_option_is_noticed() -> None:
    for wrong in ("fti", "fit --config configs/digits.yaml --model.rectfier none", "evaluate knn --neighbours 3"):
        arguments = documents.arguments_of(f"OMP_NUM_THREADS=1 rectified-lpjepa {wrong}")
        assert arguments is not None
        with pytest.raises((argparse.ArgumentError, AssertionError, SystemExit)):
            documents.check(arguments)


@pytest.mark.parametrize(
    "line",
    [
        "rectified-lpjpea fit --config configs/digits.yaml",
        "srun rectified-lpjepa fti --config configs/digits.yaml",
        "docker run --rm rectified-lpjepa fti",
        "docker compose --file docker/compose.yml up train",
        "docker compose --file docker/compose.yaml run --rm train fit --config digits --modell.compile true",
        "apptainer run --nv rectified-lpjepa.sif fit --config configs/digits.yaml --data.rot datasets",
        "make dmeo",
        "pip install 'rectified-lpjepa[wandbb]'",
        "pip install torch",
        'python -c "from torchvision.datasets import ImageNett"',
        "docker run --entrypoint python rectified-lpjepa -c 'import ('",
        ".venv/bin/python -m pytest tests/test_optimm.py",
        "tensorbord --logdir runs",
    ],
)
@pytest.mark.usefixtures("in_workspace")
def test_a_line_that_is_wrong_is_noticed(line: str) -> None:
    wrong = (
        argparse.ArgumentError,
        AssertionError,
        ImportError,
        SyntaxError,
        SystemExit,
        subprocess.CalledProcessError,
    )
    with pytest.raises(wrong):
        documents.check_line(line)


@pytest.mark.parametrize("page", WITH_PYTHON)
@pytest.mark.usefixtures("in_workspace")
def test_the_snippets_of_a_page_run(page: str) -> None:
    names: dict[str, object] = {"__name__": "page"}
    for block in documents.blocks(page):
        if block.language != "python":
            continue
        if block.file is None:
            exec(compile(block.text, page, "exec"), names)
        else:
            importlib.import_module(Path(block.file).stem)
    if page == "README.md":
        assert float(names["loss"]) > 0  # type: ignore[arg-type]


@pytest.mark.usefixtures("in_workspace")
def test_the_experiment_of_the_page_is_one() -> None:
    names = [name for name in documents.files() if name.startswith("experiments/")]
    assert names
    for name in names:
        assert read_experiment(Path(name)).conditions


def test_the_experiments_are_listed_by_their_titles() -> None:
    for file in (ROOT / "experiments").glob("*.yaml"):
        number, title = file.stem.partition("_")[0], read_experiment(file).title
        assert f"| {number} | {title} |" in PAGES["docs/experiments.md"]


@pytest.mark.parametrize("message", documents.quoted_messages())
def test_a_quoted_message_exists(message: str) -> None:
    assert documents.is_said(message)


def test_a_message_that_nobody_says_is_noticed() -> None:
    assert not documents.is_said("The run … is on its way to the moon")
    assert not documents.is_said("The loggers of a run: TensorBoard and CSV")  # a docstring


@pytest.mark.parametrize("page", documents.DOCUMENTS)
def test_links_and_figures_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", documents.prose(page)):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), target
        if path.suffix == ".md":
            name = path.resolve().relative_to(ROOT).as_posix()
            assert name in documents.DOCUMENTS, f"{name} is linked, and nothing looks at it"
            assert not anchor or anchor in anchors(name), target


def anchors(page: str) -> set[str]:
    """The names of a text's headings in links."""
    headings = re.findall(r"^#+ (.+)$", documents.prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_a_table_of_contents() -> None:
    for page in PAGES:
        folder = Path(page).parent
        if page in ("README.md", "docs/index.md"):
            continue
        index = "docs/api/index.md" if folder.name == "api" and Path(page).stem != "index" else "docs/index.md"
        listed = "\n".join(block for block in re.findall(r"```\{toctree\}\n(.*?)```", PAGES[index], flags=re.DOTALL))
        entry = Path(page).with_suffix("").relative_to(Path(index).parent).as_posix()
        assert entry in listed.splitlines(), page


def test_the_architecture_is_that_of_the_package() -> None:
    text = PAGES["docs/architecture.md"]
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    packages = {name for layer in contract["layers"] for name in layer.split(" | ")} - {"__main__"}
    assert packages <= set(re.findall(r"\w+", text))
    files = re.findall(r"[\w/]+/\w+\.py", text)
    assert len(files) > 8
    assert all((ROOT / file).exists() or (ROOT / "rectified_lpjepa" / file).exists() for file in files)


def test_every_module_is_in_the_api_or_left_out_for_a_reason() -> None:
    package = ROOT / "rectified_lpjepa"
    modules = {
        ".".join(path.relative_to(package).with_suffix("").parts)
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    shown = re.findall(r"automodule:: rectified_lpjepa\.(\S+)", "\n".join(PAGES.values()))
    rows = re.findall(r"^\| (`.+?) \| .+ \|$", PAGES["docs/api/index.md"], flags=re.MULTILINE)
    names = [name for row in rows for name in re.findall("`(.+?)`", row)]
    # A package stands for all of its modules.
    left_out = {name: {module for module in modules if f"{module}.".startswith(f"{name}.")} for name in names}
    assert all(left_out.values())
    described = [*shown, *(module for part in left_out.values() for module in part)]
    assert len(described) == len(set(described))
    assert set(described) == modules


def test_what_packages_export_is_in_the_api() -> None:
    shown = re.findall(r"automodule:: (\S+)", "\n".join(PAGES.values()))
    for package in (ROOT / "rectified_lpjepa").rglob("__init__.py"):
        exporting = importlib.import_module(".".join(package.parent.relative_to(ROOT).parts))
        homes = {
            name: node.module
            for node in ast.parse(package.read_text(encoding="utf-8")).body
            if isinstance(node, ast.ImportFrom)
            for name in (alias.name for alias in node.names)
        }
        for name in getattr(exporting, "__all__", []):
            assert homes[name] in shown, name


def test_the_image_files_that_the_page_names_are_those_that_are_read(tmp_path: Path) -> None:
    (line,) = re.findall(r"by their endings: (.+?), in capitals", PAGES["docs/own_images.md"], flags=re.DOTALL)
    endings = re.findall(r"`(\.\w+)`", line)
    for ending in [*Image.registered_extensions(), *(ending.upper() for ending in endings), ".txt"]:
        (tmp_path / f"image{ending}").touch()
    read = list_images(tmp_path)
    assert {Path(file).suffix.lower() for file in read} == set(endings)
    assert len(read) == 2 * len(endings)


def test_the_run_of_the_example_has_the_name_that_fit_gives_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    monkeypatch.setattr(CLI, "_run_subcommand", lambda cli, subcommand: None)
    cli = CLI(["fit", "--config", str(ROOT / "configs" / "digits.yaml"), "--trainer.accelerator", "cpu"])
    named = {name for text in PAGES.values() for name in re.findall(r"runs/digits-\w+", text)}
    assert named == {str(cli.directory.path)}
