"""Large images of a source: read whole, and what tiles give put together in memory."""

from collections.abc import Sequence

import jax
import numpy as np

from unet_jax.data.images import Batch
from unet_jax.data.normalise import Normalise
from unet_jax.data.pipeline import Size, label_and_weight
from unet_jax.data.sample import Source, Window
from unet_jax.errors import UserError
from unet_jax.predict.tiled import Done, Large, Values


def open_large(
    source: Source, index: int, normalise: Normalise, *, with_labels: bool
) -> tuple[Large, Batch]:
    """Reads a large image of a source whole, as a batch of its own.

    Args:
        source: The images.
        index: Of the image.
        normalise: What becomes of its values.
        with_labels: Whether its label is wanted. Without, an image that cannot be read is blank.

    Returns:
        The image, and of `images.image_batches` what a batch has beside its arrays.

    Raises:
        UserError: It cannot be read, and its label is wanted.
    """
    size, error, label = source.shape(index), "", None
    try:
        sample = source.read(index)
        image = sample.image
    except UserError as found:
        if with_labels:
            raise
        sample, error = None, str(found)
        image = np.zeros((*size, source.spec.channels), source.spec.dtype)
    if with_labels and sample is not None:
        parts = label_and_weight(sample.truth(), len(size))
        label = parts["label"], parts["weight"]
        sample = sample._replace(image=image[..., :0].copy())
    batch = {
        "batch_size": 1,
        "canvas": size,
        "index": [index],
        "sizes": [size],
        "samples": {index: sample} if sample else {},
        "errors": {index: error} if error else {},
    }
    image = normalise.prepare(image)
    return Large(source.ids[index], size, image.__getitem__, label), batch


class Assembled:
    """Puts what is found of the parts of an image together in memory."""

    def __init__(self, size: Size, sums: Sequence[str]) -> None:
        """Takes the image's size, and the names of what is added up; see `run_tiles`."""
        self._size, self._sums = size, sums
        self._values: Values = {}

    def add(self, part: Done) -> None:
        """Takes a part."""
        for name, value in part.values.items():
            if name in self._sums:
                wide = jax.tree.map(_wide, value)
                old = self._values.get(name)
                self._values[name] = wide if old is None else jax.tree.map(np.add, old, wide)
                continue
            if name not in self._values:
                self._values[name] = jax.tree.map(self._room, value)
            jax.tree.map(lambda whole, x: _put(whole, part.kept, x), self._values[name], value)

    def _room(self, part: np.ndarray) -> np.ndarray:
        return np.zeros((*self._size, *part.shape[len(self._size) :]), part.dtype)

    def batch(self) -> Values:
        """Returns it as a batch of one image."""
        return {
            name: jax.tree.map(lambda x: np.asarray(x)[None], value)
            for name, value in self._values.items()
        }


def _put(whole: np.ndarray, window: Window, values: np.ndarray) -> np.ndarray:
    whole[window] = values
    return whole


def _wide(values: np.ndarray) -> np.ndarray:
    """Returns counts in 64 bits, which the sum over many tiles may need."""
    return values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
