"""What every engine that runs trials does: submit, watch, cancel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Status = Literal["waiting", "running", "done", "failed"]


class Job(NamedTuple):
    """One process that trains one trial, or several packed into one program.

    Attributes:
        name: Stable and unique in the sweep: the trial's folder name, or "packs/HASH".
        command: Command line, to run in the root of the repository. SIGTERM makes it save and end
            with exit code 143; started again, it goes on.
        log: File for its output.
        trials: Folders of the trials it trains.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    trials: tuple[Path, ...]


class Engine(Protocol):
    """Runs jobs somewhere; it does not plan, and knows nothing of what a job does."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hands jobs over and returns at once; one that is still under way is not started twice.

        Raises:
            UserError: The engine is not there, or refuses them.
        """
        ...

    def watch(self) -> Mapping[str, Status]:
        """Returns the status of every job submitted, by name."""
        ...

    def cancel(self, names: Sequence[str] | None = None) -> None:
        """Asks jobs, by default all, to save and end, and returns when they have ended."""
        ...
