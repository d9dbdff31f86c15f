"""What the commands share: parsing, one clear error for a user's mistake, and exit codes."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from unet_jax import runtime
from unet_jax.errors import LostProcessError, StoppedError, UserError

_NO_ROOM = ("ENOSPC", "EDQUOT", os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
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
    except Exception as error:
        return _end(error)
    return 0


def _end(error: Exception) -> int:
    """Returns the exit code of an error that ends a command, and says it in one line.

    One of many processes ends at once, so that the others learn of it; but not where all of them
    stop together.
    """
    joined = _joined()
    is_full = False
    if not hasattr(error, "exit_code"):
        is_full = _is_disk_full(error)
        error = _explain(error, joined, is_full=is_full)
    code = getattr(error, "exit_code", None)
    if code is not None:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    elif joined:
        traceback.print_exception(error)
    else:
        raise error
    if joined and not isinstance(error, StoppedError):
        joined.leave(code or 1)
    if is_full:  # what is still buffered cannot be written at the end either
        sys.stdout.flush()
        os._exit(code or 1)
    return code or 1


def _joined() -> ModuleType | None:
    """Returns `multihost` where this is one of many processes; jax may not have been needed."""
    if "jax" not in sys.modules:
        return None
    from unet_jax import multihost

    return multihost if multihost.is_joined() else None


def _explain(error: Exception, joined: ModuleType | None, *, is_full: bool) -> Exception:
    """Returns the error that says what another one means to the user; that one where none does."""
    first_line = (str(error).splitlines() or [""])[0]
    if is_full:
        return UserError(
            f"the disk is full ({first_line[:200]}). Free some space and start the same command "
            "again: a run goes on from its last checkpoint."
        )
    if joined and any(map(joined.is_loss, _causes(error))):
        return LostProcessError(first_line[:200])
    return error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_disk_full(error: BaseException) -> bool:
    """Tells whether an error, or what caused it, is that there is no room left."""
    for cause in _causes(error):
        is_os_error = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        # Orbax writes arrays in native code, whose errors are text.
        if is_os_error or any(text in str(cause) for text in _NO_ROOM):
            return True
    return False


def parse(argv: list[str]) -> None:
    """Parses the flags; without --config, those of the run in --workdir or `DEFAULT_PAGE`.

    A command that defines no flag --config has none of these. Where a flag, a config key or the
    page is given several times, the last counts, unless the flag's help says that it is repeated.

    Args:
        argv: The command line.

    Raises:
        UserError: A flag or config key is unknown, or a value does not fit it.
    """
    given = _first_look(argv)
    if "config" not in flags.FLAGS:
        page = None
    elif "config" not in given:
        saved = Path(given.get("workdir") or "") / "config.json"
        is_new = given.get("mode", "train") in ("train", "plan") and not saved.exists()
        is_new |= "workdir" not in flags.FLAGS
        page = str(DEFAULT_PAGE) if is_new else f"{Path(__file__).with_name('saved.py')}:{saved}"
        argv = [argv[0], f"--config={page}", *argv[1:]]
    else:
        page = given["config"]
        argv = _with_one_page(argv, page)
    if page is not None and not Path(page.partition(":")[0]).is_file():
        raise UserError(f"--config={page} is no file; give a config page, such as {DEFAULT_PAGE}.")
    try:
        left = flags.FLAGS(argv)
        keep_last(flags.FLAGS, argv)
    except (AttributeError, KeyError) as error:
        raise UserError(
            (page and _unknown_key(argv, page)) or f"--config={page}: {error}"
        ) from error
    except (flags.Error, SyntaxError, TypeError, ValueError, OSError) as error:
        # Where a page raised, the message is a traceback.
        raise UserError(f"{str(error).strip().splitlines()[-1]} (see --help)") from error
    if len(left) > 1:
        raise UserError(f"{left[1]!r} is no flag; write --FLAG=VALUE (see --help).")
    if page is not None and "config" not in given:
        flags.FLAGS["config"].present = 0  # it was not the user who gave it


def refuse_unused(choice: str, uses: Mapping[str, Sequence[Any]]) -> None:
    """Refuses a flag that was given, but that the command would not look at.

    Args:
        choice: Name of the flag that decides, such as "mode".
        uses: By name of a flag, the values of that one for which it is; where several are wrong,
            the first here is told.

    Raises:
        UserError: There is such a flag.
    """
    chosen = flags.FLAGS[choice]
    for name, values in uses.items():
        # A value of a config page is a flag of its own, such as --config.train.seed.
        given = [flag for flag in flags.FLAGS if flag.partition(".")[0] == name]
        given = [flag for flag in given if flags.FLAGS[flag].present]
        if not given or chosen.value in values:
            continue
        said, wanted = _said(given[0]), " or ".join(_say(choice, value) for value in values)
        if chosen.present:
            takes = ", ".join(f"--{other}" for other in uses if chosen.value in uses[other])
            raise UserError(
                f"{said} is not for {_said(choice)}, which takes {takes or 'no such flag'}, but "
                f"for {wanted}; leave it out or change --{choice}."
            )
        without = "" if chosen.value is None else f", and without it {_said(choice)} counts"
        raise UserError(f"{wanted} is missing: {said} is for nothing else{without}.")


def _said(name: str) -> str:
    return _say(name, flags.FLAGS[name].value)


def _say(name: str, value: Any) -> str:
    """Writes a flag as on the command line."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    if isinstance(value, ConfigDict):
        return f"--{name}"
    return f"--{name}={','.join(map(str, value)) if isinstance(value, list) else value}"


def keep_last(found: flags.FlagValues, argv: list[str]) -> None:
    """Gives every config key that is a tuple its last value; parsing joins all that were given.

    Args:
        found: Flags that have parsed `argv`.
        argv: The command line.
    """
    for name, value in _first_look(argv).items():
        if name.startswith("config.") and isinstance(flag := found[name], flags.MultiFlag):
            flag.unparse()
            flag.parse(value)


def _with_one_page(argv: list[str], page: str) -> list[str]:
    """Puts the page where the first --config is, and leaves out the others.

    Config keys would be set on the first page, and defined again for the next.
    """
    first, *others = [i for i, arg in enumerate(argv) if re.match(r"--?config(=|$)", arg)]
    values = [i + 1 for i in (first, *others) if "=" not in argv[i]]
    argv = [*argv[:first], f"--config={page}", *argv[first + 1 :]]
    return [arg for i, arg in enumerate(argv) if i not in (*others, *values)]


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
