"""torch.compile and memory layout: what makes the network faster and must change nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from compilation import trace_alone
from tiny_jepa import BATCH, digits, quiet_trainer, tiny_model
from torch import nn

from rectified_lpjepa.data import DigitsDataModule, LocalCrops
from rectified_lpjepa.jepa import RectifiedLpJEPA


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    return trace_alone(monkeypatch)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of TorchDynamo, which looks at its inputs
def test_checkpoints_load_with_and_without_compilation(tmp_path: Path, without_compiler: list[nn.Module]) -> None:
    plain, compiled = tiny_model(), tiny_model(compile=True)
    assert without_compiler == [compiled.backbone, compiled.projector]
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert compiled.hparams == plain.hparams
    for model, name in ((plain, "plain"), (compiled, "compiled")):
        trainer = quiet_trainer(tmp_path)
        trainer.fit(model, digits())
        trainer.save_checkpoint(tmp_path / f"{name}.ckpt")
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)

    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for name in ("plain", "compiled"):
        one, other = (
            RectifiedLpJEPA.load_from_checkpoint(tmp_path / f"{name}.ckpt", weights_only=True, compile=compile_).eval()
            for compile_ in (False, True)
        )
        with torch.no_grad():
            for expected, found in zip(one(images), other(images), strict=True):
                torch.testing.assert_close(found, expected)
    # Resumption with the other setting.
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(tiny_model(), digits(), ckpt_path=tmp_path / "compiled.ckpt")
    assert trainer.global_step == 4


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_a_compiled_network_takes_local_crops(tmp_path: Path, without_compiler: list[nn.Module]) -> None:
    plain, compiled = tiny_model(local_size=8), tiny_model(local_size=8, compile=True)
    for model in (plain, compiled):
        data = DigitsDataModule(batch_size=BATCH, seed=3, local_crops=LocalCrops(num=2, size=8))
        quiet_trainer(tmp_path).fit(model, data)
    assert without_compiler == [compiled.backbone, compiled.projector]
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("view_passes", ["each", "joint"])
def test_every_convolution_gets_its_input_in_channels_last(view_passes: Any, tmp_path: Path) -> None:
    model = tiny_model(view_passes=view_passes)
    seen: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen.append(name)
            assert inputs[0].is_contiguous(memory_format=torch.channels_last), name
            # With one channel or one pixel every layout is channels_last, too.
            assert inputs[0].shape[1] == 1 or inputs[0].stride(1) == 1, name

        return hook

    convolutions = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    for name, module in convolutions:
        assert module.weight.is_contiguous(memory_format=torch.channels_last), name
        module.register_forward_pre_hook(look(name))
    quiet_trainer(tmp_path).fit(model, digits())
    assert set(seen) == {name for name, _ in convolutions}
