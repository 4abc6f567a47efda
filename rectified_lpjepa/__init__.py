"""Rectified LpJEPA: sparse, non-negative image features, pretrained, measured and reproduced (arXiv 2602.01456)."""

__version__ = "0.1.0"
