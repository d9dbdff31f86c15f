"""The queue: requests that wait for one worker thread, so many and no more."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class FullError(Exception):
    """No place is free."""


class Line:
    """Places for requests, all of them used in one event loop.

    A place is taken before a request is read, and free when nothing of it is in memory: of one that
    was given up while the worker was at it, when the worker is done.

    Attributes:
        taken: How many places are taken, that of the request under way among them.
    """

    def __init__(self, length: int) -> None:
        """Takes how many requests wait while one is under way."""
        self._places, self.taken = length + 1, 0
        self._worker = ThreadPoolExecutor(1, "predict")

    def enter(self) -> "Place":
        """Takes a place, to be used as a context.

        Raises:
            FullError: None is free.
        """
        if self.taken >= self._places:
            raise FullError
        self.taken += 1
        return Place(self, self._worker)


class Place:
    """A request's place."""

    def __init__(self, line: Line, worker: ThreadPoolExecutor) -> None:
        """Takes the line and its worker."""
        self._line, self._worker = line, worker
        self._work: Future[Any] | None = None
        self._is_left = threading.Event()

    def __enter__(self) -> Self:
        """Begins the request."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Frees the place, or has it freed by the worker."""
        self._is_left.set()
        if self._work is None or self._work.done():
            self._free()
        else:
            loop = asyncio.get_running_loop()
            self._work.add_done_callback(lambda _: self._free_in(loop))

    def _free_in(self, loop: asyncio.AbstractEventLoop) -> None:
        if not loop.is_closed():  # else the server has ended
            loop.call_soon_threadsafe(self._free)

    def _free(self) -> None:
        self._line.taken -= 1

    def is_left(self) -> bool:
        """Tells, in any thread, whether nobody waits any more."""
        return self._is_left.is_set()

    async def run(self, work: Callable[[], T]) -> T:
        """Has the worker do something, in its turn; at most once.

        Args:
            work: What to do.

        Returns:
            What it returned.
        """
        self._work = self._worker.submit(work)
        return await asyncio.wrap_future(self._work)
