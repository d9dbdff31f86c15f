"""Errors that end a run with one clear line and a documented exit code."""


class UserError(Exception):
    """A mistake that the user can mend; `main` prints it as one line and exits with code 2.

    The message names the file or config key, the value found, what is allowed and what to change.
    """

    exit_code = 2


class BrokenFileError(UserError):
    """A file that a run or a sweep wrote, or a folder, is not what was written."""


class NonFiniteLossError(Exception):
    """The training loss or its gradient became NaN or infinite; `main` exits with code 3."""

    exit_code = 3


class StoppedError(Exception):
    """A signal asked the run to stop, and its state is saved; `main` exits with 128 + signal."""

    def __init__(self, message: str, signum: int) -> None:
        """Takes the message and the signal's number."""
        super().__init__(message)
        self.exit_code = 128 + signum


class LostProcessError(Exception):
    """Another process of the run was lost; `main` exits with code 4."""

    exit_code = 4

    def __init__(self, reason: str = "see its own output, or the scheduler's") -> None:
        """Takes what is known of the reason."""
        super().__init__(
            f"another process of this run was lost ({reason}), so this one ended. Start the same "
            "command again in every process: the run goes on from its last checkpoint."
        )


class MissingResultsError(Exception):
    """Some images of a prediction could not be read, and all others have their results.

    `main` exits with code 5.
    """

    exit_code = 5
