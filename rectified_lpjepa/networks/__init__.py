"""The network of the model: backbone, projector, rectifier."""

from rectified_lpjepa.networks.backbone import Backbone, Encoder
from rectified_lpjepa.networks.features import VIEW_PASSES, Features, ViewPasses, features_of_views, features_with_crops
from rectified_lpjepa.networks.projector import Projector
from rectified_lpjepa.networks.rectifiers import RECTIFIERS, Rectifier, rectify

__all__ = [
    "RECTIFIERS",
    "VIEW_PASSES",
    "Backbone",
    "Encoder",
    "Features",
    "Projector",
    "Rectifier",
    "ViewPasses",
    "features_of_views",
    "features_with_crops",
    "rectify",
]
