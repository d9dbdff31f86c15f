"""What the commands share: parsing, one clear error for a user's mistake, and exit codes."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from absl import flags
from ml_collections import ConfigDict

from unet_jax import runtime
from unet_jax.errors import NonFiniteLossError, StoppedError, UserError

DEFAULT_PAGE = Path(__file__).parents[1] / "configs" / "shapes.py"


def run(argv: list[str], work: Callable[[], None], module: ModuleType) -> int:
    """Runs a command.

    Args:
        argv: The command line.
        work: What to do once the flags are parsed; it imports jax, not its module.
        module: Whose docstring and flags --help prints.

    Returns:
        The exit code: 0, 2 for what the user can mend, 3 for a loss that is not finite, and
        128 + signal after a stop.
    """
    if {"--help", "-help", "-h"} & set(argv):
        print(module.__doc__, flags.FLAGS.module_help(module), sep="\n")
        return 0
    try:
        parse(argv)
        if module.__name__ == "__main__":
            runtime.use_huge_pages()
        runtime.prepare()
        work()
    except (UserError, NonFiniteLossError, StoppedError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    return 0


def parse(argv: list[str]) -> None:
    """Parses the flags; without --config, those of the run in --workdir or `DEFAULT_PAGE`.

    Args:
        argv: The command line.

    Raises:
        UserError: A flag or config key is unknown, or a value does not fit it.
    """
    given = _first_look(argv)
    if "config" not in given:
        saved = Path(given.get("workdir") or "") / "config.json"
        is_new = given.get("mode", "train") == "train" and not saved.exists()
        is_new |= "workdir" not in flags.FLAGS
        page = str(DEFAULT_PAGE) if is_new else f"{Path(__file__).with_name('saved.py')}:{saved}"
        argv = [argv[0], f"--config={page}", *argv[1:]]
    else:
        page = given["config"]
    if not Path(page.partition(":")[0]).is_file():
        raise UserError(f"--config={page} is no file; give a config page, such as {DEFAULT_PAGE}.")
    try:
        left = flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:
        raise UserError(_unknown_key(argv, page) or f"--config={page}: {error}") from error
    except (flags.Error, SyntaxError, TypeError, ValueError, OSError) as error:
        # Where a page raised, the message is a traceback.
        raise UserError(f"{str(error).strip().splitlines()[-1]} (see --help)") from error
    if len(left) > 1:
        raise UserError(f"{left[1]!r} is no flag; write --FLAG=VALUE (see --help).")


def _first_look(argv: list[str]) -> dict[str, str]:
    """Reads --FLAG=VALUE and --FLAG VALUE by name, before it is known which flags take values."""
    given = {}
    for arg, after in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.partition("=")
        if name.startswith("-"):
            given[name.lstrip("-")] = value if equals else after
    return given


def _unknown_key(argv: list[str], page: str) -> str | None:
    """Says which --config.SECTION.KEY the page lacks; None if it is the page that is wrong."""
    try:
        config = flags.FLAGS["config"].parser.parse(page)
    except (AttributeError, KeyError):
        return None
    for name in _first_look(argv):
        section = config
        first, *keys = name.split(".")
        for depth, key in enumerate(keys if first.removeprefix("no") == "config" else []):
            if not isinstance(section, ConfigDict) or key not in section:
                above = ".".join(["config", *keys[:depth]])
                has = ", ".join(section) if isinstance(section, ConfigDict) else repr(section)
                return f"--{name} is not a config key; in {page}, {above} has {has}."
            section = section[key]
    return None
