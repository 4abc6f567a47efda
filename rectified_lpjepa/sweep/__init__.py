"""Sweeps: one file of settings, expanded to a manifest of points, each of them one run of ``fit``; without PyTorch."""
