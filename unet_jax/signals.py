"""Asking a run to stop: SIGTERM and Ctrl-C finish the step and save."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import jax

from unet_jax.multihost import stop_is_agreed


class StopRequest:
    """Remembers the signal that asked to stop."""

    signum = 0

    def after(self, step: int) -> int:
        """Returns the signal for which the run is to stop after this step; 0 for none.

        Args:
            step: Steps taken; every process asks once for every step.

        Returns:
            The same on every process.
        """
        if jax.process_count() == 1:
            return self.signum
        return signal.SIGTERM if stop_is_agreed(step) else 0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catches SIGTERM and SIGINT for a while; a second one acts as if nobody caught it.

    Of many processes each leaves SIGTERM to jax, which tells the others.

    Yields:
        The request.
    """
    request, before = StopRequest(), {}

    def remember(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        signal.signal(signum, before[signum])

    def tell_others(signum: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    if jax.process_count() == 1:
        handlers = {signal.SIGTERM: remember, signal.SIGINT: remember}
    else:
        handlers = {signal.SIGINT: tell_others}
    for signum, handler in handlers.items():
        before[signum] = signal.signal(signum, handler)
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
