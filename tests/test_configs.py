"""Every recipe under ``configs/`` parses and builds, and the paper's recipes have the published values."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from training_parser import CONFIGS, parse_fit

from rectified_lpjepa.cli import CLI
from rectified_lpjepa.data import Augmentation
from rectified_lpjepa.optim import effective_lr
from rectified_lpjepa.sweep.file import read_sweep
from rectified_lpjepa.sweep.manifest import Folder, make_plan, write_plan


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


class Baseline(NamedTuple):
    """What is known of a baseline on CIFAR-100: objective, rectifier, head, rates, weight decay and epochs."""

    objective: str
    rectifier: str = "relu"
    head: tuple[int, int, int, bool] = (512, 512, 2, True)
    optimizer: tuple[str, float, float] = ("lars", 0.03, 0.01)
    weight_decay: float = 1e-4
    epochs: int = 1000
    rectified: bool | None = None


VICREG_HEAD, SIMCLR_HEAD = (2048, 2048, 2, True), (2048, 256, 1, False)
VICREG_RATES, SIMCLR_RATES = ("lars", 0.3, 0.1), ("lars", 0.4, 0.1)
BASELINES = {
    "rectified_lpjepa": Baseline("RDMReg", rectified=True),
    "rdmreg_per_rank": Baseline("RDMReg", rectified=True),
    "lpjepa": Baseline("RDMReg", "none", rectified=False),
    "relu_gn": Baseline("RDMReg", rectified=False),
    "none_rgn": Baseline("RDMReg", "none", rectified=True),
    "lejepa": Baseline("LeJEPA", "none", optimizer=("adamw", 5e-4, 5e-3), weight_decay=5e-4),
    "vicreg": Baseline("VICReg", "none", VICREG_HEAD, VICREG_RATES),
    "nvicreg_relu": Baseline("VICReg", "relu", VICREG_HEAD, VICREG_RATES),
    "nvicreg_rep_relu": Baseline("VICReg", "rep_relu", VICREG_HEAD, VICREG_RATES),
    "simclr": Baseline("NTXent", "none", SIMCLR_HEAD, SIMCLR_RATES),
    "ncl_relu": Baseline("NTXent", "relu", SIMCLR_HEAD, SIMCLR_RATES, epochs=200),
    "ncl_rep_relu": Baseline("NTXent", "rep_relu", SIMCLR_HEAD, SIMCLR_RATES, epochs=200),
    "visreg": Baseline("VISReg", "none"),
    "supervised": Baseline("CrossEntropy", "none", (512, 100, 0, True)),
    "random": Baseline("RDMReg", optimizer=("lars", 0.0, 0.01), rectified=True),
}
SIMCLR_VIEWS = Augmentation((0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, solarize=0.0)


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
    assert {path.stem for path in (CONFIGS / "baselines").glob("*.yaml")} == BASELINES.keys()


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
    assert (cli.model.objective.directions.num, cli.model.objective.directions.kind) == (8192, "random")
    assert cli.model.objective.axes.weight == 0
    assert cli.model.view_passes == "each"
    assert cli.trainer.max_epochs == 1000
    assert cli.model.backbone.num_features == recipe.encoder
    assert cli.model.hparams["projector"]["out_dim"] == recipe.projector
    assert cli.model.hparams["num_classes"] == 100
    assert cli.model.hparams["image_size"] == cli.datamodule.image_size
    recipe_of_views = cli.datamodule.augmentation
    assert recipe_of_views.blur == (0.5 if "imagenet" in name else 0.0)
    assert (recipe_of_views.crop_scale, recipe_of_views.solarize) == ((0.2, 1.0), 0.1)


@pytest.mark.parametrize("name", BASELINES)
def test_the_baselines_build_with_what_is_known_of_them(build, name: str) -> None:
    cli = build(f"baselines/{name}")
    model, settings, known = cli.model, cli.model.optimizer_settings, BASELINES[name]
    assert (
        Baseline(
            type(model.objective).__name__,
            model.rectifier,
            tuple(model.hparams["projector"].values()),
            (settings.name, settings.lr, settings.probe_lr),
            settings.weight_decay,
            cli.trainer.max_epochs,
            model.objective.target.rectified if known.objective == "RDMReg" else None,
        )
        == known
    )
    assert model.objective.is_per_process == (name == "rdmreg_per_rank")
    assert (cli.datamodule.batch_size, model.backbone.num_features) == (256, 512)
    assert cli.datamodule.augmentation == (SIMCLR_VIEWS if known.objective == "NTXent" else Augmentation())


def test_the_baselines_losses_have_the_published_weights(build) -> None:
    assert build("baselines/vicreg").model.objective.init_args == {
        "invariance_weight": 25,
        "variance_weight": 25,
        "covariance_weight": 1,
    }
    assert build("baselines/simclr").model.objective.temperature == 0.2
    lejepa, visreg = (build(f"baselines/{name}").model.objective for name in ("lejepa", "visreg"))
    assert (lejepa.weight, lejepa.knots, lejepa.upper, lejepa.directions.num) == (0.05, 17, 3.0, 1024)
    assert (visreg.weight, visreg.directions.num) == (0.6, 4096)


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_command_line_accepts_every_point_of_a_sweep(path: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    plan = make_plan(read_sweep(path), path.parent, folder)
    write_plan(folder, plan)
    assert plan.entries
    for entry in plan.entries:
        config = parse_fit(entry.argv)
        assert (config.seed_everything, config.run.dir) == (entry.seed, entry.run_dir)
        assert {option: config[option] for option in entry.options} == entry.options


@pytest.mark.parametrize("name", OURS)
def test_our_recipes_build(build, name: str) -> None:
    cli = build(name)
    channels = cli.datamodule.in_channels
    features = cli.model.eval()(torch.zeros(2, channels, cli.datamodule.image_size, cli.datamodule.image_size))
    assert features.projector.shape == (2, cli.model.hparams["projector"]["out_dim"])
    assert (features.projector >= 0).all()
    assert cli.model.objective.directions.kind == "eigen_bottom_half"
    assert cli.model.objective.axes.weight == 0.5
