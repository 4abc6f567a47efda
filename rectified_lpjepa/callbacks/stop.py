"""Signals that ask a run to stop: noted when they come, acted on at a place on which all processes agree."""

from __future__ import annotations

import os
import signal
from types import FrameType

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities.exceptions import SIGTERMException

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What stops a run: a cluster that ends a job, one whose time is almost up, and Ctrl-C."""


class StopSignals:
    """A note of the signal that asked this process to stop, in place of what Lightning does on signals.

    With several processes Lightning broadcasts the first one's flag before every batch, which makes the host wait for
    the device each time, and once more out of the signal handler itself, amid whatever else the processes are
    exchanging; under SLURM it even saves in the handler. Here a signal sets a flag and nothing else. A second Ctrl-C
    interrupts at once.

    Attributes:
        number: the signal that stopped the run, on all processes the same; None as long as it goes on.
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None
        self._received: signal.Signals | None = None

    def install(self, trainer: pl.Trainer) -> None:
        """Handle signals from when Lightning registers its own handlers to when it puts the former ones back."""
        self.number = self._received = None
        # Lightning offers no other way to change what it does here; the tests count what is left of it.
        connector = trainer._signal_connector
        register = connector.register_signal_handlers

        def register_ours() -> None:
            register()
            for number in SIGNALS:
                connector._register_signal(number, self._note)

        connector.register_signal_handlers = register_ours  # type: ignore[method-assign]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _exchange_nothing  # type: ignore[method-assign]

    def is_requested(self, trainer: pl.Trainer) -> bool:
        """Say whether a process was asked to stop, on all processes alike; all of them must call this."""
        number = int(self._received or 0)
        if trainer.world_size > 1:
            highest = torch.tensor(number, device=trainer.strategy.root_device)
            dist.all_reduce(highest, op=dist.ReduceOp.MAX)
            number = int(highest)
        self.number = signal.Signals(number) if number else None
        return bool(number)

    def stop(self, trainer: pl.Trainer) -> None:
        """End the run, on all processes.

        Raises:
            SIGTERMException: always; it is a ``SystemExit``.
        """
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            # Its observer would take a process that ends before this one for a crash, and kill this one.
            launcher.procs.clear()
        raise SIGTERMException

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._received == signal.SIGINT:
                raise KeyboardInterrupt
            os.write(2, b"\nsaving at the end of this step; Ctrl-C again stops at once, without\n")
        self._received = signal.Signals(number)


def _exchange_nothing() -> None:
    """Do not broadcast."""
