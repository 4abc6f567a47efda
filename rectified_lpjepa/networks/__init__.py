"""The network of the model: backbone, projector, rectifier."""

from rectified_lpjepa.networks.backbone import Backbone, Encoder
from rectified_lpjepa.networks.projector import Projector
from rectified_lpjepa.networks.rectifiers import RECTIFIERS, Rectifier, rectify

__all__ = ["RECTIFIERS", "Backbone", "Encoder", "Projector", "Rectifier", "rectify"]
