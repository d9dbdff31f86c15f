"""Says where a run waits when something takes far too long."""

import sys
import threading
import time
from collections.abc import Callable

import jax

LEAST_SECONDS = 60.0  # below which no wait is too long
FACTOR = 5.0  # of the longest wait so far, above which a wait is too long


class Watchdog:
    """A thread that watches how long the run stays in one place.

    Use it as a context, and tell it every place the run comes to. A place is too long when the run
    stays there for more than a minute and five times as long as anywhere before; a line on stderr
    then names the place, and again whenever the wait has doubled. Every process of a run of several
    says so itself, with its number: the one that waits elsewhere than the others is the one to look
    at.
    """

    def __init__(
        self, least: float = LEAST_SECONDS, tell: Callable[[str], None] | None = None
    ) -> None:
        """Takes the shortest wait that is too long, in seconds, and what to do with the line."""
        self._least, self._tell = least, tell or (lambda line: print(line, file=sys.stderr))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._longest = 0.0
        self._place, self._since, self._limit = "", time.monotonic(), least

    def __enter__(self) -> "Watchdog":
        """Starts the thread."""
        count = jax.process_count()
        self._who = f"process {jax.process_index()} of {count} has " if count > 1 else ""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the thread."""
        self._done.set()
        self._thread.join()

    def at(self, place: str) -> None:
        """Tells where the run is now, such as "step 12: the next batch".

        Args:
            place: What it waits for from now on.
        """
        now = time.monotonic()
        self._longest = max(self._longest, now - self._since)
        self._limit = max(self._least, FACTOR * self._longest)
        self._place, self._since = place, now

    def _watch(self) -> None:
        while not self._done.wait(self._least / 20):
            place, waited = self._place, time.monotonic() - self._since
            if waited > self._limit:
                self._limit = 2 * waited
                line = f"{self._who}waited {waited:.0f} s so far at {place}"
                # Tells which of many processes waits for the others.
                before = f"; the longest wait before was {self._longest:.1f} s"
                self._tell(line + (before if self._who else ""))
