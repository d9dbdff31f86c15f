"""Objects as polygons of YOLO's tools: a line for each."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import yaml

from unet_jax.metrics.regions import object_classes
from unet_jax.predict.outputs.base import Output, Predicted, write
from unet_jax.predict.outputs.contours import Holes, join_rings, trace
from unet_jax.predict.outputs.objects import find_objects


class Yolo(Output):
    """labels/NAME.txt, a polygon for each object, and data.yaml; see `layouts.yolo`.

    A line is the class, from 0 on in the order of the classes without the background, and x and y
    as shares of the image's sides, to 8 digits. The format has no holes: the line of an object with
    holes goes to each and back by a cut without width, so that what takes a pixel by its centre
    gives the mask back. What also draws the line itself may be off by the pixels along it.
    """

    said: ClassVar[str] = "polygons (YOLO)"
    axes: ClassVar[tuple[int, ...]] = (2,)
    common: ClassVar[tuple[str, ...]] = ("data.yaml",)

    def __init__(self, class_names: Sequence[str]) -> None:
        """Numbers the classes; see `Output`."""
        super().__init__(class_names)
        self._numbers = {k: n for n, k in enumerate(object_classes(class_names))}
        self._holes = Holes()

    @classmethod
    def files(cls, name: str, suffix: str, by_class: Sequence[str]) -> tuple[str, ...]:
        """Returns the file; see `Output`."""
        return (f"labels/{name}.txt",)

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Writes the file; see `Output`."""
        size = np.array(found.label.shape[1::-1])
        lines = []
        for k, numbers in find_objects(found, self.class_names):
            for rings in trace(numbers):
                shares = (join_rings(rings) / size).ravel().tolist()
                lines.append(" ".join([str(self._numbers[k]), *(f"{s:.8g}" for s in shares)]))
                self._holes.look(found.name, rings)
        write(files[0], "".join(f"{line}\n" for line in lines).encode())

    def close(self, files: Sequence[Path]) -> list[str]:
        """Writes the names of the classes; counts the objects that have holes. See `Output`."""
        names = {n: self.class_names[k] for k, n in self._numbers.items()}
        page = {"path": ".", "train": "images", "val": "images", "names": names}
        write(files[0], yaml.safe_dump(page, sort_keys=False, allow_unicode=True).encode())
        return self._holes.lines(
            "yolo",
            "the format has none, and their lines go to each hole and back by a cut without width",
        )
