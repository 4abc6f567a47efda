"""Several global views and local crops in training: what the objective and the probes get, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_jepa import BATCH, DIM, TINY_RESNET, Recorder, quiet_trainer, tiny_model
from torch.nn.functional import cross_entropy

from rectified_lpjepa.data import DigitsDataModule, LocalCrops
from rectified_lpjepa.functional.randomness import keyed_generator
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.main import main
from rectified_lpjepa.objectives import Directions, LeJEPA, RDMReg

CROPS = LocalCrops(num=2, size=8)


def train(model: RectifiedLpJEPA, path: Path, crops: LocalCrops = CROPS, **arguments: Any) -> Recorder:
    recorder = Recorder()
    data = DigitsDataModule(batch_size=BATCH, seed=3, views=3, local_crops=crops)
    quiet_trainer(path, [recorder], **arguments).fit(model, data)
    return recorder


@pytest.mark.parametrize("view_passes", ["each", "joint"])
def test_the_objective_gets_the_local_crops_after_the_global_views(view_passes: Any, tmp_path: Path) -> None:
    recorder = train(tiny_model(view_passes=view_passes, local_size=8), tmp_path, limit_train_batches=1)
    [batch], [z_VBD] = recorder.batches, recorder.features
    assert batch.images.shape == (3, BATCH, 1, 16, 16)
    assert batch.local is not None
    assert batch.local.shape == (2, BATCH, 1, 8, 8)
    assert z_VBD.shape == (5, BATCH, DIM)
    model = tiny_model(local_size=8).train()
    if view_passes == "each":
        expected = torch.stack([model(view).projector for view in (*batch.images, *batch.local)])
    else:
        kinds = [model(torch.cat([*kind])).projector.split(BATCH) for kind in (batch.images, batch.local)]
        expected = torch.stack([*kinds[0], *kinds[1]])
    torch.testing.assert_close(z_VBD, expected)


def test_an_objective_is_told_which_views_are_global(tmp_path: Path) -> None:
    model = tiny_model(objective=LeJEPA(Directions(num=16)), rectifier="none", local_size=8)
    recorder = train(model, tmp_path, limit_train_batches=1)
    [z_VBD], [terms] = recorder.features, recorder.terms
    expected = (z_VBD - z_VBD[:3].mean(0)).square().mean()
    torch.testing.assert_close(terms["invariance"], expected)


def test_the_loss_is_that_of_all_views_and_the_probes_that_of_the_global_ones(tmp_path: Path) -> None:
    model = tiny_model(local_size=8)
    recorder = train(model, tmp_path, limit_train_batches=1)
    [batch], [z_VBD], [terms] = recorder.batches, recorder.features, recorder.terms
    objective, z = model.objective, z_VBD.numpy()
    assert isinstance(objective, RDMReg)
    pairs = [np.mean((one - other) ** 2) for one, other in combinations(z, 2)]
    target = objective.target.sample(z.shape[1:], generator=keyed_generator(3, "target", 0, 0)).numpy()
    directions = torch.cat([block() for block in objective.directions.draw(z_VBD, seed=3, step=0)]).numpy()
    distances = [np.mean((np.sort(view @ c) - np.sort(target @ c)) ** 2) for view in z for c in directions]
    assert len(pairs) == 10
    assert float(terms["invariance"]) == pytest.approx(np.mean(pairs), rel=1e-4)
    assert float(terms["rdmreg"]) == pytest.approx(np.mean(distances), rel=1e-4)

    start = tiny_model(local_size=8).train()
    features = [start(view) for view in batch.images]
    for name, probe in start.probes.items():
        logits = torch.cat([probe(getattr(view, name)) for view in features])
        expected = cross_entropy(logits, batch.labels.repeat(3))
        torch.testing.assert_close(terms[f"probe_{name}"], expected.detach())


def test_local_crops_reach_the_gradient_and_leave_the_first_step_of_the_probes_alone(tmp_path: Path) -> None:
    [given], [plain] = (
        train(tiny_model(local_size=size), tmp_path, crops, limit_train_batches=1).gradients
        for size, crops in ((8, CROPS), (None, LocalCrops()))
    )
    for name, gradient in given.items():
        assert torch.equal(gradient, plain[name]) == name.startswith("probes"), name


def test_more_steps_go_on_with_finite_losses(tmp_path: Path) -> None:
    model = tiny_model(local_size=8)
    recorder = train(model, tmp_path, limit_train_batches=4, limit_val_batches=1)
    assert len(recorder.terms) == 4
    assert all(torch.isfinite(terms["loss"]) for terms in recorder.terms)
    # The weights of a checkpoint say for which crops they were trained.
    assert model.hparams["local_size"] == 8


@pytest.mark.parametrize(("built", "given"), [(None, CROPS), (8, LocalCrops()), (6, CROPS)])
def test_a_model_for_other_local_crops_is_refused(built: int | None, given: LocalCrops, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"built for {built}. HINT: RectifiedLpJEPA\(local_size="):
        train(tiny_model(local_size=built), tmp_path, given)


def test_the_command_line_trains_with_local_crops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refusal: Callable[..., str]
) -> None:
    arguments = ["fit", f"--run.root={tmp_path}", "--trainer.log_every_n_steps=1", "--data=DigitsDataModule"]
    arguments += ["--data.batch_size=64", "--data.views=3", "--model.optimizer.warmup_epochs=0"]
    arguments += ["--data.local_crops.num=2", "--data.local_crops.size=8", "--trainer.limit_train_batches=2"]
    arguments += ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--model.projector.out_dim=12"]
    arguments += ["--model.objective=RDMReg", "--model.objective.directions.num=16"]
    main([*arguments, "--run.name=resnet", f"--model.backbone.kwargs={json.dumps(TINY_RESNET)}"])
    assert "3 of 16 × 16 pixels, and 2 local crops of 8 × 8 pixels" in capsys.readouterr().out
    [run] = tmp_path.iterdir()
    identity = json.loads((run / "identity.json").read_text())
    assert identity["data"]["init_args"]["local_crops"] == {"num": 2, "size": 8, "crop_scale": [0.05, 0.3]}
    vit = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    arguments += ["--model.backbone.name=vit_tiny_patch16_224", f"--model.backbone.kwargs={json.dumps(vit)}"]
    message = refusal(*arguments, "--run.name=vit")
    assert re.search(r"takes no local crops of 8×8 .*HINT: .*dynamic_img_size true", message)
    assert list(tmp_path.iterdir()) == [run]
