"""The standard streams of a command: whoever read them may go, and any text may come."""

import errno
import io
import os
import sys
import unicodedata
from typing import Any, TextIO

_GONE = (errno.EPIPE, errno.EIO)  # of a pipe without a reader, and of a terminal that was closed
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, surrogates, ends of lines and paragraphs


class _Lasting(io.FileIO):
    """A stream whose text goes nowhere when its reader has gone; that ends no run."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        return len(data)


def keep_open() -> None:
    """Makes stdout and stderr outlive their readers; what their encoding lacks is escaped."""
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)


def _lasting(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):  # closed at the start, or somebody's own
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        # stderr writes through, but only to the buffer below, which os._exit would lose.
        line_buffering=stream.line_buffering or stream.write_through,
    )


def printable(text: str) -> str:
    r"""Writes a text so that it stays in its line and moves no cursor.

    Args:
        text: May hold the name of a file or class.

    Returns:
        The text, with an escape such as \\n or \\x1b for each character that is not seen.
    """
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    is_hidden = unicodedata.category(character) in _HIDDEN
    return ascii(character)[1:-1] if is_hidden else character
