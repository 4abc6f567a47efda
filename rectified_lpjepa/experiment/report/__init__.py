"""Reports of experiments as HTML pages with figures, and an index of all experiments and runs."""

from rectified_lpjepa.experiment.report.index import write_index
from rectified_lpjepa.experiment.report.page import write_report

__all__ = ["write_index", "write_report"]
