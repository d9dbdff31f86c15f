"""The trackers of a config, fed by a thread that a run never waits for."""

import importlib.util
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.process import records
from unet_jax.process.console import console
from unet_jax.process.whole import write_text
from unet_jax.runs import layout
from unet_jax.runs.trackers.base import Context, Tracker
from unet_jax.runs.trackers.mlflow import MLflow
from unet_jax.runs.trackers.tensorboard import TensorBoard
from unet_jax.runs.trackers.wandb import WeightsAndBiases

END_S = 60.0  # that the end of a run waits for its trackers
_IDS = "ids.json"  # of this run in trackers that need one


class Row(NamedTuple):
    """A tracker that there is.

    Attributes:
        open: Opens it for a run.
        package: What it imports.
        extra: The extra of this project that installs that; "" where it is always there.
    """

    open: Callable[[Context], Tracker]
    package: str
    extra: str = ""


TRACKERS: dict[str, Row] = {
    "tensorboard": Row(TensorBoard, "tensorboardX"),
    "mlflow": Row(MLflow, "mlflow", "mlflow"),
    "wandb": Row(WeightsAndBiases, "wandb", "wandb"),
}
"""By name in config.train.trackers."""


def check_trackers(names: Sequence[str]) -> None:
    """Checks config.train.trackers.

    Args:
        names: Its value.

    Raises:
        UserError: There is no such tracker, or its package is not installed.
    """
    for name in names:
        row = choose(TRACKERS, "config.train.trackers", name)
        if importlib.util.find_spec(row.package) is None:
            raise UserError(
                f"config.train.trackers has {name!r}, whose package {row.package} is not "
                f"installed: pip install 'unet-jax[{row.extra}]', or leave it out."
            )


class Trackers:
    """Feeds the trackers of one run.

    A run neither waits for them nor fails with them: what fails is left out from then on, with one
    line that says so.
    """

    def __init__(
        self, names: Sequence[str], workdir: Path, config: Mapping[str, Any], start: int
    ) -> None:
        """Starts the thread, which opens them.

        Args:
            names: Keys of `TRACKERS`.
            workdir: The run's directory.
            config: The config's values by key.
            start: Step from which the run goes on.
        """
        store = workdir / layout.TRACKERS
        self._file, self._ids = store / _IDS, {}
        if start:
            known = records.recall(self._file, {str: str})
            self._ids = dict(known or {})
        self._context = Context(workdir, store, config, start)
        self._names, self._open = tuple(names), dict[str, Tracker]()
        self._queue: queue.SimpleQueue[tuple[int, float, dict[str, float]] | None]
        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def scalars(self, step: int, values: Mapping[str, float | None]) -> None:
        """Hands scalars on; those that are None or not finite are left out."""
        finite = {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}
        self._queue.put((step, time.time(), finite))

    def close(self, wait_s: float = END_S) -> None:
        """Waits until all has been handed on, for a time.

        Args:
            wait_s: The longest, in seconds.
        """
        self._queue.put(None)
        self._thread.join(wait_s)
        if self._thread.is_alive():
            console.print(
                f"trackers: {', '.join(self._names)} did not end within {wait_s:.0f} s, and may "
                "lack the last lines"
            )

    def _work(self) -> None:
        for name in self._names:
            self._try(name, self._begin)
        while (line := self._queue.get()) is not None:
            for name in list(self._open):
                self._try(name, lambda name, line=line: self._open[name].scalars(*line))
        for name in list(self._open):
            self._try(name, lambda name: self._open[name].close())

    def _begin(self, name: str) -> None:
        own = self._context._replace(id=self._ids.get(name, ""))
        tracker = self._open[name] = TRACKERS[name].open(own)
        if tracker.id and tracker.id != own.id:
            self._ids[name] = tracker.id
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps(self._ids) + "\n")

    def _try(self, name: str, act: Callable[[str], None]) -> None:
        try:
            act(name)
        except Exception as error:  # whatever it is, the run goes on
            self._open.pop(name, None)
            said = str(error).strip().splitlines() or [type(error).__name__]
            console.print(f"tracker {name} is left out from here on: {said[0][:200]}")
