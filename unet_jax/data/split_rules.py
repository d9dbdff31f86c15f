"""The rules that a config has for splits: folds, groups that stay whole, and strata."""

import re
from typing import NamedTuple

from unet_jax.config import check_range
from unet_jax.errors import UserError

MOST_FOLDS, MOST_FOLDERS = 1000, 16
KEY = "config.data.split"


class Rules(NamedTuple):
    """How images are split; see `make_rules`."""

    fold: int = 0
    folds: int = 0
    group_pattern: str = ""
    group_folders: int = 0
    group_column: str = ""
    stratify_classes: bool = False
    stratify_column: str = ""
    table: str = ""
    name_column: str = ""

    def grouping(self) -> str:
        """Returns the key that says what a group is, with its value; "" where none does."""
        names = ("group_pattern", "group_folders", "group_column")
        return next(
            (f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name)), ""
        )

    def columns(self) -> tuple[str, ...]:
        """Returns the columns of the table that are read, in order."""
        return tuple(dict.fromkeys(filter(None, (self.group_column, self.stratify_column))))

    def first(self) -> str:
        """Returns the first key of the section that differs from its default, with its value."""
        pairs = zip(self._fields, self._replace(fold=0, folds=0), NO_RULES, strict=True)
        return next(f"{KEY}.{name}={value!r}" for name, value, default in pairs if value != default)

    def is_set(self) -> bool:
        """Tells whether any key of the section differs from its default."""
        return self._replace(fold=0, folds=0) != NO_RULES


NO_RULES = Rules()
"""Shares, of images that each stand for themselves."""


def make_rules(
    group_pattern: str = "",
    group_folders: int = 0,
    group_column: str = "",
    stratify_classes: bool = False,
    stratify_column: str = "",
    table: str = "",
    name_column: str = "",
    *,
    fold: int = 0,
    folds: int = 0,
) -> Rules:
    r"""Checks the values of a config's data.split section.

    Images of one group, such as a patient, an animal or a video, are all in one split. One of the
    three `group_` keys says what a group is; without, each image stands for itself.

    Args:
        group_pattern: A regular expression that is found in the name of every image (its path below
            the folder of the images, without suffix and without a folder that says the split): its
            group is what the parentheses hold, or all that is found where there are none.
            `^(.*)_\d+$` makes "pug_7" one of "pug".
        group_folders: Images whose first so many folders are the same, in that name, are a group; 0
            for none, 1 for patient/scan/slice.png by patient.
        group_column: The column of `table` that names the group of an image.
        stratify_classes: Whether splits shall have the same shares of images that hold a class, as
            far as they can; every mask is read once for that.
        stratify_column: The column of `table` whose values shall have the same shares, such as the
            hospital.
        table: A CSV file with a row for every image, below config.data.path, or anywhere where it
            begins with / or ~ or is remote; its first line names the columns.
        name_column: The column of the images' names, with or without suffix; "" for the first.
        fold: See `sources.open_data`.
        folds: Likewise.

    Returns:
        The rules.

    Raises:
        UserError: A value does not fit.
    """
    rules = Rules(
        fold=fold,
        folds=folds,
        group_pattern=group_pattern,
        group_folders=group_folders,
        group_column=group_column,
        stratify_classes=stratify_classes,
        stratify_column=stratify_column,
        table=table,
        name_column=name_column,
    )
    _check_folds(fold, folds)
    check_range(f"{KEY}.group_folders", group_folders, 0, MOST_FOLDERS)
    given = [
        f"{KEY}.{name}" for name in rules._fields if name[:5] == "group" and getattr(rules, name)
    ]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} are set; one of them says what a group is.")
    try:
        re.compile(group_pattern)
    except re.error as error:
        raise UserError(
            f"{KEY}.group_pattern={group_pattern!r} is no regular expression: {error}."
        ) from None
    for name in ("group_column", "stratify_column"):
        if (column := getattr(rules, name)) and not table:
            raise UserError(
                f"{KEY}.{name}={column!r} is a column of a table; set {KEY}.table to that."
            )
    if table and not rules.columns():
        raise UserError(
            f"{KEY}.table={table!r} has no effect without {KEY}.group_column or "
            f"{KEY}.stratify_column; set one, or leave it empty."
        )
    if name_column and not table:
        raise UserError(f"{KEY}.name_column={name_column!r} has no effect without {KEY}.table.")
    return rules


def _check_folds(fold: int, folds: int) -> None:
    if folds != 0:
        check_range("config.data.folds", folds, 2, MOST_FOLDS)
    if folds == 0 and fold != 0:
        raise UserError(
            f"config.data.fold={fold} has no effect without config.data.folds; set it to how many "
            "folds there are."
        )
    if folds and not 0 <= fold < folds:
        raise UserError(
            f"config.data.fold={fold} must be 0 to {folds - 1} with config.data.folds={folds}."
        )
