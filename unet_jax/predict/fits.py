"""How whole images come to a network of fixed needs, and its logits back to their pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.data.images import read_sizes, round_up
from unet_jax.data.pipeline import Size
from unet_jax.data.resize import resize_image
from unet_jax.data.sample import Source, written
from unet_jax.data.sources import Loading
from unet_jax.models.unet import UNet
from unet_jax.process.console import console
from unet_jax.runs.provenance import SHRINKAGE, read_provenance

SAME_SCALE = 1.1  # ratio of shrinkages up to which two scales count as the same


class Reach(NamedTuple):
    """What a network reads to have logits for every pixel.

    Attributes:
        input_size: Along one axis, from n pixels to (pixels to read, pixels with logits): the least
            that the network takes and that give n or more.
        mode: Of `np.pad`: what is read beyond the image. "edge" repeats the last pixels of each
            axis behind them; "symmetric" mirrors the image around all sides (the overlap-tile
            strategy of Ronneberger et al., 2015, Fig. 2, with one tile).
    """

    input_size: Callable[[int], tuple[int, int]]
    mode: str

    def canvas(self, size: Size) -> Size:
        """Returns how many pixels along each axis have logits, for at least a size."""
        return tuple(self.input_size(n)[1] for n in size)

    def read(self, canvas: Size) -> Size:
        """Returns how many pixels along each axis the network reads to have logits for a canvas."""
        return tuple(self.input_size(n)[0] for n in canvas)

    def pad(self, image: np.ndarray, canvas: Size) -> np.ndarray:
        """Adds to an image [*n, C] what the network reads to have logits for a canvas."""
        ends = []
        for n, given, read in zip(image.shape, canvas, self.read(canvas), strict=False):
            before = (read - given) // 2
            ends.append((before, read - n - before))
        return np.pad(image, (*ends, (0, 0)), mode=self.mode)  # pyrefly: ignore[no-matching-overload]


class Resize(NamedTuple):
    """Every image is resized to one size, and its logits, bilinear, to the label's own size.

    Attributes:
        image_size: Of the resized image, [*n].
        reach: What the network reads of it.
    """

    image_size: Size
    reach: Reach

    def canvas(self, size: Size) -> Size:
        """Returns the size of the array that holds a label of a size; see `Fit`."""
        return tuple(map(round_up, size))

    def read(self, canvas: Size) -> Size:
        """Returns the size of what the network reads, the same for all; see `Fit`."""
        return self.reach.read(self.reach.canvas(self.image_size))

    def put(self, image: np.ndarray, canvas: Size) -> np.ndarray:
        """Resizes an image; see `Fit`."""
        resized = resize_image(image, self.image_size)
        return self.reach.pad(resized, self.reach.canvas(self.image_size))

    def back(self, logits: jax.Array, size: jax.Array, canvas: Size) -> jax.Array:
        """Resizes logits [B, *m, K] to [B, *canvas, K]; see `resize_logits`."""
        return resize_logits(_corner(logits, self.image_size), size, canvas)


class Crop(NamedTuple):
    """Every image is read at its own size, padded, and its logits are cut.

    Where a layer takes statistics over the image (`UNet.has_statistics`), the padding is the least
    that the network takes, since more of it would change every pixel. Elsewhere the size is rounded
    up first (`pipeline.round_up`), so that few programs are compiled: with same padding the logits
    nearer to the end of an axis than the receptive field see repeated pixels there instead of the
    zeros of the convolutions, all others are those of the image alone; with valid padding none
    depends on it.

    Attributes:
        reach: What the network reads.
        is_least: Whether the padding is the least.
    """

    reach: Reach
    is_least: bool

    def canvas(self, size: Size) -> Size:
        """Returns the size of the array that holds a label of a size; see `Fit`."""
        return self.reach.canvas(size if self.is_least else tuple(map(round_up, size)))

    def read(self, canvas: Size) -> Size:
        """Returns the size of what the network reads; see `Fit`."""
        return self.reach.read(canvas)

    def put(self, image: np.ndarray, canvas: Size) -> np.ndarray:
        """Pads an image; see `Fit`."""
        return self.reach.pad(image, canvas)

    def back(self, logits: jax.Array, size: jax.Array, canvas: Size) -> jax.Array:
        """Cuts logits [B, *m, K] to [B, *canvas, K]; a label lies in the corner of it."""
        return _corner(logits, canvas)


def make_fit(loading: Loading, model: UNet) -> Resize | Crop:
    """Makes the way of a config's images through evaluation and prediction.

    Args:
        loading: With `fit` "resize" or "crop".
        model: The model that reads them.

    Returns:
        The way there and back.
    """
    reach = Reach(model.input_size, "symmetric" if model.padding == "valid" else "edge")
    if loading.fit == "resize":
        return Resize(loading.image_size, reach)
    return Crop(reach, model.has_statistics())


def _corner(logits: jax.Array, size: Size) -> jax.Array:
    """Cuts logits [B, *m, K] to [B, *size, K]."""
    return logits[(slice(None), *map(slice, size))]


def shrinkage(size: Size, image_size: Size) -> float:
    """Returns how many pixels of an image are one of the resized image, along its longest way."""
    return max(n / m for n, m in zip(size, image_size, strict=True))


def other_scale(source: Source, loading: Loading, trained: float | None) -> str | None:
    """Says where a network sees images at another scale than those it was trained on.

    Args:
        source: The images; nothing but their headers is read.
        loading: How they are loaded.
        trained: The largest `shrinkage` of the training images; None where it is not known.

    Returns:
        One line where `fit` "resize" shrinks images a tenth more than `trained`; else None.
    """
    if loading.fit != "resize" or trained is None:
        return None
    sizes = read_sizes(source, loading.workers)
    ratios = [shrinkage(size, loading.image_size) / trained for size in sizes]
    count, worst = sum(ratio > SAME_SCALE for ratio in ratios), int(np.argmax(ratios))
    if not count:
        return None
    return (
        f"{count} of {len(sizes)} images are shrunk more than any training image was, so what they "
        f"show is smaller there: most of all {source.ids[worst]} ({written(sizes[worst])}), "
        f"{ratios[worst]:.1f} times; cut such images into parts, or train with "
        "config.data.fit='crop'."
    )


def say_other_scale(source: Source, loading: Loading, workdir: Path) -> None:
    """Says in one line where a run sees images at another scale than those it was trained on."""
    trained = read_provenance(workdir).get(SHRINKAGE)  # older runs do not say
    if line := other_scale(source, loading, trained):
        console.print(line)


def resize_logits(logits: jax.Array, size: jax.Array, canvas: Size) -> jax.Array:
    """Resizes each image's logits, linear along each axis, to its own size in a canvas's corner.

    Args:
        logits: float32 [B, *m, K].
        size: float32 [B, axes], what to resize to.
        canvas: [*n], at least as large as every size.

    Returns:
        float32 [B, *n, K]; what lies outside an image's size means nothing.
    """
    axes = tuple(range(len(canvas)))

    def one(image: jax.Array, own_size: jax.Array) -> jax.Array:
        scale = own_size / jnp.array(image.shape[:-1], jnp.float32)
        shape = (*canvas, image.shape[-1])
        shift = jnp.zeros(len(axes))
        return jax.image.scale_and_translate(
            image, shape, axes, scale, shift, method="linear", antialias=False
        )

    return jax.vmap(one)(logits, size)
