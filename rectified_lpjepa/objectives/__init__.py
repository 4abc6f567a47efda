"""Losses on projector features, one protocol: see :class:`Objective`."""

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.objectives.axes import Axes
from rectified_lpjepa.objectives.directions import Directions
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput
from rectified_lpjepa.objectives.rdmreg import RDMReg
from rectified_lpjepa.objectives.target import Target

__all__ = ["Axes", "Directions", "Law", "Objective", "ObjectiveOutput", "RDMReg", "Shard", "Target"]
