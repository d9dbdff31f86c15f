"""What the doctor says of a data set."""

import glob
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from ml_collections import ConfigDict

Level = Literal["error", "warning"]
"""An error ends training or makes its scores mean nothing; a warning costs score or time."""


class Finding(NamedTuple):
    """Something that is wrong with a data set.

    Attributes:
        fault: A key of `faults.FAULTS`.
        level: How bad it is.
        files: All files that have it, of which `MOST_FILES` are listed; () where it is of the whole
            data set.
        says: What is wrong, with the numbers that say so, in a line.
        mend: What to do: lines of a config, each "config.KEY=VALUE", that can be pasted as they
            are; or else a sentence.
    """

    fault: str
    level: Level
    files: tuple[str, ...]
    says: str
    mend: str

    def listed(self) -> tuple[tuple[str, ...], str]:
        """Returns the files to list, and how many they are in words, such as "first 20 of 31"."""
        shown, count = self.files[:MOST_FILES], len(self.files)
        if count > MOST_FILES:
            return shown, f"the first {MOST_FILES} of {count} files"
        return shown, f"{count} file{'' if count == 1 else 's'}"

    def is_config(self) -> bool:
        """Tells whether the mend is lines of a config."""
        return self.mend.startswith("config.")


MOST_FILES, MOST_NAMES = 20, 500  # that are listed of a finding, and that a line of a config names


def excluding(config: ConfigDict, ids: Iterable[str], else_do: str) -> str:
    """Writes the line of a config that leaves images out of every split.

    Args:
        config: The whole config, whose exclusions stay.
        ids: Of the images, or paths of files.
        else_do: A sentence that says what to do where images cannot be left out by a config.

    Returns:
        The line, or the sentence.
    """
    names = (*config.data.folder.exclude, *(glob.escape(name) for name in ids))
    if config.data.source != "folder" or len(names) > MOST_NAMES:
        return else_do
    return setting("data.folder.exclude", tuple(dict.fromkeys(names)))


def setting(key: str, value: Any) -> str:
    """Writes a line of a config that can be pasted."""
    return f"config.{key}={value!r}"
