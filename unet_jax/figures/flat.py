"""Images of any kind as figures show them: two axes, three colours of 8 bits."""

import numpy as np


def flat_image(image: np.ndarray) -> np.ndarray:
    """Returns what a figure shows of an image.

    Args:
        image: [*n, C] of any type; of a volume its middle slice along the first axis is shown.

    Returns:
        uint8 [H, W, 3]: the same values where they are three colours of 8 bits; otherwise those of
        the first three channels, or of the first alone as grey, with the smallest one shown black
        and the largest white.
    """
    image = flat_label(image, image.ndim - 1)
    channels = image[..., :3] if image.shape[-1] >= 3 else image[..., :1]
    if channels.dtype != np.uint8:
        values = channels.astype(np.float64)
        low, high = values.min(), values.max()
        channels = np.rint((values - low) * (255 / (high - low or 1))).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(channels, (*channels.shape[:-1], 3)))


def flat_label(label: np.ndarray, axes: int) -> np.ndarray:
    """Returns the middle slice of a label, along the first of so many axes where they are three."""
    return label[len(label) // 2] if axes == 3 else label
