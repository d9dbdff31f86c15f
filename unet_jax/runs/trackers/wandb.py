"""Weights & Biases: offline in the run's directory, or as WANDB_MODE says."""

import os
from collections.abc import Mapping
from typing import Any

from unet_jax.runs.trackers.base import Context


class WeightsAndBiases:
    """Logs a run of the project WANDB_PROJECT, or "unet_jax"; see `base.Tracker`.

    Offline, `wandb sync` of the folder brings it to a server. Steps that come again after a death
    are dropped there, since a step of theirs never goes back; their values are equal.
    """

    def __init__(self, context: Context) -> None:
        """Begins a run, or goes on with the one that it was."""
        import wandb

        context.store.mkdir(parents=True, exist_ok=True)
        mode: Any = os.environ.get("WANDB_MODE") or "offline"
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "unet_jax",
            name=context.workdir.name,
            id=context.id or None,
            resume="allow",
            config=dict(context.config),
            dir=context.store,
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        self.id = self._run.id

    def scalars(self, step: int, at: float, values: Mapping[str, float]) -> None:
        """Logs them."""
        self._run.log({**values, "_timestamp": at}, step=step)

    def close(self) -> None:
        """Ends the run, which may go on later."""
        self._run.finish()
