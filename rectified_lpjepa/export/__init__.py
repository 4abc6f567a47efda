"""Trained encoders for use elsewhere: under timm's keys, and as ONNX."""

from rectified_lpjepa.export.files import export

__all__ = ["export"]
