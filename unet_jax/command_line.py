"""What the commands share: parsing, one clear error for a user's mistake, and exit codes."""

import ast
import contextlib
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from unet_jax.config import check_sections
from unet_jax.convert import refuse_key
from unet_jax.defaults import add_part, complete
from unet_jax.errors import LostProcessError, StoppedError, UserError
from unet_jax.page import DEFAULT_PAGE, FOLDER_PAGE, load_page
from unet_jax.process import runtime, signals, streams
from unet_jax.process.paths import expand

_LONGEST, _LONGEST_VALUE = 2000, 2**16  # letters of an error, and of a flag's value
_PATHS, _ROOM = ("workdir", "output", "study", "write_page"), 200  # flags; letters of a name below
_NO_ROOM = ("ENOSPC", "EDQUOT", os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


def run(
    argv: list[str], work: Callable[..., None], module: ModuleType, *, operands: bool = False
) -> int:
    """Runs a command.

    Args:
        argv: The command line.
        work: What to do once the flags are parsed; it imports jax, not its module.
        module: Whose docstring and flags --help prints.
        operands: Whether `work` takes those of the command line, which are no flags.

    Returns:
        The exit code: 0; that of the error, see `errors`; 128 + signal after a stop.
    """
    if module.__name__ != "__main__":
        return _run(argv, work, module, operands)
    streams.keep_open()
    code = _run(argv, work, module, operands)
    signals.ignore()
    runtime.end_quickly()
    return code


def _run(argv: list[str], work: Callable[..., None], module: ModuleType, operands: bool) -> int:
    if {"--help", "-help", "-h"} & set(argv):
        print(module.__doc__, flags.FLAGS.module_help(module), sep="\n")
        return 0
    try:
        left = parse(argv)
        if left and not operands:
            raise UserError(f"{left[0]!r} is no flag; write --FLAG=VALUE (see --help).")
        if module.__name__ == "__main__":
            runtime.tie()
            runtime.use_huge_pages()
            runtime.start_quickly()
        runtime.prepare()
        work(*([left] if operands else []))
    except KeyboardInterrupt:
        return _interrupted(module)
    except Exception as error:
        return _interrupted(module) if signals.is_interrupted() else _end(error)
    return 0


def _interrupted(module: ModuleType) -> int:
    """Ends a command after Ctrl-C, and at once: what its threads would still say is of no use."""
    if module.__name__ == "__main__":
        sys.stdout.flush()
        signals.end()
    print(signals.say_interrupted(), file=sys.stderr)
    return signals.INTERRUPTED


def _end(error: Exception) -> int:
    """Returns the exit code of an error that ends a command, and says it in one line.

    One of many processes ends at once, so that the others learn of it; but not where all of them
    stop together.
    """
    joined = _joined()
    is_full = _is_disk_full(error)
    if not hasattr(error, "exit_code"):
        error = _explain(error, joined, is_full=is_full)
    code = getattr(error, "exit_code", None)
    if code is not None:
        kind = "" if isinstance(error, StoppedError) else "error: "  # it was asked for
        print(f"{kind}{streams.printable(one_line(error))}", file=sys.stderr)
    elif joined:
        traceback.print_exception(error)
    else:
        raise error
    if joined and not isinstance(error, StoppedError):
        joined.leave(code or 1)
    if is_full:  # what is still buffered cannot be written at the end either
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code or 1)
    return code or 1


def one_line(error: Exception) -> str:
    """Returns an error's text as one line, without the middle of a very long one."""
    text = " ".join(str(error).split())
    return (
        text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    )


@contextlib.contextmanager
def full_disk(advice: str) -> Iterator[None]:
    """Says what a full disk means to a command.

    Args:
        advice: What is lost, what is kept, and what to do.

    Raises:
        UserError: There was no room left.
    """
    try:
        yield
    except Exception as error:
        if hasattr(error, "exit_code") or not _is_disk_full(error):
            raise
        first_line = (str(error).splitlines() or [""])[0]
        raise UserError(f"the disk is full ({first_line[:200]}). {advice}") from error


def _joined() -> ModuleType | None:
    """Returns `multihost` where this is one of many processes; jax may not have been needed."""
    if "jax" not in sys.modules:
        return None
    from unet_jax.process import multihost

    return multihost if multihost.is_joined() else None


def _explain(error: Exception, joined: ModuleType | None, *, is_full: bool) -> Exception:
    """Returns the error that says what another one means to the user; that one where none does."""
    first_line = (str(error).splitlines() or [""])[0]
    if is_full:
        advice = "Free some space and start the same command again."
        return UserError(f"the disk is full ({first_line[:200]}). {advice}")
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


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; without --config, those of the run in --workdir or `DEFAULT_PAGE`.

    A command that looks at no config reads no page. Where a flag, a config key or the
    page is given several times, the last counts, unless the flag's help says that it is repeated.

    Args:
        argv: The command line.

    Returns:
        What is no flag.

    Raises:
        UserError: A flag or config key is unknown, a value does not fit it, or the page makes no
            config.
    """
    given = _first_look(argv)
    for name, value in given.items():
        if len(value) > _LONGEST_VALUE:
            raise UserError(f"--{name} has {len(value):,} letters; {_LONGEST_VALUE:,} is the most.")
    page, config = None, None
    if _needs_page(given):
        page = str(expand(given["config"], "--config")) if "config" in given else _page_of(given)
        argv = _with_one_page(argv, page)
        config = complete(load_page(page))
        for name in given:
            flag, _, key = name.partition(".")
            if flag in ("config", "noconfig"):
                refuse_key(key)
                add_part(config, key)
        flags.FLAGS["config"].parser = _Loaded(config)
    try:
        left = parse_values(flags.FLAGS, argv)
        if config is not None:
            check_sections(config)
    except (AttributeError, KeyError) as error:
        unknown = config and _unknown_key(argv, str(page), config)
        raise UserError(unknown or f"--config={page}: {error}") from error
    for name in _PATHS:
        if name in flags.FLAGS and (path := flags.FLAGS[name].value):
            check_path(f"--{name}", str(expand(path, f"--{name}")))
    if page is not None and "config" not in given:
        flags.FLAGS["config"].present = 0  # it was not the user who gave it
    return left[1:]


def check_path(flag: str, path: str) -> None:
    """Checks that a path can be asked for, whether or not something is there.

    Args:
        flag: Whose value it is, for the error.
        path: The path.

    Raises:
        UserError: It is too long, may not be looked into or is none; names of 200 letters below it
            have room.
    """
    try:
        os.lstat(os.path.join(path, "x" * _ROOM))
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{flag}={path} is no path: {why}; choose another one.") from None


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
        *others, last = (_say(choice, value) for value in values)
        wanted = f"{', '.join(others)} or {last}" if others else last
        said = _said(given[0])
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


def parse_values(found: flags.FlagValues, argv: list[str]) -> list[str]:
    """Parses flags and config values.

    Of a config key that is a tuple the last value counts; absl joins all that were given.

    Args:
        found: The flags.
        argv: The command line.

    Returns:
        What is left of it.

    Raises:
        UserError: A value cannot be read.
    """
    try:
        left = found(argv)
        for name, value in _first_look(argv).items():
            if name.startswith("config.") and isinstance(flag := found[name], flags.MultiFlag):
                flag.unparse()
                flag.parse(value)
    except (RecursionError, MemoryError) as error:
        raise UserError(f"--{_too_deep(argv)} is nested too deeply to be a value.") from error
    except (flags.Error, SyntaxError, TypeError, ValueError, OSError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{said[-1]} (see --help)") from error
    return left


def _with_one_page(argv: list[str], page: str) -> list[str]:
    """Puts the page where the first --config is, or first, and leaves out the others.

    Config keys would be set on the first page, and defined again for the next.
    """
    found = [i for i, arg in enumerate(argv) if re.match(r"--?config(=|$)", arg)]
    if not found:
        return [argv[0], f"--config={page}", *argv[1:]]
    first, *others = found
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


class _Loaded(flags.ArgumentParser):
    """Gives --config the config that was loaded already."""

    def __init__(self, config: ConfigDict) -> None:
        """Takes the config."""
        self._config = config

    def parse(self, argument: str) -> ConfigDict:
        """Returns it, locked, so that no key is added."""
        return self._config.lock()


def _needs_page(given: Mapping[str, str]) -> bool:
    """Tells whether a command looks at a config: of its operations, where it has some, "unet"."""
    is_asked = any(re.fullmatch(r"(no)?config(\..*)?", name) for name in given)
    default = given.get("operation") == "unet" or "operation" not in flags.FLAGS
    return "config" in flags.FLAGS and (is_asked or default)


def _page_of(given: Mapping[str, str]) -> str:
    """Returns the page where the user gives none: the config of the run, or `DEFAULT_PAGE`."""
    saved = expand(given.get("workdir") or "", "--workdir") / "config.json"
    mode = given.get("mode", "train")
    begins = mode in ("train", "plan", "doctor", "augment", "score")
    needs_none = mode in ("verify", "export") and not given.get("workdir")
    is_new = needs_none or (begins and not os.path.exists(saved))
    page = (
        FOLDER_PAGE if mode in ("score", "verify") else DEFAULT_PAGE
    )  # masks are of the user's own data
    return str(page if is_new or "workdir" not in flags.FLAGS else saved)


def _too_deep(argv: list[str]) -> str:
    """Returns the first flag whose value Python cannot read for its depth."""
    for name, value in _first_look(argv).items():
        try:
            ast.literal_eval(value)
        except (RecursionError, MemoryError):
            return name
        except Exception:  # it is no literal, but need not be
            continue
    return "config"


def _unknown_key(argv: list[str], page: str, config: ConfigDict) -> str | None:
    """Says which --config.SECTION.KEY the page lacks; None if none is lacking."""
    for name in _first_look(argv):
        section = config
        first, *keys = name.split(".")
        for depth, key in enumerate(keys if first.removeprefix("no") == "config" else []):
            if not isinstance(section, ConfigDict) or key not in section:
                above = ".".join(["config", *keys[:depth]])
                has = (
                    ", ".join(sorted(section)) if isinstance(section, ConfigDict) else repr(section)
                )
                return f"--{name} is not a config key; in {page}, {above} has {has}."
            section = section[key]
    return None
