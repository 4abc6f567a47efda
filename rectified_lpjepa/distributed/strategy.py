"""The data-parallel strategy whose processes see each other's features."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor
from typing_extensions import override

from rectified_lpjepa.distributed.gather import all_gather_views, check_equal_shapes, current_shard
from rectified_lpjepa.functional.sharding import Shard


class AllGatherDDPStrategy(DDPStrategy):
    """DistributedDataParallel that also gathers the features of all processes, with gradient.

    In a configuration it is called ``ddp_all_gather``. It takes the arguments of Lightning's ``DDPStrategy``.
    """

    strategy_name = "ddp_all_gather"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._has_compared_shapes = False

    @property
    def shard(self) -> Shard:
        """Which process this is."""
        return current_shard()

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

    @classmethod
    @override
    def register_strategies(cls, strategy_registry: Any) -> None:
        strategy_registry.register(cls.strategy_name, cls, description=cls.__name__)


AllGatherDDPStrategy.register_strategies(StrategyRegistry)
