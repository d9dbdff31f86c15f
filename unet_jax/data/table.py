"""A CSV table with facts about images, such as the patient that each is of."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

from unet_jax.data.files import read_text, say_once
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

_KEY = "config.data.split"
_DELIMITERS = ",;\t"


def read_table(
    file: AnyPath,
    name_column: str,
    columns: Sequence[str],
    position: Mapping[str, Collection[int]],
    ids: Mapping[int, str],
) -> dict[int, tuple[str, ...]]:
    """Reads some columns of a table for some images.

    Args:
        file: The table: lines of values with commas, semicolons or tabs between them, of which the
            first line names the columns; in UTF-8, or in UTF-16 with a byte-order mark.
        name_column: The column that names images, as a list of a split does; "" for the first.
        columns: Those to read.
        position: The indices of the images that a name may mean.
        ids: The images to read of, by index.

    Returns:
        For each of these images its values, without blanks around them.

    Raises:
        UserError: The table cannot be read, lacks a column, an image or one of its values, or has
            two values for one image. Rows that name no image are counted on the console.
    """
    rows = _rows(file)
    header = rows.pop(0)[1] if rows else []
    where = [_column(file, header, name) for name in (name_column, *columns) if name]
    name_at, *places = where if name_column else [0, *where]
    found: dict[int, tuple[int, tuple[str, ...]]] = {}
    unknown = []
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"{file}, line {line} has {len(row)} values and the table {len(header)} columns; "
                "put values with a comma in quotes."
            )
        name, values = row[name_at], tuple(row[at] for at in places)
        means = position.get(name) or position.get(PurePosixPath(name).as_posix(), [])
        if len(means) > 1:
            raise UserError(f"{file}, line {line} names {name!r}, and there are two such images.")
        if not means:
            unknown.append(name)
            continue
        (index,) = means
        first, earlier = found.setdefault(index, (line, values))
        if earlier != values:
            one, other, column = next(
                pair for pair in zip(earlier, values, columns, strict=True) if pair[0] != pair[1]
            )
            raise UserError(
                f"{file} has two values of {column} for {name!r}, {one!r} in line {first} and "
                f"{other!r} in line {line}; leave one."
            )
    _check(file, found, columns, ids)
    if unknown:
        say_once(f"{file}: {len(unknown)} rows of no image passed over, such as {unknown[0]!r}")
    return {index: found[index][1] for index in ids}


def _rows(file: AnyPath) -> list[tuple[int, list[str]]]:
    """Reads all rows that are not empty, with the numbers of their lines."""
    text = read_text(file, "a table")
    first = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    rows = []
    try:
        for row in reader:
            values = [value.strip() for value in row]
            if any(values):
                rows.append((reader.line_num, values))
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num} is no line of a table: {error}.") from None
    return rows


def _column(file: AnyPath, header: Sequence[str], name: str) -> int:
    if header.count(name) != 1:
        is_there = f"has the column {name!r} {header.count(name)} times"
        raise UserError(
            f"{file} {is_there if name in header else f'has no column {name!r}'}; its first line "
            f"names the columns {', '.join(header)}. Change {_KEY} or that line."
        )
    return header.index(name)


def _check(
    file: AnyPath,
    found: Mapping[int, tuple[int, tuple[str, ...]]],
    columns: Sequence[str],
    ids: Mapping[int, str],
) -> None:
    """Checks that every image has all values."""
    missing = [name for index, name in ids.items() if index not in found]
    if missing:
        raise UserError(
            f"{file} has no row for {len(missing)} of the {len(ids)} images, the first is "
            f"{missing[0]!r}; add them, or name the column of the images' names with "
            f"{_KEY}.name_column."
        )
    for index, name in ids.items():
        line, values = found[index]
        for column, value in zip(columns, values, strict=True):
            if not value:
                raise UserError(
                    f"{file}, line {line} has no {column} for {name!r}; write one, such as unknown."
                )
