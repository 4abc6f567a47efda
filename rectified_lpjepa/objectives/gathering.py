"""What every loss of the global batch asks of the gathered features."""

from torch import Tensor

from rectified_lpjepa.functional.sharding import Shard


def check_gathered(z_VBD: Tensor, gathered_VBD: Tensor, shard: Shard) -> None:
    """Compare the shape of gathered features with that of a process's own.

    Args:
        z_VBD: features (V, B, D) of this process.
        gathered_VBD: features (V, W·B, D) of all W processes.
        shard: this process's share of the work on them, which may be all of it on every process.

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    views, batch, dim = z_VBD.shape
    samples = gathered_VBD.shape[1]
    # A process that does all the work is not told of how many it is one.
    fits = samples == shard.world_size * batch if shard.world_size > 1 else samples % max(batch, 1) == 0
    if (gathered_VBD.shape[0], gathered_VBD.shape[2]) != (views, dim) or not fits:
        expected = (
            f"one of {shard.world_size} processes must be gathered to {(views, shard.world_size * batch, dim)}"
            if shard.world_size > 1
            else f"a process must be gathered to ({views}, a multiple of {batch}, {dim})"
        )
        raise ValueError(f"Features {tuple(z_VBD.shape)} of {expected}, got {tuple(gathered_VBD.shape)}.")
