"""No step makes the host wait for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from tiny_jepa import digits, quiet_trainer, tiny_model
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from rectified_lpjepa.benchmarks.measure import threads
from rectified_lpjepa.functional import matching
from rectified_lpjepa.jepa import RectifiedLpJEPA

# By its path: the package's attribute of this name is the function.
sliced_wasserstein = import_module("rectified_lpjepa.functional.sliced_wasserstein")


class _Watch(TorchDispatchMode):
    WAITING = ("_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "bincount")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = pytree.tree_leaves(args[1:]) if name.startswith("index") else []
        waits = name in self.WAITING or any(index.dtype == torch.bool for index in indices if isinstance(index, Tensor))
        assert not waits, f"{func} makes the host wait"
        return func(*args, **(kwargs or {}))


def _one_hot(classes: Tensor, num_classes: int) -> Tensor:
    return (classes[..., None] == torch.arange(num_classes)).long()


@contextmanager
def no_waiting() -> Iterator[None]:
    """Fail where the host would wait for a device: at values, and at shapes that depend on values."""
    waits = AssertionError("makes the host wait")
    with ExitStack() as stack:
        for method in ("tolist", "numpy", "cpu"):  # on the CPU these are no operations
            stack.enter_context(mock.patch.object(Tensor, method, side_effect=waits))
        # On the CPU alone NumPy sorts.
        stack.enter_context(mock.patch.object(sliced_wasserstein, "match_", matching._match_sorted_))
        # On the CPU alone PyTorch's own checks the values of its input.
        stack.enter_context(mock.patch.object(F, "one_hot", _one_hot))
        stack.enter_context(_Watch())
        yield


class Unwaiting(RectifiedLpJEPA):
    watched = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        # In the first step the target's location and scale become known.
        with no_waiting() if batch.number else nullcontext():
            self.watched += batch.number > 0
            return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        with no_waiting():
            self.watched += 1
            super().validation_step(batch, batch_idx)


def test_steps_never_wait_for_the_device(tmp_path: Path) -> None:
    for read in (Tensor.item, bool, float, lambda x: x.tolist(), lambda x: x.cpu(), lambda x: x[x > 0]):
        with pytest.raises(AssertionError, match="makes the host wait"), no_waiting():
            read(torch.ones(1))
    model = tiny_model(Unwaiting)
    with threads(1):  # others than this one are not watched
        quiet_trainer(tmp_path, limit_val_batches=1, num_sanity_val_steps=0).fit(model, digits())
    assert model.watched == 2
