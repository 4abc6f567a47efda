"""What is measured of features, accumulated on the device, and what the target predicts for it."""

from rectified_lpjepa.metrics.evaluated import EvaluatedFeatures
from rectified_lpjepa.metrics.features import FeatureStatistics, predicted_statistics
from rectified_lpjepa.metrics.means import RunningMeans

__all__ = ["EvaluatedFeatures", "FeatureStatistics", "RunningMeans", "predicted_statistics"]
