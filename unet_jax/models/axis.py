"""Sizes along an axis of a U-Net, and what its valid convolutions make of an input."""

from collections.abc import Sequence
from typing import NamedTuple

from unet_jax.errors import UserError
from unet_jax.models.up.geometry import Geometry


class AxisPath(NamedTuple):
    """One axis of a U-Net, from full resolution down and up again.

    Attributes:
        encoder: Pixels that the convolutions of each level cut off one side, the bottom last.
        decoder: Those of the expanding path, of each level but the bottom.
        ups: The way from level l + 1 up to l; its stride is also that of the way down.
        downs: (a, b) where pixel i of level l + 1 sees pixels s i - a to s i + b of level l.
        fold: Pixels of the input that are one of level 0.
    """

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    ups: tuple[Geometry, ...]
    downs: tuple[tuple[int, int], ...]
    fold: int = 1

    def output_size(self, n: int) -> int | None:
        """Returns the output size of valid convolutions for n pixels; None if n does not fit."""
        sizes = self.block_sizes(n)
        return sizes and (sizes[1] or sizes[0])[0]

    def block_sizes(self, n: int) -> tuple[list[int], list[int]] | None:
        """Returns what valid convolutions leave of n pixels at the end of every level's block.

        Args:
            n: Pixels of the input.

        Returns:
            Those of the contracting path, the bottom last, and those of the expanding path, each
            from full resolution down; None if n does not fit.
        """
        down, up = [], []
        for margin, way in zip(self.encoder, self.ups, strict=False):
            n -= 2 * margin
            down.append(n)
            if n < way.stride or n % way.stride:
                return None
            n //= way.stride
        n -= 2 * self.encoder[-1]
        down.append(n)
        for size, margin, way in reversed(list(zip(down, self.decoder, self.ups, strict=False))):
            if n < 1:
                return None
            n = way.output_size(n)
            if n > size:
                return None
            n -= 2 * margin
            up.append(n)
        return (down, up[::-1]) if n > 0 else None

    def lacking(self) -> tuple[int, int]:
        """Returns how many output pixels of valid convolutions lack a part of their sums.

        A transposed convolution whose filter is longer than its stride adds less to its first and
        last pixels than it would if its input went on beyond. With the paper's there are none.

        Returns:
            Those at the near and the far end of an axis, whatever the input's size.
        """
        near = far = 0
        for way in reversed(self.ups):  # convolutions cut off as many pixels as they see more of
            near = max(0, way.stride * (near - 1) + way.reach - way.padding)
            far = max(0, way.stride * far + way.excess + way.output_padding + way.padding)
        return near, far

    def nearest_sizes(self, n: int, count: int = 4) -> list[int]:
        """Returns the input sizes nearest to n that fit, in order of size."""
        found: list[int] = []
        for distance in range(100_000):
            for m in {n - distance, n + distance}:
                if m > 0 and self.output_size(m) is not None:
                    found.append(m)
            if len(found) >= count:
                break
        return sorted(found[:count])

    def input_size(self, n: int) -> tuple[int, int]:
        """Returns the smallest input size whose output is n or more, and that output size."""
        size = n
        while (output := self.output_size(size)) is None or output < n:
            size += 1
        return size, output


def block_margins(
    block: str, dilations: Sequence[Sequence[int]], strides: Sequence[int], is_strided: bool
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Describes an encoder of blocks along one axis.

    Args:
        block: A key of `blocks.BLOCKS`.
        dilations: Per level, one for every convolution or unit of its block.
        strides: From each level to the next.
        is_strided: Whether the next level's first convolution has the stride, not a pooling.

    Returns:
        `encoder` and `downs` of an `AxisPath`.
    """
    twice = 2 if block == "residual" else 1
    reaches = [[d for d in each for _ in range(twice)] for each in dilations]
    downs = [(0, s - 1) for s in strides]
    if is_strided:
        firsts = [each.pop(0) for each in reaches[1:]]
        # A bottleneck also adds the mean of s pixels.
        downs = [
            (d, max(d, s - 1) if block == "bottleneck" else d)
            for d, s in zip(firsts, strides, strict=True)
        ]
    return tuple(map(sum, reaches)), tuple(downs)


def check_valid_size(key: str, path: AxisPath, size: Sequence[int]) -> None:
    """Checks that an input fits valid convolutions.

    Args:
        key: Config key of the size.
        path: The U-Net's.
        size: Pixels per axis.

    Raises:
        UserError: It does not; the nearest sizes that do are listed.
    """
    for n in size:
        if path.output_size(n) is None:
            fitting = [f"{m} (to {path.output_size(m)})" for m in path.nearest_sizes(n)]
            raise UserError(
                f"{key}={tuple(size)}: {n} pixels do not fit valid convolutions, whose levels must "
                "divide by their pooling, with the features, repeats, decoder_repeats, strides, "
                "bottom_dilations, block and stem of config.model; the nearest that do are "
                f"{', '.join(fitting)}."
            )
