"""The geometry of transposed convolutions, and of the convolutions that they turn around.

Filter size f, stride s, padding p, dilation d: input pixel i times filter tap k adds to output
pixel s i + d k - p of a transposed convolution; output pixel i of a convolution sums the input
pixels s i + d k - p (Dumoulin & Visin, "A guide to convolution arithmetic for deep learning",
2016). Every size, place and count that follows from these numbers is computed here.
"""

from typing import NamedTuple

import numpy as np

from unet_jax.errors import UserError

LAW = "s(n - 1) + d(f - 1) + 1 - 2p + output padding"
"""Output pixels of a transposed convolution along an axis of n; see `Geometry.output_size`."""
WINDOW_LAW = "⌊(n + 2p - d(f - 1) - 1) / s⌋ + 1"
"""Output pixels of a convolution or pooling; see `Geometry.window_output_size`."""


class Phases(NamedTuple):
    """A transposed convolution along one axis as a convolution with one output a phase.

    Attributes:
        taps: Of the convolution, ceil(f / s).
        padding: Zeros before and after its input.
        start: Output pixels to leave out once the s phases are interleaved.
    """

    taps: int
    padding: tuple[int, int]
    start: int


class Geometry(NamedTuple):
    """How a transposed convolution places its filter along one axis, or a convolution its window.

    Attributes:
        filter: f, taps, 1 or more.
        stride: s, pixels from one placement to the next, 1 or more.
        padding: p, pixels cut off either end, 0 <= p < f; of a convolution, pixels added there.
        output_padding: Pixels added at the far end, below the larger of s and d; 0 for a
            convolution.
        dilation: d, pixels from one tap to the next, 1 or more.
    """

    filter: int
    stride: int
    padding: int = 0
    output_padding: int = 0
    dilation: int = 1

    @property
    def reach(self) -> int:
        """d(f - 1) + 1, the pixels from the first tap to the last, both included."""
        return self.dilation * (self.filter - 1) + 1

    @property
    def excess(self) -> int:
        """d(f - 1) + 1 - 2p - s, the pixels above s n of a transposed convolution's output."""
        return self.reach - 2 * self.padding - self.stride

    def output_size(self, n: int) -> int:
        """Returns s(n - 1) + d(f - 1) + 1 - 2p + output padding, for n input pixels.

        Raises:
            UserError: A number is out of its range, or nothing would be left.
        """
        f, s, p, extra, d = self
        allowed = {
            f"filter size f={f} must be 1 or more": f >= 1,
            f"stride s={s} must be 1 or more": s >= 1,
            f"dilation d={d} must be 1 or more": d >= 1,
            f"padding p={p} must be 0 or more and below the filter size f={f}": 0 <= p < max(f, 1),
            f"output padding {extra} must be 0 or more and below the larger of stride s={s} and "
            f"dilation d={d}": 0 <= extra < max(s, d),
        }
        for law, holds in allowed.items():
            if not holds:
                raise UserError(f"transposed convolution: {law}.")
        size = s * n + self.excess + extra
        if n < 1 or size < 1:
            raise UserError(
                f"transposed convolution: the output size {LAW} = {self.law_in_numbers(n)} = {size}"
                " must be 1 or more; use more input pixels or less padding."
            )
        return size

    def law_in_numbers(self, n: int, times: str = "*") -> str:
        """Writes `LAW` with the numbers of n input pixels, `times` between factors."""
        f, s, p, extra, d = self
        return f"{s}{times}({n} - 1) + {d}{times}({f} - 1) + 1 - 2{times}{p} + {extra}"

    def grid_size(self, n: int) -> int:
        """Returns the pixels of the grid that n placements fill, before the padding is cut off."""
        kept = self.kept(n)
        return max(self.stride * (n - 1) + self.reach, kept.stop)

    def kept(self, n: int) -> slice:
        """Returns what stays of the grid when the padding is cut off: the output pixels."""
        return slice(self.padding, self.padding + self.output_size(n))

    def taps(self, i: int) -> slice:
        """Returns where the filter lies for pixel i.

        Returns:
            Of a transposed convolution, the pixels of the grid that input pixel i adds to; of a
            convolution, the pixels of the padded input that output pixel i sums.
        """
        return slice(i * self.stride, i * self.stride + self.reach, self.dilation)

    def sources(self, low: int, high: int) -> tuple[int, int]:
        """Returns the first and last input pixel that output pixels from low to high depend on."""
        first = -(-(low + self.padding - (self.reach - 1)) // self.stride)
        return first, (high + self.padding) // self.stride

    def padding_with_holes(self) -> tuple[int, int]:
        """Returns the padding with which a convolution of the input with holes is this.

        The input has s - 1 zeros between its pixels, and the filter is turned around.
        """
        before = self.reach - 1 - self.padding
        return before, before + self.output_padding

    def phases(self, n: int) -> Phases:
        """Describes a transposed convolution without dilation, of n pixels, as a convolution.

        Output pixel s m + r of phase r sums the taps s a + r alone, so that all phases together
        are one convolution to s outputs a pixel m; only the m that hold kept pixels are computed.
        """
        taps = -(-self.filter // self.stride)
        kept = self.kept(n)
        first, last = kept.start // self.stride, (kept.stop - 1) // self.stride
        return Phases(
            taps=taps,
            padding=(taps - 1 - first, last - n + 1),
            start=kept.start - first * self.stride,
        )

    def overlaps(self, n: int) -> np.ndarray:
        """Counts the products that each output pixel sums.

        Args:
            n: Input pixels.

        Returns:
            int [output_size(n)]; over several axes the counts multiply. They are uneven inside,
            which shows as a checkerboard (Odena et al., 2016), unless s divides f.
        """
        counts = np.zeros(self.grid_size(n), int)
        for i in range(n):
            counts[self.taps(i)] += 1
        return counts[self.kept(n)]

    def checkerboard(self) -> str | None:
        """Warns of a checkerboard.

        Returns:
            A sentence with the numbers where inner output pixels sum unequally many products;
            None where they do not.
        """
        f, s, d = self.filter, self.stride, self.dilation
        phases = np.bincount(np.arange(f) * d % s, minlength=s)
        if phases.min() == phases.max():
            return None
        fitting = s * -(-f // s)
        why, remedy = f"filter size {f} is no multiple of stride {s}", f"filter size {fitting}"
        if d > 1:
            why = f"the {f} taps of a filter with dilation {d} fall unevenly on stride {s}"
            remedy += " with dilation 1"
        return (
            f"{why}, so along each axis output pixels sum {phases.min()} to {phases.max()} "
            f"products in turn, a checkerboard; {remedy} and padding {(fitting - s) // 2} has none."
        )

    def window_output_size(self, n: int) -> int:
        """Returns floor((n + 2p - d(f - 1) - 1) / s) + 1, of a convolution or pooling.

        Args:
            n: Input pixels along the axis.

        Returns:
            Output pixels, 1 or more.

        Raises:
            UserError: A number is out of its range, or the filter does not fit into the input.
        """
        f, s, p, extra, d = self
        if min(f, s, d) < 1 or extra:
            raise UserError(
                f"filter size f={f}, stride s={s} and dilation d={d} must be 1 or more and output "
                f"padding {extra} must be 0, which only a transposed convolution has."
            )
        reach = self.reach
        if not 0 <= p < reach:
            raise UserError(
                f"padding p={p} must be 0 or more and below the reach of the filter, d(f - 1) + 1 ="
                f" {d}*({f} - 1) + 1 = {reach}."
            )
        if n < 1 or n + 2 * p < reach:
            raise UserError(
                f"the filter reaches over d(f - 1) + 1 = {reach} pixels and the padded input has "
                f"n + 2p = {n} + 2*{p} = {n + 2 * p}, so no output is left; use more input pixels, "
                "more padding or a smaller filter."
            )
        return (n + 2 * p - reach) // s + 1

    def window_law_in_numbers(self, n: int, times: str = "*") -> str:
        """Writes `WINDOW_LAW` with the numbers of n input pixels, `times` between factors."""
        f, s, p, _, d = self
        return f"⌊({n} + 2{times}{p} - {d}{times}({f} - 1) - 1) / {s}⌋ + 1"


def stage_geometry(f: int, p: int, s: int) -> Geometry:
    """Describes the transposed convolution of a decoder's stage.

    Args:
        f: Filter size.
        p: Padding.
        s: Stride.

    Returns:
        Where f - 2p is below s, output padding makes up for it, so that n pixels become s n.
    """
    bare = Geometry(f, s, p)
    return bare._replace(output_padding=max(0, -bare.excess))


def fitting_paddings(f: int, s: int) -> tuple[int, int]:
    """Returns the least and the largest padding with which a stage makes n pixels to s n."""
    return max(0, -(-(f - s) // 2)), (f - 1) // 2
