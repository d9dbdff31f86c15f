"""Asking to stop: SIGTERM, SIGHUP and Ctrl-C finish what is under way and save.

Where nothing is under way that could be saved, Ctrl-C ends a command in one line; a second Ctrl-C
always does, at once. Imports nothing that takes long, since `install` comes before all else.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import NoReturn

INTERRUPTED = 128 + signal.SIGINT
GRACE_SECONDS = 3.0  # for a command to end by itself after its first Ctrl-C
_SHOW_CURSOR = "\x1b[?25h\n"

_is_asked, _is_ending = threading.Event(), threading.Lock()
_left: list[Callable[[], str]] = [lambda: "nothing is half written; start the same command again."]


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
    """Catches the signals of `asking` for a while.

    A second one acts as if nobody caught it; but not SIGHUP, of which a terminal that is closed
    may send several.

    Yields:
        The request.
    """
    request = StopRequest()
    before = {signum: signal.getsignal(signum) for signum in asking()}

    def remember(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        if signum != signal.SIGHUP:
            signal.signal(signum, before[signum])

    with handling(dict.fromkeys(before, remember)):
        yield request


def asking() -> list[int]:
    """Returns the signals that ask to stop: not SIGHUP where it is ignored, as under nohup."""
    is_hung_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
    hangup = [signal.SIGHUP] if is_hung_up else []
    return [int(signum) for signum in (signal.SIGTERM, signal.SIGINT, *hangup)]


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


def install() -> None:
    """Makes Ctrl-C end this process in one line; to be called before the imports that take long.

    The first raises KeyboardInterrupt, so that what is open is closed; if that does not end the
    process, or at a second Ctrl-C, it ends as it is. A thread sees to that, since a handler of
    Python waits until native code, such as a compilation, returns. What was ignored stays ignored.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
        sys.excepthook = _end_interrupted
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    unblock()


@contextmanager
def blocked() -> Iterator[None]:
    """Keeps Ctrl-C waiting, also in a program started meanwhile until that calls `unblock`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        unblock()


def unblock() -> None:
    """Lets Ctrl-C through, and one that came while it was `blocked`."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def ignore() -> None:
    """Ignores Ctrl-C from now on: all is done, and Python, when it ends, has no handlers left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def pass_on(send: Callable[[int], None]) -> None:
    """Leaves the signals of `asking` to another process from now on.

    Args:
        send: Sends it a signal.
    """
    signal.set_wakeup_fd(-1)
    for signum in asking():
        signal.signal(signum, lambda signum, _: send(signum))


def leave(say: Callable[[], str]) -> None:
    """Says what Ctrl-C leaves.

    Args:
        say: Returns what follows "stopped by Ctrl-C; "; called at the end, in any thread.
    """
    _left[0] = say


def is_interrupted() -> bool:
    """Tells whether Ctrl-C is ending this process; errors may come of it."""
    return _is_asked.is_set()


def say_interrupted() -> str:
    """Returns the line of a command that Ctrl-C ends."""
    return f"stopped by Ctrl-C; {_left[0]()}"


def end() -> NoReturn:
    """Ends an interrupted process at once, with one line, however many threads want it to."""
    if not _is_ending.acquire(blocking=False):
        threading.Event().wait()
    with suppress(OSError):
        cursor = _SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, f"{cursor}{say_interrupted()}\n".encode(errors="backslashreplace"))
    os._exit(INTERRUPTED)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    if _is_ending.locked():
        return
    if _is_asked.is_set():
        end()
    _is_asked.set()
    # Where nobody can catch what is raised here, Python would print it.
    sys.unraisablehook = threading.excepthook = lambda _: None
    raise KeyboardInterrupt


def _end_interrupted(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Is sys.excepthook: a KeyboardInterrupt, or what came of one, ends in one line."""
    if issubclass(kind, KeyboardInterrupt) or _is_asked.is_set():
        end()
    sys.__excepthook__(kind, error, trace)


def _watch(reader: int) -> None:
    """Ends the process where its main thread does not; is a thread."""
    count = 0
    while True:
        is_ready = select.select([reader], [], [], GRACE_SECONDS if count else None)[0]
        count += os.read(reader, 64).count(signal.SIGINT) if is_ready else 0
        if count > 1 or (_is_asked.is_set() and not is_ready):
            end()
