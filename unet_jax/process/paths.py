"""Paths on the command line."""

import os
from pathlib import Path

from unet_jax.errors import UserError


def local_path(text: str | Path, flag: str) -> Path:
    """Makes the path that a flag gives, in which ~ is the home directory.

    Args:
        text: The flag's value.
        flag: Its name, for the error.

    Returns:
        The path, without "..": what lies behind one may depend on folders that are not there yet.

    Raises:
        UserError: It is empty or not on this machine.
    """
    if not text or "://" in str(text):
        raise UserError(f"{flag}={text} must be a path on this machine, or mounted.")
    path = expand(text, flag)
    return Path(os.path.realpath(path)) if ".." in path.parts else path


def expand(text: str | Path, where: str) -> Path:
    """Makes a path of a text in which ~ is the home directory; a shell leaves it in --FLAG=~/x.

    Args:
        text: The text.
        where: The flag or config key that gives it, for the error.

    Returns:
        The path.

    Raises:
        UserError: It is the home directory of a user who is not known.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{where}={text}: the home directory is not known.") from None
