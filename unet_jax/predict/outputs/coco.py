"""Objects as annotations of COCO, in runs of pixels: exactly the mask."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from unet_jax.data.layouts.polygons import write_runs
from unet_jax.metrics.regions import object_classes
from unet_jax.predict.outputs.base import Output, Predicted, write
from unet_jax.predict.outputs.objects import find_objects, measure, object_runs


class Coco(Output):
    """coco.json, the objects of all images in compressed runs of pixels; see `layouts.coco`.

    Categories are numbered from 1 on, in the order of the classes without the background.
    """

    said: ClassVar[str] = "objects (coco.json)"
    axes: ClassVar[tuple[int, ...]] = (2,)
    common: ClassVar[tuple[str, ...]] = ("coco.json",)

    def __init__(self, class_names: Sequence[str]) -> None:
        """Begins the lists; see `Output`."""
        super().__init__(class_names)
        self._categories = {k: n for n, k in enumerate(object_classes(class_names), start=1)}
        self._found: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Takes the objects of an image; see `Output`."""
        height, width = found.label.shape[:2]
        objects: list[dict[str, Any]] = []
        for k, numbers in find_objects(found, self.class_names):
            sizes, runs = measure(numbers), object_runs(numbers)
            boxes = zip(sizes.pixels, sizes.low, sizes.high - sizes.low, runs, strict=True)
            objects += [
                {
                    "category_id": self._categories[k],
                    "segmentation": {"size": [height, width], "counts": write_runs(counts)},
                    "area": int(pixels),
                    "bbox": [*low[::-1].tolist(), *size[::-1].tolist()],
                    "iscrowd": 0,
                }
                for pixels, low, size, counts in boxes
            ]
        image = {"file_name": found.file, "height": height, "width": width}
        self._found[found.file] = image, objects

    def close(self, files: Sequence[Path]) -> list[str]:
        """Writes the file; see `Output`."""
        names = {n: self.class_names[k] for k, n in self._categories.items()}
        whole: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "categories": [{"id": n, "name": name} for n, name in names.items()],
            "annotations": [],
        }
        # In the order of their names, however they came in batches.
        for number, (image, objects) in enumerate((self._found[f] for f in sorted(self._found)), 1):
            whole["images"].append({"id": number, **image})
            for one in objects:
                place = {"id": len(whole["annotations"]) + 1, "image_id": number}
                whole["annotations"].append(place | one)
        write(files[0], json.dumps(whole, separators=(",", ":")).encode())
        return []
