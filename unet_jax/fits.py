"""How whole images come to a network of fixed needs, and its logits back to their pixels."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.data.base import Source
from unet_jax.data.images import resize_image
from unet_jax.data.pipeline import Fit, read_sizes, round_up
from unet_jax.data.sources import Loading
from unet_jax.models.unet import UNet

SAME_SCALE = 1.1  # ratio of shrinkages up to which two scales count as the same


class Reach(NamedTuple):
    """What a network reads to have logits for every pixel.

    Attributes:
        input_size: Along one axis, from n pixels to (pixels to read, pixels with logits): the least
            that the network takes and that give n or more.
        mode: Of `np.pad`: what is read beyond the image. "edge" repeats the last row and column
            below and to the right; "symmetric" mirrors the image around all sides (the overlap-tile
            strategy of Ronneberger et al., 2015, Fig. 2, with one tile).
    """

    input_size: Callable[[int], tuple[int, int]]
    mode: str

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns how many rows and columns have logits, for at least a size."""
        height, width = (self.input_size(n)[1] for n in size)
        return height, width

    def read(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """Returns how many rows and columns the network reads to have logits for a canvas."""
        height, width = (self.input_size(n)[0] for n in canvas)
        return height, width

    def pad(self, image: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        """Adds to an image [h, w, C] what the network reads to have logits for a canvas."""
        ends = []
        for n, given, read in zip(image.shape, canvas, self.read(canvas), strict=False):
            before = (read - given) // 2
            ends.append((before, read - n - before))
        return np.pad(image, (*ends, (0, 0)), mode=self.mode)  # pyrefly: ignore[no-matching-overload]


class Resize(NamedTuple):
    """Every image is resized to one size, and its logits, bilinear, to the label's own size.

    Attributes:
        image_size: (height, width) of the resized image.
        reach: What the network reads of it.
    """

    image_size: tuple[int, int]
    reach: Reach

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns (height, width) of the array that holds a label of a size; see `Fit`."""
        return round_up(size[0]), round_up(size[1])

    def read(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """Returns (height, width) of what the network reads, the same for all; see `Fit`."""
        return self.reach.read(self.reach.canvas(self.image_size))

    def put(self, image: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        """Resizes an image; see `Fit`."""
        resized = resize_image(image, self.image_size)
        return self.reach.pad(resized, self.reach.canvas(self.image_size))

    def back(self, logits: jax.Array, size: jax.Array, canvas: tuple[int, int]) -> jax.Array:
        """Resizes logits [B, h, w, K] to [B, *canvas, K]; see `resize_logits`."""
        height, width = self.image_size
        return resize_logits(logits[:, :height, :width], size, canvas)


class Crop(NamedTuple):
    """Every image is read at its own size, padded, and its logits are cut.

    Where a layer takes statistics over the image (`UNet.has_statistics`), the padding is the least
    that the network takes, since more of it would change every pixel. Elsewhere the size is rounded
    up first (`pipeline.round_up`), so that few programs are compiled: with same padding the logits
    nearer to the last row or column than the receptive field see repeated pixels there instead of
    the zeros of the convolutions, all others are those of the image alone; with valid padding none
    depends on it.

    Attributes:
        reach: What the network reads.
        is_least: Whether the padding is the least.
    """

    reach: Reach
    is_least: bool

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns (height, width) of the array that holds a label of a size; see `Fit`."""
        height, width = size if self.is_least else (round_up(size[0]), round_up(size[1]))
        return self.reach.canvas((height, width))

    def read(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """Returns (height, width) of what the network reads; see `Fit`."""
        return self.reach.read(canvas)

    def put(self, image: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
        """Pads an image; see `Fit`."""
        return self.reach.pad(image, canvas)

    def back(self, logits: jax.Array, size: jax.Array, canvas: tuple[int, int]) -> jax.Array:
        """Cuts logits [B, H, W, K] to [B, *canvas, K]; a label lies in the first rows of it."""
        return logits[:, : canvas[0], : canvas[1]]


def make_fit(loading: Loading, model: UNet) -> Fit:
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


def shrinkage(size: tuple[int, int], image_size: tuple[int, int]) -> float:
    """Returns how many pixels of an image are one of the resized image, along its longer way."""
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
    height, width = sizes[worst]
    return (
        f"{count} of {len(sizes)} images are shrunk more than any training image was, so what they "
        f"show is smaller there: most of all {source.ids[worst]} ({height}x{width}), "
        f"{ratios[worst]:.1f} times; cut such images into parts, or train with "
        "config.data.fit='crop'."
    )


def resize_logits(logits: jax.Array, size: jax.Array, canvas: tuple[int, int]) -> jax.Array:
    """Resizes each image's logits, bilinear, to its own size in the corner of a canvas.

    Args:
        logits: float32 [B, h, w, K].
        size: float32 [B, 2], (height, width) to resize to.
        canvas: (H, W), at least as large as every size.

    Returns:
        float32 [B, H, W, K]; what lies outside an image's size means nothing.
    """

    def one(image: jax.Array, own_size: jax.Array) -> jax.Array:
        scale = own_size / jnp.array(image.shape[:2], jnp.float32)
        shape = (*canvas, image.shape[-1])
        shift = jnp.zeros(2)
        return jax.image.scale_and_translate(
            image, shape, (0, 1), scale, shift, method="linear", antialias=False
        )

    return jax.vmap(one)(logits, size)
