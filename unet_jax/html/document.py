"""A page of one HTML file with all in it: a header, links, and sections."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from unet_jax.html.elements import Html, make
from unet_jax.html.style import STYLE

_BEGINNING = 1000  # letters in which a page names who wrote it


class Section(NamedTuple):
    """A section of a page.

    Attributes:
        name: Of its place on the page, for links.
        heading: Its heading.
        children: Its elements; a section without any is left out.
    """

    name: str
    heading: str
    children: Sequence[Html]


def write_document(
    title: str,
    generator: str,
    header: Iterable[Html],
    sections: Iterable[Section],
    footer: str,
    *,
    is_broad: bool = False,
    head: Iterable[Html] = (),
    scripts: Iterable[Html] = (),
) -> str:
    """Writes a page.

    Args:
        title: Its heading.
        generator: Who wrote it; see `is_by`.
        header: Elements below the title.
        sections: In order.
        footer: A sentence at the end.
        is_broad: Whether it takes more room than lines of text do, where there is some.
        head: More elements of its head, such as of rules that hold from there on.
        scripts: Elements behind all others.

    Returns:
        HTML that needs no other file; the same of the same arguments.
    """
    first = make(
        "head",
        make("meta", charset="utf-8"),
        make("meta", name="generator", content=generator),
        make("meta", name="viewport", content="width=device-width, initial-scale=1"),
        make("title", title),
        *head,
        make("style", Html(STYLE)),
    )
    shown = [section for section in sections if section.children]
    links = [make("a", section.heading, href=f"#{section.name}") for section in shown]
    body = make(
        "body",
        make("header", make("h1", title), *header, make("nav", *links)),
        *(make("section", make("h2", s.heading), *s.children, id=s.name) for s in shown),
        make("footer", footer),
        *scripts,
        **({"kind": "broad"} if is_broad else {}),
    )
    return f"<!DOCTYPE html>\n{make('html', first, body, lang='en')}\n"


def is_by(file: Path, generator: str) -> bool:
    """Tells whether a file is a page that was written by somebody.

    Args:
        file: The file.
        generator: See `write_document`.
    """
    try:
        with file.open(encoding="utf-8") as stream:
            return f'content="{generator}"' in stream.read(_BEGINNING)
    except (OSError, ValueError):
        return False


def is_free(file: Path, generator: str) -> bool:
    """Tells whether a page may be written: no file is there, or one of the same writer's."""
    return not os.path.lexists(file) or is_by(file, generator)
