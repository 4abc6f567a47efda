"""Lightning callbacks of a run, and how it writes and reads checkpoints."""

from rectified_lpjepa.callbacks.checkpoint import RunCheckpoint
from rectified_lpjepa.callbacks.checkpoint_io import AtomicCheckpointIO
from rectified_lpjepa.callbacks.cost import RunCost
from rectified_lpjepa.callbacks.figures import FigureWriter
from rectified_lpjepa.callbacks.finite import FiniteCheck
from rectified_lpjepa.callbacks.prediction import FeatureWriter
from rectified_lpjepa.callbacks.progress import ProgressBar
from rectified_lpjepa.callbacks.summary import RunSummary, result_table

__all__ = [
    "AtomicCheckpointIO",
    "FeatureWriter",
    "FigureWriter",
    "FiniteCheck",
    "ProgressBar",
    "RunCheckpoint",
    "RunCost",
    "RunSummary",
    "result_table",
]
