"""The code blocks of the documentation are of known languages and are read by them; what it quotes in a line exists."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import documents
import pytest
import yaml
from jsonargparse import Namespace
from training_parser import training_parser

from rectified_lpjepa.completion import OPTIONS
from rectified_lpjepa.doctor.command import make_parser as doctor_parser
from rectified_lpjepa.evaluation.command import make_parser as evaluation_parser
from rectified_lpjepa.evaluation.registry import EVALUATIONS
from rectified_lpjepa.experiment.command import make_parser as experiment_parser
from rectified_lpjepa.sweep.command import make_parser as sweep_parser

ROOT = documents.ROOT
LANGUAGES = {"bash", "dockerfile", "python", "text", "yaml", "{eval-rst}", "{toctree}"}
# Records in experiments/results are of their time; the page that lists them is of today.
TEXTS = [
    page for page in documents.DOCUMENTS if Path(page).parts[:2] != ("experiments", "results") or page.count("/") == 2
]
INSTRUCTIONS = {"ARG", "COPY", "ENTRYPOINT", "ENV", "FROM", "LABEL", "RUN", "SHELL", "USER", "VOLUME", "WORKDIR"}
RECIPES = {
    "digits": ["--trainer.logger", "WandbLogger"],
    "cifar100_resnet18": [],
    "imagenet100_resnet50": ["--data.root", "imagenet"],
}
FOREIGN_OPTIONS = {
    *("--cpus-per-task", "--gpus-per-node", "--gpus-per-task", "--job-name", "--kill-on-bad-exit", "--nodes"),
    *("--ntasks-per-node", "--signal", "--wait"),  # of SLURM
    *("--init", "--network", "--rm", "--shm-size", "--user", "--volume"),  # of Docker
    *("--bind", "--cleanenv", "--pwd"),  # of Apptainer
}


def of_language(language: str) -> list[tuple[str, str]]:
    """The blocks of a language, each with its page."""
    return [
        (page, block.text)
        for page in documents.DOCUMENTS
        for block in documents.blocks(page)
        if block.language == language
    ]


@pytest.mark.parametrize("page", documents.DOCUMENTS)
def test_every_block_has_a_known_language(page: str) -> None:
    fences = re.findall(r"^.*(?:```|~~~).*$", documents.DOCUMENTS[page], flags=re.MULTILINE)
    assert len(fences) % 2 == 0
    for begin, end in zip(fences[::2], fences[1::2], strict=True):
        assert begin.startswith("```"), begin
        assert begin.removeprefix("```") in LANGUAGES, begin
        assert end == "```", end


@pytest.mark.parametrize("page", sorted({page for page, _ in of_language("bash")}))
def test_bash_can_read_the_blocks(page: str) -> None:
    for of_page, text in of_language("bash"):
        if of_page == page:
            read = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
            assert (read.returncode, read.stderr) == (0, ""), text


def test_python_that_is_not_run_can_be_read() -> None:
    not_run = [text for page, text in of_language("python") if page not in documents.PAGES]
    assert not_run
    for text in not_run:
        documents.check_python(text)


def test_yaml_can_be_read() -> None:
    assert of_language("yaml")
    assert all(isinstance(yaml.safe_load(text), dict) for _, text in of_language("yaml"))


def test_the_dockerfile_is_one_on_the_image() -> None:
    ((_, text),) = of_language("dockerfile")
    steps = [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines()]
    assert {instruction for instruction, _ in steps} <= INSTRUCTIONS
    image = re.search(r"^IMAGE +\?= (\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert image is not None
    assert steps[0] == ["FROM", image[1]]
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    (user,) = re.findall(r"^USER (\S+)$", dockerfile, flags=re.MULTILINE)
    assert steps[-1] == ["USER", user]
    for instruction, rest in steps:
        if instruction == "RUN":
            subprocess.run(["bash", "-n"], input=rest, text=True, check=True, capture_output=True)


def test_what_pip_is_asked_for_is_there_and_quoted_for_every_shell() -> None:
    spans = [span for page in documents.DOCUMENTS for span in documents.quoted(page)]
    said = [quoted for text in documents.messages() for quoted in re.findall("`([^`]+)`", text)]
    said = [quoted for quoted in said if "rectified" in quoted]  # other packages are messages' own affair
    installs = [span for span in [*spans, *said] if span.startswith("pip install")]
    assert len(installs) >= 5
    for install in [*installs, *documents.commands()]:
        if install.startswith("pip install"):
            for word in install.split()[2:]:
                assert "[" not in word or word.startswith("'"), f"zsh takes the brackets of {word} for a pattern"
                documents.check_requirement(*shlex.split(word))


def option_spans() -> list[str]:
    """The options that texts quote in a line, with their values or without."""
    starts = ("-", "rectified-lpjepa", *OPTIONS, "sweep ", "experiment ", "doctor ")
    spans = (span for page in TEXTS for span in documents.quoted(page) if span.startswith(starts))
    return sorted({span for span in spans if re.search(r"(?:^| )--\w", span)})


@pytest.mark.parametrize("span", option_spans())
def test_a_quoted_option_exists(span: str) -> None:
    for option in re.findall(r"(?:^| )(--[\w.-]+)", span):
        is_free = option.startswith("--model.backbone.kwargs.")  # they are those of a timm model
        assert option in FOREIGN_OPTIONS or is_free or option in known_options(), option
    if re.match(r"--\w+\.\S+ \S", span):
        assert any(accepts(recipe, shlex.split(span)) for recipe in RECIPES), span


def test_a_quoted_option_that_is_wrong_is_noticed() -> None:
    assert not {"--data.augmentation.flipp", "--model.objective.axes.weigth", "--neighbours"} & known_options()
    for wrong in (["--data.augmentation.flip", "often"], ["--model.rectifier", "rel"], ["--data.flip", "0"]):
        assert not any(accepts(recipe, wrong) for recipe in RECIPES)
    assert accepts("digits", ["--data.augmentation.flip", "0"])


def test_options_of_others_are_those_that_are_quoted() -> None:
    assert {option for span in option_spans() for option in re.findall(r"--[\w-]+", span)} >= FOREIGN_OPTIONS


def accepts(recipe: str, options: list[str]) -> bool:
    """Whether a ``fit`` of a recipe takes options."""
    config = ["--config", str(ROOT / "configs" / f"{recipe}.yaml")]
    try:
        training_parser("fit").parse_args(["fit", *config, *RECIPES[recipe], *options])
    except (argparse.ArgumentError, SystemExit):
        return False
    return True


@cache
def known_options() -> frozenset[str]:
    """All options of all commands; those of ``fit`` by their whole and by their short names."""
    parsers: list[argparse.ArgumentParser] = [doctor_parser(), experiment_parser(), sweep_parser()]
    parsers += [evaluation_parser(name) for name in EVALUATIONS]
    known = {option for parser in parsers for option in _options_of(parser)} | {"--version"}
    known |= {option for options in OPTIONS.values() for option in options}
    fit = training_parser("fit")
    known |= set(_options_of(fit))
    for recipe, options in RECIPES.items():
        config = ["--config", str(ROOT / "configs" / f"{recipe}.yaml")]
        for name in _names(fit.parse_args(["fit", *config, *options]).fit):
            known |= {f"--{name}", f"--{name.replace('init_args.', '')}"}
    return frozenset(known)


def _options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _options_of(child)


def _names(values: Any, prefix: str = "") -> Iterator[str]:
    """The names of all values of a configuration, and of what holds them."""
    entries = vars(values) if isinstance(values, Namespace) else values if isinstance(values, dict) else {}
    for name, value in entries.items():
        yield f"{prefix}{name}"
        yield from _names(value, f"{prefix}{name}.")
