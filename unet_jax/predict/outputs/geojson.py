"""Contours as GeoJSON (RFC 7946), which QuPath opens."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from unet_jax.figures import palette
from unet_jax.predict.outputs.base import Output, Predicted, write
from unet_jax.predict.outputs.contours import trace
from unet_jax.predict.outputs.objects import find_objects


class GeoJson(Output):
    """NAME.geojson, a polygon for each object, with its holes, as QuPath's annotations.

    Corners are those of pixels, (0, 0) that of the image: drawn again, the polygons are the mask.
    """

    said: ClassVar[str] = "contours (GeoJSON)"
    axes: ClassVar[tuple[int, ...]] = (2,)

    @classmethod
    def files(cls, name: str, suffix: str, by_class: Sequence[str]) -> tuple[str, ...]:
        """Returns the file; see `Output`."""
        return (f"{name}.geojson",)

    def add(self, found: Predicted, files: Sequence[Path]) -> None:
        """Writes the file; see `Output`."""
        colours = palette(len(self.class_names)).tolist()
        features: list[dict[str, Any]] = []
        for k, numbers in find_objects(found, self.class_names):
            kind = {"name": self.class_names[k], "color": colours[k]}
            for rings in trace(numbers):
                lines = [[*ring.tolist(), ring[0].tolist()] for ring in rings]
                features.append(
                    {
                        "type": "Feature",
                        "geometry": {"type": "Polygon", "coordinates": lines},
                        "properties": {"objectType": "annotation", "classification": kind},
                    }
                )
        whole = {"type": "FeatureCollection", "features": features}
        write(files[0], json.dumps(whole, separators=(",", ":")).encode())
