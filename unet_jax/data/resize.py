"""Resizing of images and labels with any number of axes, channels and any type."""

import numpy as np

from unet_jax.data.formats import pillow


def resize_image(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resizes an image, linear and antialiased along every axis.

    Args:
        image: [*n, C].
        size: To this [*m].

    Returns:
        [*m, C] of the same type; integers are rounded.
    """
    if image.shape[:-1] == size:
        return image
    if len(size) == 2 and image.dtype == np.uint8 and image.shape[-1] == 3:
        return pillow.resize_rgb(image, (size[0], size[1]))
    values = image.astype(np.float32)
    for axis, count in enumerate(size):
        first = np.moveaxis(values, axis, 0)
        flat = np.ascontiguousarray(first.reshape(len(first), -1))
        resized = pillow.resize_rows(flat, count).reshape(count, *first.shape[1:])
        values = np.moveaxis(resized, 0, axis)
    rounded = np.rint(values) if image.dtype.kind in "iu" else values
    return np.ascontiguousarray(rounded.astype(image.dtype))


def resize_label(label: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resizes a label by nearest neighbour.

    Args:
        label: Integers [*n], or [*n, L].
        size: To this [*m].

    Returns:
        [*m], or [*m, L], of the same type.
    """
    if label.shape[: len(size)] == size:
        return label
    for axis, count in enumerate(size):
        label = label.take(pillow.nearest(label.shape[axis], count), axis)
    return label
