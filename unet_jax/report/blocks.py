"""What sections of a report are made of."""

from typing import NamedTuple

from unet_jax.report.tables import Table


class Words(NamedTuple):
    """A paragraph."""

    text: str


class Points(NamedTuple):
    """A list of points."""

    texts: tuple[str, ...]


class Figure(NamedTuple):
    """A drawing.

    Attributes:
        name: Of its file, without ending.
        caption: What it shows, in a sentence or two.
        svg: The drawing.
    """

    name: str
    caption: str
    svg: str


class Strip(NamedTuple):
    """A wide row of images.

    Attributes:
        name: Of its file, without ending.
        caption: What it shows.
        png: The file's bytes.
    """

    name: str
    caption: str
    png: bytes


class Listing(NamedTuple):
    """Text that is shown as it is, under a heading."""

    heading: str
    text: str


Block = Words | Points | Table | Figure | Strip | Listing


class Section(NamedTuple):
    """A section; figures that follow each other stand side by side where there is room."""

    title: str
    blocks: tuple[Block, ...]


class Report(NamedTuple):
    """A report.

    Attributes:
        title: Its heading.
        lead: What was found, in a few sentences.
        sections: In order.
        tables: Those that are written as CSV.
    """

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]
    tables: tuple[Table, ...]
