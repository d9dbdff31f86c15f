"""Areas, counts and shapes as CSV: a row for each object, and for each class of an image."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unet_jax.metrics.regions import object_classes
from unet_jax.predict.outputs.base import Output, Predicted, write
from unet_jax.predict.outputs.objects import find_objects, measure

_AXES = "zyx"
_WHERE = ("image", "class_id", "class")
_SIZE, _BORDER = {2: "area", 3: "volume"}, {2: "perimeter", 3: "surface"}


class Tables(Output):
    """objects.csv, a row for each object, and classes.csv, one for each class of each image.

    "pixels" counts an object's pixels, "y_first" to "y_last" is the box around it, both included,
    and "z", "y" and "x" are the mean place of the middles of its pixels, where the image's corner
    is 0. "perimeter" is the length of the contour along the sides of pixels, with that of holes,
    and comes out 4 / pi times too long of a circle; of a volume "surface" is the area of the
    faces. "diameter" is that of a disk, or ball, of equal size. Names that end in "_px" are in
    pixels, and the others in the unit of the sides of pixels that the image's file tells: the same
    numbers where it tells none.
    """

    said: ClassVar[str] = "measures (objects.csv, classes.csv)"
    common: ClassVar[tuple[str, ...]] = ("objects.csv", "classes.csv")

    def __init__(self, class_names: Sequence[str]) -> None:
        """Begins the tables; see `Output`."""
        super().__init__(class_names)
        self._objects: list[list[Any]] = []
        self._classes: list[list[Any]] = []
        self._heads: tuple[list[str], list[str]] = [*_WHERE], [*_WHERE]

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Takes the objects of an image; see `Output`."""
        pixel, total = math.prod(found.spacing), math.prod(found.image.shape[:-1])
        axes, counts = found.axes, dict.fromkeys(object_classes(self.class_names), 0)
        columns = _columns(np.zeros((1,) * axes, np.int32), found.spacing)
        classes = ["pixels", "share", _SIZE[axes], "objects"]
        self._heads = [*_WHERE, "object", *columns], [*_WHERE, *classes]
        for k, numbers in find_objects(found, self.class_names):
            where = [found.file, k, self.class_names[k]]
            columns = _columns(numbers, found.spacing)
            rows = zip(*(column.tolist() for column in columns.values()), strict=True)
            for counts[k], row in enumerate(rows, start=1):
                self._objects.append([*where, counts[k], *map(_number, row)])
        for k, class_name in enumerate(self.class_names):
            mask = found.label[..., k] if found.is_by_class else found.label == k
            pixels = int(np.count_nonzero(mask))
            measured = pixels, _number(pixels / total), _number(pixels * pixel)
            self._classes.append([found.file, k, class_name, *measured, counts.get(k, "")])

    def close(self, files: Sequence[Path]) -> list[str]:
        """Writes both tables; see `Output`."""
        tables = self._objects, self._classes
        for file, head, rows in zip(files, self._heads, tables, strict=True):
            write(file, _encode([head, *sorted(rows, key=_place)]))
        return []


def _place(row: Sequence[Any]) -> str:
    """Returns the image, so that rows do not depend on how images came in batches."""
    return row[0]


def _columns(numbers: np.ndarray, spacing: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Measures the objects of a class of an image: an entry for each, by the column's name."""
    found, axes = measure(numbers), numbers.ndim
    names, sides = _AXES[-axes:], np.array(spacing)
    size, faces = found.pixels * sides.prod(), found.faces @ (sides.prod() / sides)
    columns: dict[str, np.ndarray] = {"pixels": found.pixels}
    for i, name in enumerate(names):
        columns[f"{name}_first"], columns[f"{name}_last"] = found.low[:, i], found.high[:, i] - 1
    for i, name in enumerate(names):
        columns[f"{name}_px"] = found.centre[:, i]
    columns[f"{_BORDER[axes]}_px"] = found.faces.sum(axis=1)
    columns["diameter_px"] = _diameter(found.pixels, axes)
    columns[_SIZE[axes]] = size
    for i, name in enumerate(names):
        columns[name] = found.centre[:, i] * sides[i]
    columns[_BORDER[axes]] = faces
    columns["diameter"] = _diameter(size, axes)
    return columns


def _diameter(size: np.ndarray, axes: int) -> np.ndarray:
    """Returns the diameters of disks, or balls, of these areas, or volumes."""
    return 2 * np.sqrt(size / math.pi) if axes == 2 else np.cbrt(6 * size / math.pi)


def _number(value: float) -> float | str:
    """Returns a number to ten digits, whole ones as they are."""
    return value if isinstance(value, int) else f"{value:.10g}"


def _encode(rows: Sequence[Sequence[Any]]) -> bytes:
    """Encodes rows as CSV (RFC 4180)."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
