"""Asking a run to stop: SIGTERM and Ctrl-C finish the step and save."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Remembers the signal that asked to stop; 0 while none did."""

    signum = 0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catches SIGTERM and SIGINT for a while; a second one acts as if nobody caught it.

    Yields:
        The request.
    """
    request, before = StopRequest(), {}

    def remember(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        signal.signal(signum, before[signum])

    for signum in (signal.SIGTERM, signal.SIGINT):
        before[signum] = signal.signal(signum, remember)
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
