"""Several processes: features gathered with their gradients, batch norm over all, and the strategy that does it."""

from rectified_lpjepa.distributed.batch_norm import BatchNormSync
from rectified_lpjepa.distributed.gather import all_gather_views, check_equal_shapes, current_shard, mean_over_processes
from rectified_lpjepa.distributed.strategy import AllGatherDDPStrategy

__all__ = [
    "AllGatherDDPStrategy",
    "BatchNormSync",
    "all_gather_views",
    "check_equal_shapes",
    "current_shard",
    "mean_over_processes",
]
