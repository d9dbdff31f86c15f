"""Files that a config leaves out of every split, and those that lack a partner."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

KEY = "config.data.folder.exclude"
_MAGIC = re.compile(r"[*?\[]")


class UnpairedError(UserError):
    """Files have no partner, or names in a list no image.

    Attributes:
        files: Their paths, or the names.
    """

    def __init__(self, message: str, files: Sequence[AnyPath | str]) -> None:
        """Takes the message, and the files or names."""
        super().__init__(message)
        self.files = tuple(map(str, files))


class Exclusion:
    """The files and images that patterns leave out, and which of the patterns did so.

    Attributes:
        names: Ids of the images that were asked for and are left out.
    """

    def __init__(self, patterns: Sequence[Any] = ()) -> None:
        """Checks the patterns.

        Args:
            patterns: See `folder.open_folder`.

        Raises:
            UserError: One is no text, or empty.
        """
        wrong = [one for one in patterns if not isinstance(one, str) or not one.strip("/")]
        if wrong:
            raise UserError(
                f"{KEY} has {wrong[0]!r}; each entry must be the id of an image or a file's path, "
                "in which * stands for any letters, such as 'bad/*.png'."
            )
        self._patterns, self._used = tuple(patterns), set[str]()
        self._exact = {one for one in patterns if not _MAGIC.search(one)}
        self._globs = [one for one in patterns if one not in self._exact]
        self._longest = max((one.count("/") + 1 for one in self._exact), default=0)
        self.names: set[str] = set()

    def has(self, name: str, *files: AnyPath) -> bool:
        """Tells whether an image is left out, and remembers it.

        Args:
            name: Its id, all of which a pattern must match; "" for a mask without an image.
            *files: Of the image and its masks; a pattern matches the end of a path.

        Returns:
            Whether a pattern matches the id or a file.
        """
        if not self._patterns:
            return False
        found = {name} & self._exact
        for file in map(str, files):
            parts = file.split("/")[-self._longest :] if self._exact else []
            found |= {"/".join(parts[start:]) for start in range(len(parts))} & self._exact
        depth = name.count("/")
        for pattern in self._globs:
            is_id = pattern.count("/") == depth and PurePosixPath(name).match(pattern)
            if is_id or any(PurePosixPath(str(file)).match(pattern) for file in files):
                found.add(pattern)
        self._used |= found
        if found:
            self.names.add(name or str(files[0]))
        return bool(found)

    def has_name(self, name: str) -> bool:
        """Tells whether an image that is not there, of a list, is left out, and remembers it."""
        was_out = not {name, str(PurePosixPath(name).with_suffix(""))}.isdisjoint(self.names)
        return self.has(name) or was_out

    def check_used(self) -> None:
        """Checks that every pattern left something out.

        Raises:
            UserError: One did not.
        """
        unused = [one for one in self._patterns if one not in self._used]
        if unused:
            raise UserError(
                f"{KEY}={self._patterns} has {unused[0]!r}, which is the id of no image and the "
                "end of no path; an id is the path below the folder of the images, without suffix. "
                "Change it or leave it out."
            )
