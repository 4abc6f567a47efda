"""The data-parallel strategy whose processes see each other's features."""

from __future__ import annotations

from typing import Any, Literal, get_args

import lightning.pytorch as pl
from lightning.pytorch.plugins import TorchSyncBatchNorm
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from rectified_lpjepa.distributed.batch_norm import BatchNormSync
from rectified_lpjepa.distributed.gather import all_gather_views, check_equal_shapes, current_shard
from rectified_lpjepa.functional.sharding import Shard

Slices = Literal["sharded", "replicated"]


class AllGatherDDPStrategy(DDPStrategy):
    """DistributedDataParallel that also gathers the features of all processes, with gradient.

    In a configuration it is called ``ddp_all_gather``, and ``ddp_all_gather_replicated`` with replicated slices. Both
    give the gradient of one process with the whole batch, where batch normalisation is synchronised, too:
    ``Trainer(sync_batchnorm=True)``, the default of the command line, does it by
    :class:`~rectified_lpjepa.distributed.BatchNormSync`. Buffers then are the same everywhere, and they are broadcast
    at the start alone and not in each step, unless the arguments of DistributedDataParallel ask for it.

    Args:
        slices: ``sharded``, each process projects onto its own share of the directions; ``replicated``, each onto all
            of them, which is W times the work of W processes for the same gradient.
        **kwargs: arguments of Lightning's ``DDPStrategy``.

    Raises:
        ValueError: ``slices`` is neither.
    """

    strategy_name = "ddp_all_gather"

    def __init__(self, slices: Slices = "sharded", **kwargs: Any) -> None:
        if slices not in get_args(Slices):
            raise ValueError(f"There are no slices {slices!r}. Choose one of {', '.join(get_args(Slices))}.")
        super().__init__(**kwargs)
        self.slices = slices
        self._has_compared_shapes = False

    @property
    def shard(self) -> Shard:
        """This process's share of the directions."""
        return current_shard() if self.slices == "sharded" else Shard()

    def gather_views(self, z_VBD: Tensor) -> Tensor:
        """Gather the features of all processes, see :func:`~rectified_lpjepa.distributed.all_gather_views`.

        The processes compare their shapes in the first call, which all of them make. Later calls do not: a comparison
        that only the processes with a new shape took part in would wait for the others forever.

        Args:
            z_VBD: features (V, B, D) of this process, floating point.

        Returns:
            (V, W·B, D) in the order of the ranks, at least float32; the features themselves for one process.

        Raises:
            ValueError: if the processes' features differ in shape in the first call.
        """
        if not self._has_compared_shapes:
            check_equal_shapes(z_VBD)
            self._has_compared_shapes = True
        return all_gather_views(z_VBD)

    @override
    def setup(self, trainer: pl.Trainer) -> None:
        # Lightning's own plugin knows CUDA alone, and it would drop the activation of timm's BatchNormAct2d.
        if isinstance(self._layer_sync, TorchSyncBatchNorm):
            self._layer_sync = BatchNormSync()
        super().setup(trainer)

    @override
    def _setup_model(self, model: Module) -> DistributedDataParallel:
        wrapped = super()._setup_model(model)
        # Running statistics of each process's own batches differ, and then those of the first process count. Not an
        # argument of DistributedDataParallel: torch is renaming it, and it would leave out the broadcast at the start.
        if self._layer_sync is not None and not self._ddp_kwargs.keys() & {"broadcast_buffers", "forward_sync_buffers"}:
            wrapped.broadcast_buffers = False
        return wrapped

    @classmethod
    @override
    def register_strategies(cls, strategy_registry: Any) -> None:
        for name, slices in ((cls.strategy_name, "sharded"), (f"{cls.strategy_name}_replicated", "replicated")):
            strategy_registry.register(name, cls, description=f"{cls.__name__}, slices {slices}", slices=slices)


AllGatherDDPStrategy.register_strategies(StrategyRegistry)
