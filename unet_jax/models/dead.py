"""Normalisations that would see a single value, which they make 0 whatever the image is."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unet_jax.errors import UserError

if TYPE_CHECKING:
    from unet_jax.models.unet import UNet


def check_not_dead(model: "UNet", what: str, size: Sequence[int], batch_size: int | None) -> None:
    """Checks that every normalisation sees more than one value per statistic.

    Less its own mean a single value is 0: whatever comes before has no effect and no gradient.

    Args:
        model: A U-Net whose options are checked.
        what: The size as the error names it, such as "config.data.image_size=(16, 16)".
        size: Pixels of an image per axis.
        batch_size: Images whose statistics are taken together in training; None in evaluation,
            where batch normalisation uses running statistics.

    Raises:
        UserError: One would see a single value; sizes and other values that work are named.
    """
    level = _find_dead(model, size, batch_size)
    if level is None:
        return
    uses_batch = model.norm == "batch" or model.has_resnet()
    norm = "batch" if uses_batch else model.norm
    ways = [f"images of {_larger(model, size, batch_size)} pixels along every axis"]
    if uses_batch:
        ways.append("config.train.batch_size of 2 or more")
    elif model.norm == "group":
        ways.append("more channels there (config.model.features of 8 or more)")
    ways.append("fewer levels in config.model.features")
    if not model.has_resnet() and model.norm != "group":
        ways.append("config.model.norm='group'")
    raise UserError(
        f"{what} leaves 1 pixel at level {level}, where {norm} normalisation then sees a single "
        f"value per statistic and makes it 0 whatever the image is; use {_listed(ways)}."
    )


def _find_dead(model: "UNet", size: Sequence[int], batch_size: int | None) -> int | None:
    """Returns a level with a normalisation of one value; None where there is none."""
    pixels = [math.prod(level) for level in zip(*(_sizes(model, n) for n in size), strict=True)]
    deepest, is_resnet = len(pixels) - 1, model.has_resnet()
    by_batch = batch_size == 1
    if is_resnet and by_batch and pixels[-1] == 1:
        return deepest
    for level in reversed(range(len(pixels) - is_resnet)):
        if pixels[level] > 1:
            continue
        is_dead = {
            "batch": by_batch,
            "instance": True,
            "group": _has_one_channel(model, level, deepest),
            "none": False,
        }
        if is_dead[model.norm]:
            return level
    return None


def _sizes(model: "UNet", n: int) -> list[int]:
    """Returns the fewest pixels along an axis that each level normalises, of those computed."""
    path = model.axis_path()
    if model.padding == "valid":
        sizes = path.block_sizes(n)
        assert sizes is not None  # sizes are checked to fit before
        down, up = sizes
        return [*map(min, down, up), down[-1]]
    n = -(-n // model.multiple()) * model.multiple() // model.fold
    strides = [up.stride for up in path.ups]
    sizes = [n // math.prod(strides[:level]) for level in range(len(strides) + 1)]
    return sizes[: model.prune + 1] if model.prune else sizes


def _has_one_channel(model: "UNet", level: int, deepest: int) -> bool:
    """Tells whether a group of group normalisation may have one channel: where there is only one.

    Of C channels there are so many groups that each has 8 or more, or all C.
    """
    features = model.channels()
    kinds = {model.block} | ({model.decoder_block or model.block} if level < deepest else set())
    widths = {features[level]}
    if "bottleneck" in kinds:
        widths.add(max(1, features[level] // 4))
    if "depthwise" in kinds and level:
        widths.add(features[level - 1])
    if model.decoder == "unet3+" and level < deepest:
        widths.add(features[0])
    return 1 in widths


def _larger(model: "UNet", size: Sequence[int], batch_size: int | None) -> int:
    """Returns the smallest side of a square (or cube) above the given ones that works."""
    path = model.axis_path()
    for n in itertools.count(max(size) + 1):
        fits = model.padding == "same" or path.output_size(n) is not None
        if fits and _find_dead(model, (n,) * len(size), batch_size) is None:
            return n
    raise AssertionError("itertools.count ends")


def _listed(ways: Sequence[str]) -> str:
    *first, last = ways
    return f"{', '.join(first)}, or {last}"
