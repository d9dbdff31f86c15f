"""What the doctor says of a data set."""

from typing import Literal, NamedTuple

Level = Literal["error", "warning"]
"""An error ends training or makes its scores mean nothing; a warning costs score or time."""


class Finding(NamedTuple):
    """Something that is wrong with a data set.

    Attributes:
        fault: A key of `faults.FAULTS`, or "opening" where the data set does not open.
        level: How bad it is.
        files: The files that have it, the first `MOST_FILES`; () where it is of all.
        says: What is wrong, with the numbers that say so, in a line.
        mend: What to do: lines of a config, each "config.KEY=VALUE", that can be pasted as they
            are; or else a sentence.
    """

    fault: str
    level: Level
    files: tuple[str, ...]
    says: str
    mend: str

    def is_config(self) -> bool:
        """Tells whether the mend is lines of a config."""
        return self.mend.startswith("config.")


MOST_FILES = 20
