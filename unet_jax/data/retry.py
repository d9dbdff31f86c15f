"""Reads again what failed for a moment, as network file systems and object stores do."""

import errno
import os
import time
from collections.abc import Callable
from typing import TypeVar

from absl import logging

from unet_jax.errors import UserError

TRIES = 5
FIRST_WAIT = 1 / 3  # seconds; each wait is twice the one before, together 5 s
# Waiting mends none of these.
_FINAL = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ImportError,
    UserError,
)

T = TypeVar("T")


def again(read: Callable[[], T], name: str, kinds: tuple[type[Exception], ...] = (OSError,)) -> T:
    """Calls a function that reads, up to `TRIES` times with growing waits.

    Args:
        read: The function; safe to call again after it failed.
        name: What it reads, for messages.
        kinds: Exceptions that may pass by themselves. What cannot get better, such as a missing
            file, comes through at once.

    Returns:
        What the function returns.

    Raises:
        UserError: It failed every time.
    """
    failures: list[Exception] = []
    while len(failures) < TRIES:
        if failures:
            time.sleep(FIRST_WAIT * 2 ** (len(failures) - 1))
        try:
            result = read()
        except kinds as error:
            if isinstance(error, _FINAL):
                raise
            failures.append(error)
            continue
        if failures:
            tries, why = len(failures) + 1, reason(failures[-1])
            logging.warning("%s was read at try %d, after: %s", name, tries, why)
        return result
    raise UserError(
        f"{name} cannot be read, tried {TRIES} times: {reason(failures[-1])}."
    ) from failures[-1]


def reason(error: BaseException) -> str:
    """Returns why something could not be read: the system's text, without number and path."""
    if isinstance(error, FileNotFoundError):
        return os.strerror(errno.ENOENT)  # stores give an address alone
    return (getattr(error, "strerror", None) or one_line(error)).rstrip(".")


def one_line(error: BaseException) -> str:
    """Returns an error's message in one line, or its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
