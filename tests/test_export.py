"""What is exported loads elsewhere, by the lines of its card, and gives the features of the checkpoint."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from compilation import trace_alone
from safetensors.torch import load_file
from tiny_jepa import CLASSES, DIM, TINY_RESNET, quiet_trainer, tiny_model

from rectified_lpjepa.export import export, onnx_model
from rectified_lpjepa.jepa import RectifiedLpJEPA
from rectified_lpjepa.main import main
from rectified_lpjepa.networks import Backbone, Projector
from rectified_lpjepa.probe import LinearProbe

TINY_VIT = {"patch_size": 4, "depth": 2, "embed_dim": 24, "num_heads": 2}
TINY_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 16, 16]}
COLOUR = {"in_channels": 3, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]}
MODELS: dict[str, dict[str, Any]] = {
    "resnet": {},
    "CIFAR stem, no rectifier": {
        "backbone": Backbone("resnet18", small_stem_stride=1, kwargs=TINY_RESNET),
        "rectifier": "none",
        **COLOUR,
    },
    "stem of stride 2, RepReLU": {
        "backbone": Backbone("resnet26", small_stem_stride=2, kwargs=TINY_RESNET),
        "rectifier": "rep_relu",
    },
    "softplus, linear projector": {"rectifier": "softplus_threshold", "projector": Projector(9, DIM, hidden_layers=0)},
    "GELU, head without batch norm": {
        "rectifier": "gelu_relu",
        "projector": Projector(9, DIM, hidden_layers=1, batch_norm=False),
    },
    "vit": {"backbone": Backbone("vit_small_patch16_224", kwargs=TINY_VIT), **COLOUR},
    "convnext": {"backbone": Backbone("convnext_small", kwargs=TINY_CONVNEXT), "image_size": 32},
}

Save = Callable[..., Path]


def image_shape(model: RectifiedLpJEPA) -> tuple[int, int, int]:
    size = model.hparams["image_size"]
    return model.hparams["in_channels"], size, size


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write the checkpoint of a model whose statistics are not those of a new one."""

    def save(**arguments: Any) -> Path:
        model = tiny_model(**arguments)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _ in range(3):
                model(torch.rand(16, *image_shape(model), generator=generator))
        trainer = quiet_trainer(tmp_path, max_epochs=0)
        trainer.strategy.connect(model)
        path = tmp_path / "run" / "checkpoints" / "last.ckpt"
        trainer.save_checkpoint(path)
        return path

    return save


def run_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Execute the Python lines of a card in its folder, and return what they have made."""
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    return names


@pytest.mark.parametrize("name", MODELS)
def test_the_lines_of_the_card_give_the_same_features(
    name: str, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save(**MODELS[name])
    export(checkpoint, tmp_path / "out")
    names = run_card(tmp_path / "out", monkeypatch)
    expected = RectifiedLpJEPA.load_from_checkpoint(checkpoint, weights_only=True).eval()
    with torch.inference_mode():
        features = expected(names["images"])
    assert features.encoder.std() > 0
    assert torch.equal(names["features"], features.encoder)
    assert torch.equal(names["z"], features.projector)
    assert load_file("model.safetensors").keys() == names["model"].state_dict().keys()


@pytest.mark.parametrize("name", ["resnet", "vit", "convnext"])
def test_timm_builds_the_model_from_the_folder(name: str, save: Save, tmp_path: Path) -> None:
    """Where the stem is one of timm's own, its configuration says all."""
    checkpoint = save(**MODELS[name])
    export(checkpoint, tmp_path / "out")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    expected = RectifiedLpJEPA.load_from_checkpoint(checkpoint, weights_only=True).eval()
    for key, value in expected.backbone.model.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    config = timm.data.resolve_model_data_config(model)
    assert tuple(config["input_size"]) == image_shape(expected)  # a list in older versions
    np.testing.assert_allclose(config["mean"], expected.hparams["mean"])
    np.testing.assert_allclose(config["std"], expected.hparams["std"])


def test_a_model_that_was_compiled_in_training_exports_the_same(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(save(), tmp_path / "plain")
    compiled = trace_alone(monkeypatch)
    export(save(compile=True), tmp_path / "compiled")
    for name in ("model.safetensors", "projector.safetensors", "config.json"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "compiled" / name).read_bytes()
    assert len(compiled) == 2


def test_the_card_tells_of_run_and_metrics(save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = save()
    run = checkpoint.parent.parent
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    identity = {"data": {"class_path": "DigitsDataModule", "fingerprint": "0123abcd"}, "trainer": {"max_epochs": 7}}
    (run / "identity.json").write_text(json.dumps(identity))
    (run / "result.json").write_text(json.dumps({"metrics": {"val/sparsity/l0": 0.123456789}, "steps": 0}))
    (run / "evaluation").mkdir()
    for name, hashed in (("knn", sha256), ("linear", "another checkpoint's")):
        evaluation = {
            "name": name,
            "metrics": {f"encoder/{name}/top1": 0.75, "u": None},
            "checkpoint": {"sha256": hashed},
        }
        (run / "evaluation" / f"{name}.json").write_text(json.dumps(evaluation))
    main(["export", "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")])
    assert str(tmp_path / "out" / "README.md") in capsys.readouterr().out
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for part in (
        sha256,
        "0123abcd",
        "max_epochs: 7",
        "| val/sparsity/l0 | 0.12346 |",
        "| encoder/knn/top1 | 0.75 |",
        "| u | undefined |",
    ):
        assert part in text
    assert "linear" not in text.split("## Metrics")[1]
    assert re.search(r"## Licence\n\nNone is stated", text)

    # Evaluations of a checkpoint in another folder than a run's lie beside it.
    copied = shutil.copy(checkpoint, tmp_path / "copied.ckpt")
    shutil.copytree(run / "evaluation", tmp_path / "evaluation")
    export(Path(copied), tmp_path / "beside")
    assert "| encoder/knn/top1 | 0.75 |" in (tmp_path / "beside" / "README.md").read_text(encoding="utf-8")

    (run / "result.json").write_text(json.dumps({"metrics": {"val/sparsity/l0": 0.5}, "steps": 99}))
    (run / "evaluation" / "knn.json").unlink()
    (tmp_path / "out" / "model.onnx").write_bytes(b"of an earlier export")
    export(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out" / "model.onnx").exists()
    assert "None of this checkpoint are at hand." in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_without_its_run_a_checkpoint_tells_of_its_model(save: Save, tmp_path: Path) -> None:
    checkpoint = save().rename(tmp_path / "alone.ckpt")
    export(checkpoint, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "RDMReg" in text
    assert f"out_dim: {DIM}" in text


def test_what_is_no_checkpoint_of_a_model_is_refused(save: Save, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        export(tmp_path / "absent.ckpt", out)

    probe = LinearProbe(4, CLASSES)
    torch.save({"hyper_parameters": dict(probe.hparams), "state_dict": probe.state_dict()}, tmp_path / "probe.ckpt")
    with pytest.raises(ValueError, match=r"probe.ckpt is not a checkpoint of `rectified-lpjepa fit`"):
        export(tmp_path / "probe.ckpt", out)

    content = torch.load(save(), weights_only=True)
    content["hyper_parameters"]["projector"]["out_dim"] = DIM + 1
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"do not fit the model that the same file describes"):
        export(tmp_path / "other.ckpt", out)
    assert not out.exists()


def test_onnx_without_its_packages_is_an_error_that_says_so(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    monkeypatch.setattr(onnx_model, "find_spec", lambda name: None if name == "onnxscript" else object())
    error = refusal("export", "--checkpoint", str(save()), "--out", str(tmp_path / "out"), "--onnx")
    assert "onnxscript cannot be imported" in error
    assert "pip install 'rectified-lpjepa[onnx]'" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["CIFAR stem, no rectifier", "vit"])
def test_onnx_gives_the_same_features_for_batches_of_any_size(name: str, save: Save, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    checkpoint = save(**MODELS[name])
    export(checkpoint, tmp_path / "out", onnx=True)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    model = RectifiedLpJEPA.load_from_checkpoint(checkpoint, weights_only=True).eval()
    for number in (1, 5):
        images = torch.rand(number, *image_shape(model))
        encoder, projector = session.run(["encoder", "projector"], {"images": images.numpy()})
        with torch.inference_mode():
            features = model(images)
        np.testing.assert_allclose(encoder, features.encoder, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(projector, features.projector, rtol=1e-4, atol=1e-5)
