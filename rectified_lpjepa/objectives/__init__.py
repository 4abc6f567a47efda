"""Losses on projector features, one protocol: see :class:`Objective`."""

from rectified_lpjepa.distributions import Law
from rectified_lpjepa.functional.sharding import Shard
from rectified_lpjepa.objectives.cross_entropy import CrossEntropy
from rectified_lpjepa.objectives.directions import Directions
from rectified_lpjepa.objectives.lejepa import LeJEPA
from rectified_lpjepa.objectives.nt_xent import NTXent
from rectified_lpjepa.objectives.objective import Objective, ObjectiveOutput
from rectified_lpjepa.objectives.rdmreg import RDMReg
from rectified_lpjepa.objectives.target import Target
from rectified_lpjepa.objectives.vicreg import VICReg
from rectified_lpjepa.objectives.visreg import VISReg

__all__ = [
    "CrossEntropy",
    "Directions",
    "Law",
    "LeJEPA",
    "NTXent",
    "Objective",
    "ObjectiveOutput",
    "RDMReg",
    "Shard",
    "Target",
    "VICReg",
    "VISReg",
]
