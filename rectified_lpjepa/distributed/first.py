"""What the first of several processes does alone."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_only

from rectified_lpjepa.commands import say

say_first = rank_zero_only(say)
"""Print text, as :func:`~rectified_lpjepa.commands.say` does, on the first process alone."""
