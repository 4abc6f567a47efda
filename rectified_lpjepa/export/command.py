"""The command ``rectified-lpjepa export``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rectified_lpjepa.export.files import CARD, export
from rectified_lpjepa.sweep.arguments import CommandParser


def export_command(arguments: Sequence[str]) -> None:
    """Export a checkpoint.

    Args:
        arguments: what follows ``export`` on the command line.

    Raises:
        SystemExit: with status 2 for a wrong command line.
        FileNotFoundError: there is no such checkpoint.
        ValueError: see :func:`~rectified_lpjepa.export.export`.
    """
    given = parse(arguments)
    export(given.checkpoint, given.out, onnx=given.onnx)
    print(f"{given.out / CARD} says how to load it")  # noqa: T201


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; exit with help, or with status 2 and a message where it is wrong."""
    parser = CommandParser(
        prog="rectified-lpjepa export",
        description="Write the encoder of a checkpoint as a timm model, with its projector and a card.",
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a checkpoint of `fit`")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to; files of an export are replaced")
    parser.add_argument("--onnx", action="store_true", help="write an ONNX model, too")
    return parser.parse_args(arguments)
