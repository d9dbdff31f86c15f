"""Figures of a run: images with their masks, learning curves, confusion matrices.

The only home of matplotlib, which is imported inside functions, so that importing this is cheap.
Figures are drawn on an Agg canvas without pyplot and without changing rcParams, because the trainer
calls from a background thread. Every file is written atomically, and the same input gives the same
bytes: Pillow encodes the rendered pixels, so no date or version gets into the file.
"""

from unet_jax.figures.augmented import Example, augmentation_sheet
from unet_jax.figures.colours import (
    ERROR_COLOUR,
    IGNORED,
    class_colours,
    error_map,
    overlay,
    palette,
    save_png,
)
from unet_jax.figures.confusion import confusion_matrix
from unet_jax.figures.curves import learning_curves
from unet_jax.figures.errors import class_error_grid
from unet_jax.figures.flat import flat_image, flat_label
from unet_jax.figures.indexed import encode_indexed_png, save_indexed_png, write_indexed_png
from unet_jax.figures.pages import prediction_grid, prediction_history

__all__ = [
    "ERROR_COLOUR",
    "IGNORED",
    "Example",
    "augmentation_sheet",
    "class_colours",
    "class_error_grid",
    "confusion_matrix",
    "encode_indexed_png",
    "error_map",
    "flat_image",
    "flat_label",
    "learning_curves",
    "overlay",
    "palette",
    "prediction_grid",
    "prediction_history",
    "save_indexed_png",
    "save_png",
    "write_indexed_png",
]
