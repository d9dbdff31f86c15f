"""Tables: the one source of the numbers in CSV, Markdown and HTML."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from unet_jax.process.streams import printable

ABSENT = "-"  # shown where there is no value
# What Markdown takes for a mark, an entity or a tag; a "_" inside a word and "p < 0.05" are none.
_MARKS = re.compile(
    r"[\\`*\[\]|$~]|^[#>=]|^[+-](?= )|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])"
)


def escape(text: str) -> str:
    """Writes a text so that Markdown, and the HTML in it, shows it as it is, in one line."""
    return _MARKS.sub(r"\\\g<0>", printable(" ".join(text.split())))


class Column(NamedTuple):
    """A column as it is shown, made of one value of a row or of several.

    Attributes:
        heading: Above it; "" leaves the column out of what is shown, but not of the CSV.
        keys: Of the values.
        form: How they are shown, such as "{:.4f} to {:.4f}".
        why: Key of the reason why there is no value, which is shown in its place.
    """

    heading: str
    keys: tuple[str, ...]
    form: str = "{}"
    why: str = ""

    def cell(self, row: Mapping[str, Any]) -> str:
        """Returns the text of a cell."""
        values = [row.get(key) for key in self.keys]
        if all(value is not None for value in values):
            return self.form.format(*values)
        why = row.get(self.why)
        return ABSENT if why is None else f"none: {why}"

    @property
    def is_number(self) -> bool:
        """Returns whether its cells are set flush right."""
        return self.form != "{}"


def interval(heading: str, prefix: str, form: str) -> Column:
    """Returns the column of an interval: of "PREFIX low" and "PREFIX high", or of "PREFIX why"."""
    low, high, why = (f"{prefix} {name}".strip() for name in ("low", "high", "why"))
    return Column(heading, (low, high), f"{form} to {form}", why)


class Table(NamedTuple):
    """Rows of values at full precision, and how they are shown.

    Attributes:
        columns: In order.
        rows: Value by key; None or missing is shown as "-", or as its reason, and empty in CSV.
        marked: Indices of rows that stand out.
        file: Name of its CSV; "" for none.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]
    marked: frozenset[int] = frozenset()
    file: str = ""

    @property
    def shown(self) -> tuple[Column, ...]:
        """Returns the columns that are shown: those with a heading and a value in some row."""
        headed = [column for column in self.columns if column.heading]
        return tuple(c for c in headed if any(c.cell(row) != ABSENT for row in self.rows))

    def cells(self) -> list[list[str]]:
        """Returns the text of all cells that are shown."""
        return [[column.cell(row) for column in self.shown] for row in self.rows]

    def to_csv(self) -> str:
        """Writes all values, numbers with the digits that give them back exactly."""
        keys = list(dict.fromkeys(key for column in self.columns for key in column.keys))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(keys)
        for row in self.rows:
            writer.writerow(["" if row.get(key) is None else row[key] for key in keys])
        return text.getvalue()

    def to_markdown(self) -> str:
        """Writes the shown cells; rows that stand out begin in bold."""
        lines = [[escape(column.heading) for column in self.shown]]
        lines.append(["---:" if column.is_number else "---" for column in self.shown])
        for index, cells in enumerate(self.cells()):
            plain = [escape(cell) for cell in cells]
            lines.append([f"**{plain[0]}**", *plain[1:]] if index in self.marked else plain)
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
