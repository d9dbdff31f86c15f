"""Headers of NumPy's files are parsed as Python, in one thread at a time."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# CPython before 3.11.8 and 3.12.2 counts how deep it parses for all threads together (gh-106905):
# where two parse at a time, one may get a SystemError.
_PARSING = threading.Lock()


def parse_alone(read: Callable[[], T]) -> T:
    """Calls what parses Python; once more where a thread that parses something else came between.

    Args:
        read: Reads from the beginning each time that it is called.

    Returns:
        What it returns.
    """
    with _PARSING:
        try:
            return read()
        except SystemError:
            return read()
