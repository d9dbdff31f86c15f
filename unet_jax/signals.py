"""Asking to stop: SIGTERM and Ctrl-C finish what is under way and save."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Remembers the signal that asked to stop."""

    signum = 0

    def after(self, step: int) -> int:
        """Returns the signal for which a run is to stop after this step; 0 for none.

        Args:
            step: Steps taken.
        """
        del step  # of no matter where there is one process
        return self.signum


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catches SIGTERM and SIGINT for a while; a second one acts as if nobody caught it.

    Yields:
        The request.
    """
    request, signums = StopRequest(), (signal.SIGTERM, signal.SIGINT)
    before = {int(signum): signal.getsignal(signum) for signum in signums}

    def remember(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        signal.signal(signum, before[signum])

    with handling(dict.fromkeys(before, remember)):
        yield request


@contextmanager
def handling(handlers: Mapping[int, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """Handles signals for a while.

    Args:
        handlers: By signal.
    """
    before = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
