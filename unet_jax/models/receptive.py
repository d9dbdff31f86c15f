"""What an output pixel sees: the input pixels that it depends on, worked out from the layers.

Along one axis, and so along all of them: every pixel of a layer depends on an interval of the layer
before, and where several paths lead to one layer, on the interval that holds theirs.
"""

from typing import TYPE_CHECKING

from unet_jax.models.axis import AxisPath
from unet_jax.models.up.geometry import Geometry
from unet_jax.models.up.ways import WAYS

if TYPE_CHECKING:
    from unet_jax.models.unet import UNet

Interval = tuple[int, int]
"""The first and the last pixel."""


def sees(model: "UNet", pixel: int) -> Interval:
    """Returns the first and the last input pixel that an output pixel can depend on.

    Where convolutions pad, pixels outside of the image count too, and with valid convolutions the
    output lies in the middle of the input. Statistics over the whole image (see
    `Options.has_statistics`) do not count.

    Args:
        model: The model.
        pixel: Along one axis, any integer.

    Returns:
        Both along that axis.
    """
    asked = _Asked(model)
    asked.head(pixel // model.fold)
    low, high = asked.encoder()
    return low * model.fold, high * model.fold + model.fold - 1


def receptive_field(model: "UNet") -> int:
    """Returns how many input pixels an output pixel can depend on, at most.

    Pixels at different places of the deepest stride's grid see different numbers; the largest is
    returned. See `sees` for what does not count.
    """
    return max(high - low + 1 for low, high in (sees(model, q) for q in range(model.multiple())))


def reach(model: "UNet") -> int:
    """Returns how far beyond its ends, on either side, the input can matter to a part of an output.

    A part begins at a multiple of the deepest stride and ends before one; inside of it, pixels at
    other places of that stride's grid reach further, but not beyond its ends.
    """
    last = model.multiple() - 1
    return max(-sees(model, 0)[0], sees(model, last)[1] - last)


class _Asked:
    """Which pixels of each level's activations are asked for, from the head to the image.

    The encoder's activations of a level are column 0; a decoder "unet" or "unet3+" has column 1,
    and "unet++" its nodes' own. Activations are worked on after all that read them.
    """

    def __init__(self, model: "UNet") -> None:
        self._model, self._path = model, model.axis_path()
        self._bottom = model.prune or model.bottom()
        self._wanted: dict[tuple[int, int], Interval] = {}

    def head(self, pixel: int) -> None:
        """Asks for one pixel of level 0, and for what the decoder needs for it."""
        decoder = {"unet": self._plain, "unet++": self._nested, "unet3+": self._full_scale}
        decoder[self._model.decoder](pixel)

    def encoder(self) -> Interval:
        """Returns the pixels of level 0's input that all that is asked for depends on."""
        path: AxisPath = self._path
        low, high = 0, 0
        for level in range(self._bottom, -1, -1):
            low, high = self._wanted[level, 0]
            low, high = low - path.encoder[level], high + path.encoder[level]
            if level:
                (before, after), stride = path.downs[level - 1], path.ups[level - 1].stride
                self._ask((level - 1, 0), (low * stride - before, high * stride + after))
        return low, high

    def _plain(self, pixel: int) -> None:
        self._ask((0, min(1, self._bottom)), (pixel, pixel))
        for level in range(self._bottom):
            seen = _widen(self._wanted[level, 1], self._path.decoder[level])
            deeper = level + 1, int(level + 1 < self._bottom)
            self._go_up(seen, deeper)
            if self._has_skip(level, 0):
                self._skip((level, 0), seen, deeper)

    def _nested(self, pixel: int) -> None:
        self._ask((0, self._bottom), (pixel, pixel))
        for column in range(self._bottom, 0, -1):
            for level in range(self._bottom - column + 1):
                if (level, column) not in self._wanted:
                    continue  # nobody reads it
                seen = _widen(self._wanted[level, column], self._path.decoder[level])
                deeper = level + 1, column - 1
                self._go_up(seen, deeper)
                for before in range(column):
                    if self._has_skip(level, before):
                        self._skip((level, before), seen, deeper)

    def _full_scale(self, pixel: int) -> None:
        self._ask((0, min(1, self._bottom)), (pixel, pixel))
        ups = self._path.ups
        for level in range(self._bottom):
            seen = _widen(self._wanted[level, 1], 2)  # one 3x3 convolution of each, one of all
            for other in range(level + 1):
                pooled = seen
                for step in range(level - 1, other - 1, -1):
                    stride = ups[step].stride
                    pooled = pooled[0] * stride, pooled[1] * stride + stride - 1
                if self._has_skip(other, 0):
                    self._ask((other, 0), pooled)
            deeper = seen
            for other in range(level + 1, self._bottom + 1):
                deeper = _interpolation(ups[other - 1].stride).sources(*deeper)
                self._ask((other, int(other < self._bottom)), deeper)

    def _go_up(self, seen: Interval, deeper: tuple[int, int]) -> None:
        level, way = deeper[0] - 1, WAYS[self._model.up]
        up = self._path.ups[level]
        self._ask(deeper, up.sources(*seen))
        if way.reads_skip:
            self._ask((level, 0), _windows(seen, up.stride))

    def _skip(self, place: tuple[int, int], seen: Interval, deeper: tuple[int, int]) -> None:
        self._ask(place, seen)
        if self._model.attention:  # a score on the deeper grid, interpolated
            stride = self._path.ups[place[0]].stride
            scores = _interpolation(stride).sources(*seen)
            self._ask(deeper, scores)
            self._ask(place, (scores[0] * stride, scores[1] * stride + stride - 1))

    def _has_skip(self, level: int, column: int) -> bool:
        """Tells whether the decoder reads activations of a level it reaches; images are none."""
        is_image = self._model.has_resnet() and (level, column) == (0, 0)
        return level not in self._model.skips_off and not is_image

    def _ask(self, place: tuple[int, int], seen: Interval) -> None:
        low, high = self._wanted.get(place, seen)
        self._wanted[place] = min(low, seen[0]), max(high, seen[1])


def _widen(seen: Interval, margin: int) -> Interval:
    return seen[0] - margin, seen[1] + margin


def _windows(seen: Interval, stride: int) -> Interval:
    return seen[0] // stride * stride, seen[1] // stride * stride + stride - 1


def _interpolation(stride: int) -> Geometry:
    """Describes `resize.resize_bilinear`: each pixel is made of the two nearest."""
    return Geometry(2 * stride - stride % 2, stride, stride // 2)
