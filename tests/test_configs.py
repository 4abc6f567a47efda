"""Every recipe under ``configs/`` parses and builds, and the paper's recipes have the published values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from rectified_lpjepa.cli import CLI
from rectified_lpjepa.optim import effective_lr
from rectified_lpjepa.sweep.file import read_sweep
from rectified_lpjepa.sweep.manifest import Folder, make_plan, write_plan

CONFIGS = Path(__file__).parents[1] / "configs"


class Recipe(NamedTuple):
    """The published values of a recipe: rates in effect, λ_dist, and the widths of backbone and projector."""

    optimizer: str
    lr: float
    probe_lr: float
    distribution_weight: float
    encoder: int
    projector: int


PAPER = {
    "cifar100_resnet18": Recipe("lars", 0.03, 0.01, 250.0, 512, 512),
    "imagenet100_resnet50": Recipe("lars", 0.0825, 0.0275, 125.0, 2048, 2048),
    "imagenet100_vit_small": Recipe("adamw", 2.5e-4, 2.5e-3, 125.0, 384, 2048),
    "imagenet100_convnext_small": Recipe("adamw", 2.5e-4, 2.5e-3, 125.0, 768, 2048),
}
OURS = ("digits", "cifar100_small")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Build everything that a configuration asks for, and run nothing."""
    monkeypatch.setattr(CLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])

    def run(name: str) -> CLI:
        arguments = ["fit", "--config", str(CONFIGS / f"{name}.yaml"), "--run.root", str(tmp_path / "runs")]
        # Half precision belongs to the GPUs of the recipe; here it would only be warned about.
        arguments += ["--trainer.accelerator=cpu", "--trainer.precision=32-true"]
        return CLI(arguments)

    return run


def test_every_configuration_is_known_here() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*PAPER, *OURS}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipes_build_with_the_published_values(build, name: str) -> None:
    cli, recipe = build(name), PAPER[name]
    settings, batch = cli.model.optimizer_settings, cli.datamodule.batch_size
    assert settings.name == recipe.optimizer
    assert effective_lr(settings.lr, batch) == pytest.approx(recipe.lr)
    assert effective_lr(settings.probe_lr, batch) == pytest.approx(recipe.probe_lr)
    assert (settings.weight_decay, settings.warmup_epochs, settings.warmup_start_lr) == (1e-4, 10, 3e-5)
    assert cli.model.objective.distribution_weight == recipe.distribution_weight
    assert cli.model.objective.invariance_weight == 25
    assert cli.model.objective.directions.num == 8192
    assert cli.model.view_passes == "each"
    assert cli.trainer.max_epochs == 1000
    assert cli.model.backbone.num_features == recipe.encoder
    assert cli.model.hparams["projector"]["out_dim"] == recipe.projector
    assert cli.model.hparams["num_classes"] == 100
    assert cli.model.hparams["image_size"] == cli.datamodule.image_size
    recipe_of_views = cli.datamodule.augmentation
    assert recipe_of_views.blur == (0.5 if "imagenet" in name else 0.0)
    assert (recipe_of_views.crop_scale, recipe_of_views.solarize) == ((0.2, 1.0), 0.1)


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_command_line_accepts_every_point_of_a_sweep(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []
    monkeypatch.setattr(CLI, "before_instantiate_classes", lambda cli: parsed.append(cli.config.fit) or sys.exit())
    monkeypatch.setattr("sys.argv", ["rectified-lpjepa"])
    folder = Folder(tmp_path)
    plan = make_plan(read_sweep(path), path.parent, folder)
    write_plan(folder, plan)
    for entry in plan.entries:
        with pytest.raises(SystemExit):
            CLI(entry.argv)
    assert [config.seed_everything for config in parsed] == [entry.seed for entry in plan.entries]
    assert [config.run.dir for config in parsed] == [entry.run_dir for entry in plan.entries]
    for entry, config in zip(plan.entries, parsed, strict=True):
        assert {option: config[option] for option in entry.options} == entry.options


@pytest.mark.parametrize("name", OURS)
def test_our_recipes_build(build, name: str) -> None:
    cli = build(name)
    channels = cli.datamodule.in_channels
    features = cli.model.eval()(torch.zeros(2, channels, cli.datamodule.image_size, cli.datamodule.image_size))
    assert features.projector.shape == (2, cli.model.hparams["projector"]["out_dim"])
    assert (features.projector >= 0).all()
