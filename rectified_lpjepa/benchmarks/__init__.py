"""Benchmarks: ratios against plain and published-style code, both timed in turn, on any machine.

Each is a function that the command line calls by its name, ``rectified-lpjepa benchmark NAME``.
"""
