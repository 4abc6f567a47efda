"""Which directions an objective projects features onto, and which of them belong to this process.

Shape suffixes: V views, B samples of all processes, D features, N directions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from rectified_lpjepa.functional.directions import (
    eigen_directions,
    eigen_rows,
    orthogonal_directions,
    random_directions,
)
from rectified_lpjepa.functional.precision import at_least_float32
from rectified_lpjepa.functional.randomness import Blocks, keyed_blocks
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.functional.sliced_statistic import BLOCK_ROWS

DirectionKind = Literal["random", "orthogonal", "eigen", "eigen_bottom_half"]


@dataclass(frozen=True)
class Directions:
    """The unit directions of one step, shared by the views unless they are eigenvectors.

    Random rows are drawn in blocks, each from a generator keyed by (run seed, step, block): a process draws the blocks
    of its own share alone, and no row depends on the number of processes.

    Attributes:
        kind: ``random``, uniform on the sphere; ``orthogonal``, random orthonormal bases; ``eigen``, the eigenvectors
            of each view's feature covariance over the global batch, filled up with random ones;
            ``eigen_bottom_half``, the same with only the half of the eigenvectors that has the least variance.
        num: number of directions N of all processes together, at least 1.
        redrawn: whether random directions are drawn anew every step, as in the paper, or once for the whole run.
            Eigenvectors are always those of the step.

    Raises:
        ValueError: if the kind is unknown or ``num`` is below 1.
    """

    kind: DirectionKind = "random"
    num: int = 8192
    redrawn: bool = True

    def __post_init__(self) -> None:
        if self.kind not in get_args(DirectionKind):
            raise ValueError(
                f"Unknown kind of directions {self.kind!r}; choose from {', '.join(get_args(DirectionKind))}."
            )
        if self.num < 1:
            raise ValueError(f"The number of directions must be at least 1, got {self.num}.")

    def draw(self, gathered_VBD: Tensor, *, seed: int, step: int, shard: Shard = Shard()) -> Blocks:
        """Divide one process's share of the directions of a step into blocks that are drawn when they are called for.

        Args:
            gathered_VBD: features (V, B, D) of the global batch.
            seed: seed of the run.
            step: number of the step, 0-based.
            shard: which process this is.

        Returns:
            Blocks that are together the rows ``shard.rows(num)`` of the whole: (V, n, D) eigenvectors, which are there
            already, where the share has some, then (n, D) the others; detached, at least float32, on the features'
            device.

        Raises:
            ValueError: if there are fewer directions than eigenvectors.
        """
        num_eigen = self._num_eigen(*gathered_VBD.shape[1:])
        rows = shard.rows(self.num)
        blocks: list[Callable[[], Tensor]] = []
        if rows.start < num_eigen and rows:
            eigen_VKD = eigen_directions(gathered_VBD, bottom_half=self.kind == "eigen_bottom_half")
            blocks.append(lambda: eigen_VKD[:, rows.start : rows.stop])
        others = range(max(rows.start, num_eigen) - num_eigen, max(rows.stop, num_eigen) - num_eigen)
        return [*blocks, *self._random_blocks(others, self.num - num_eigen, gathered_VBD, seed=seed, step=step)]

    def _num_eigen(self, batch: int, dim: int) -> int:
        if self.kind not in ("eigen", "eigen_bottom_half"):
            return 0
        num_eigen = len(eigen_rows(batch, dim, bottom_half=self.kind == "eigen_bottom_half"))
        if self.num < num_eigen:
            raise ValueError(
                f"You asked for {self.num} directions of kind {self.kind!r}, but a batch of {batch} samples with {dim} "
                f"features has {num_eigen} eigen directions. HINT: set the number of directions to at least "
                f"{num_eigen}, or use kind 'random'."
            )
        return num_eigen

    def _random_blocks(self, rows: range, total: int, like_VBD: Tensor, *, seed: int, step: int) -> Blocks:
        dim, dtype, device = like_VBD.shape[-1], at_least_float32(like_VBD), like_VBD.device
        draw = orthogonal_directions if self.kind == "orthogonal" else random_directions
        return keyed_blocks(
            lambda num, generator: draw(num, dim, generator=generator, dtype=dtype, device=device),
            rows,
            total,
            # A block of orthogonal directions holds whole bases.
            max(dim, BLOCK_ROWS // dim * dim) if self.kind == "orthogonal" else BLOCK_ROWS,
            seed=seed,
            purpose="directions",
            step=step if self.redrawn else 0,
            device=device,
        )
