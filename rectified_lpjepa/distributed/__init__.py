"""Several processes: features gathered with their gradients, and the strategy that does it."""

from rectified_lpjepa.distributed.gather import all_gather_views, check_equal_shapes, current_shard, mean_over_processes
from rectified_lpjepa.distributed.strategy import AllGatherDDPStrategy

__all__ = ["AllGatherDDPStrategy", "all_gather_views", "check_equal_shapes", "current_shard", "mean_over_processes"]
