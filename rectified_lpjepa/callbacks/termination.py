"""SIGTERM of one process, told to all of them at an agreed point of the run."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher


class Termination:
    """A note that this process was asked to terminate, in place of Lightning's own exchange between processes.

    With several processes Lightning broadcasts the first one's flag before every batch, which makes the host wait for
    the device each time, and once more out of the signal handler itself, amid whatever else the processes are
    exchanging. Here the signal sets a flag and nothing else; whoever exchanges flags calls :meth:`agree`. So the run
    ends with the next logged step, validation or epoch, which a cluster's grace period must leave time for. A single
    process is left to Lightning, which stops it at the end of the current step.

    Attributes:
        requested: whether this process was asked to terminate since :meth:`install`.
    """

    def __init__(self) -> None:
        self.requested = False

    def install(self, trainer: pl.Trainer) -> None:
        """Take the place of Lightning's exchange; before it registers its signal handlers."""
        self.requested = False
        if trainer.world_size > 1:
            # Lightning offers no other way to change what it does here; the tests count what is left of it.
            trainer._signal_connector._sigterm_notifier_fn = self._note  # type: ignore[assignment, method-assign]
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _exchange_nothing  # type: ignore[method-assign]

    def agree(self, trainer: pl.Trainer) -> None:
        """Let Lightning end the run at its next occasion, on all processes alike; all of them must call this."""
        trainer._signal_connector.received_sigterm = True
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            # Its observer would take a process that ends before this one for a crash, and kill this one.
            launcher.procs.clear()

    def _note(self, *_: Any) -> None:
        self.requested = True


def _exchange_nothing() -> None:
    """Do not broadcast."""
