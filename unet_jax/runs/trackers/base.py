"""What a tracker is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Context(NamedTuple):
    """The run that a tracker is opened for.

    Attributes:
        workdir: The run's directory.
        store: A folder of the trackers in it, which may not be there yet.
        config: The config's values by key, such as "optim.learning_rate".
        start: Step from which the run goes on.
        id: What the tracker called this run when it was opened before; "" for a new run.
    """

    workdir: Path
    store: Path
    config: Mapping[str, Any]
    start: int
    id: str = ""


class Tracker(Protocol):
    """Takes the scalars of one run. It may be slow and may fail: a thread of its own waits for it.

    Attributes:
        id: What it calls the run, by which the run goes on in it later; "" where it needs none.
    """

    id: str

    def scalars(self, step: int, at: float, values: Mapping[str, float]) -> None:
        """Takes scalars.

        Args:
            step: Steps taken.
            at: Time of day at which they were there, in seconds since 1970.
            values: The finite ones, by name.
        """
        ...

    def close(self) -> None:
        """Ends it, when the run ends or stops."""
        ...
