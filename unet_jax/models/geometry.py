"""Sizes: what a U-Net with valid convolutions makes of an input, and what one output pixel sees."""

from collections.abc import Sequence
from typing import NamedTuple

from unet_jax.errors import UserError
from unet_jax.models.upsample import Geometry


class AxisPath(NamedTuple):
    """One axis of a U-Net, from full resolution down and up again.

    Attributes:
        encoder: Pixels that the 3x3 convolutions of each level cut off one side, the bottom last.
        decoder: Likewise of each level but the bottom.
        ups: The transposed convolution from level l + 1 to l; its stride is also the pooling's.
    """

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    ups: tuple[Geometry, ...]

    def output_size(self, n: int) -> int | None:
        """Returns the output size of valid convolutions for n pixels; None if n does not fit."""
        sizes = []
        for margin, up in zip(self.encoder, self.ups, strict=False):
            n -= 2 * margin
            sizes.append(n)
            if n < up.stride or n % up.stride:
                return None
            n //= up.stride
        n -= 2 * self.encoder[-1]
        for size, margin, up in reversed(list(zip(sizes, self.decoder, self.ups, strict=True))):
            if n < 1:
                return None
            n = up.output_size(n)
            if n > size:
                return None
            n -= 2 * margin
        return n if n > 0 else None

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

    def receptive_field(self) -> int:
        """Returns how many input pixels an output pixel can depend on, at most.

        Pixels at different places of the deepest stride's grid see different numbers; the largest
        is returned. Where convolutions pad, edges see less.
        """
        stride = 1
        for up in self.ups:
            stride *= up.stride
        middle = 64 * stride
        return max(self._seen(middle + offset) for offset in range(stride))

    def _seen(self, pixel: int) -> int:
        low = high = pixel
        intervals = []  # that the skips add, on each level's grid
        for margin, up in zip(self.decoder, self.ups, strict=True):
            low, high = low - margin, high + margin
            intervals.append((low, high))
            p, s, reach = up.padding, up.stride, up.dilation * (up.filter - 1)
            low, high = -(-(low + p - reach) // s), (high + p) // s
        low, high = low - self.encoder[-1], high + self.encoder[-1]
        levels = list(zip(self.encoder, self.ups, intervals, strict=False))
        for margin, up, (skip_low, skip_high) in reversed(levels):
            low, high = low * up.stride, high * up.stride + up.stride - 1
            low, high = min(low, skip_low) - margin, max(high, skip_high) + margin
        return high - low + 1


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
                f"divide by their pooling; the nearest that do are {', '.join(fitting)}."
            )
