"""Config pages: Python files with a function get_config(), and the configs that runs wrote."""

import os
import runpy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

from ml_collections import ConfigDict

from unet_jax.config import load
from unet_jax.errors import UserError

_PACKAGED, _CHECKOUT = Path(__file__).parent / "pages", Path(__file__).parents[1] / "configs"
PAGES = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
"""Folder of the stock pages: in a wheel unet_jax/pages, made of the checkout's configs."""
DEFAULT_PAGE, FOLDER_PAGE = PAGES / "shapes.py", PAGES / "folder.py"
MOST_BYTES = 2**24
"""The largest page."""
_LONGEST = 300  # letters of what a page's error says


def load_page(text: str, where: str = "") -> ConfigDict:
    """Reads what --config names.

    Args:
        text: A page, with its recipe where it has several: "oxford_pets.py:cpu", see `find_page`; a
            run's config.json, or the run's folder.
        where: Who names it, for the error; "" for --config.

    Returns:
        The config.

    Raises:
        UserError: There is no such file, or it makes no config.
    """
    has_recipe = ":" in text and not os.path.exists(text)
    name, *recipe = text.split(":", 1) if has_recipe else [text]
    file = Path(name)
    if os.path.isdir(name) and os.path.isfile(file / "config.json"):
        file /= "config.json"
    if file.suffix == ".json":
        return load(file)
    page = find_page(name)
    if page is None:
        is_what = "a folder that holds no run" if os.path.isdir(name) else "no file"
        stock = ", ".join(sorted(file.name for file in PAGES.glob("*.py")))
        raise UserError(
            f"{where or f'--config={text}'} is {is_what}; give a config page of your own, a stock "
            f"page ({stock}), or the folder of a run."
        )
    return call_page(page, "get_config", ConfigDict, *recipe)


def find_page(name: str) -> Path | None:
    """Finds a page.

    Args:
        name: A file; where there is none, the name of a stock page: "shapes.py", or as it is
            called in a checkout, "configs/shapes.py".

    Returns:
        The file; None where there is neither.
    """
    file = Path(name)
    stock = PAGES / file.name
    is_stock = file.parent in (Path(), Path("configs")) and os.path.isfile(stock)
    return file if os.path.isfile(file) else stock if is_stock else None


def call_page(file: Path, name: str, kind: type, *args: str) -> Any:
    """Runs a page, and calls its function.

    Args:
        file: The page; it exists.
        name: Of the function.
        kind: What it must return.
        *args: For the function.

    Returns:
        What it returns.

    Raises:
        UserError: The page is none, or does something wrong, whatever that is; the file and the
            line are named.
    """
    if file.stat().st_size > MOST_BYTES:
        raise UserError(f"{file} is larger than {MOST_BYTES:,} bytes; that is no page.")
    with _described(file):
        names = runpy.run_path(str(file))
    if not callable(names.get(name)):
        raise UserError(f"{file} has no function {name}(), which a page must have.")
    code = getattr(names[name], "__code__", None)
    line = code.co_firstlineno if code else None
    with _described(file, line):
        result = names[name](*args)
    if not isinstance(result, kind):
        raise UserError(
            f"{_place(file, line)}: {name}() returned an object of type {type(result).__name__}; "
            f"it must return a {kind.__name__}."
        )
    return result


@contextmanager
def _described(file: Path, line: int | None = None) -> Iterator[None]:
    """Turns whatever a page raises, also to end the program, into one line that names its own.

    Args:
        file: The page.
        line: To name where no line of the page was reached.

    Raises:
        UserError: Something but a Ctrl-C was raised.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(file)
        ]
        if isinstance(error, SyntaxError) and error.filename == str(file):
            lines, text = [error.lineno], error.msg
        else:
            text = str(error)
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        said = shorten(f"{kind}{text}", _LONGEST, placeholder=" ...")
        raise UserError(f"{_place(file, lines[-1] if lines else line)}: {said}") from error


def _place(file: Path, line: int | None) -> str:
    return f"{file}, line {line}" if line else str(file)
