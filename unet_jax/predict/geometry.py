"""Whether the tiles of a network make up its whole result, and how they have to lie for that."""

from typing import NamedTuple

from unet_jax.models.receptive import reach
from unet_jax.models.unet import UNet


class Geometry(NamedTuple):
    """How the reads of a network lie, along every axis alike.

    Attributes:
        multiple: Of the pixels from one read to another; elsewhere the windows of poolings would
            lie on other pixels.
        halo: Pixels of a read, on each side that is not the image's edge, whose logits are not
            those of the whole image: the least multiple of `multiple` that covers `reach`. With
            valid convolutions, which have no logits for most such pixels, the least that covers
            what transposed convolutions leave incomplete: 0 for the paper's. None where every pixel
            depends on all of the image, so that no halo is enough.
        obstacle: Why `halo` is None; "" where it is not.
    """

    multiple: int
    halo: int | None
    obstacle: str = ""


def find_geometry(model: UNet) -> Geometry:
    """Works out from a model's layers how its reads lie."""
    multiple = model.multiple()
    if obstacle := _obstacle(model):
        return Geometry(multiple, None, obstacle)
    far = max(model.axis_path().lacking()) if model.padding == "valid" else reach(model)
    return Geometry(multiple, -(-far // multiple) * multiple)


def _obstacle(model: UNet) -> str:
    if not model.has_statistics():
        return ""
    if model.squeeze_excite:
        return f"config.model.squeeze_excite={model.squeeze_excite} takes means of the whole image"
    return f"config.model.norm={model.norm!r} takes statistics of the whole image"
