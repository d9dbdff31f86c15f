"""Where tiles lie: every pixel is kept once, and far enough from what its read cuts off."""

import itertools

import numpy as np
import pytest

from unet_jax.data.sample import whole
from unet_jax.predict.tiles import plan_axis, plan_overlapping, plan_tiles
from unet_jax.predict.windows import read_padded

PLACES = [(1, 0, 8), (4, 4, 12), (4, 8, 20), (16, 96, 256), (6, 12, 30), (16, 0, 36), (3, 3, 16)]
"""(multiple, halo, length of a read); where there is a halo, it is a multiple of the first."""


@pytest.mark.parametrize(("multiple", "halo", "length"), PLACES)
def test_every_pixel_is_kept_once_and_far_from_what_is_cut_off(multiple, halo, length):
    for pixels in (*range(1, 300), 997, 5_003):
        axis = plan_axis(pixels, length, multiple, halo)
        # The padded image: the least that the network takes and that holds the image and a read.
        taken = (n for n in itertools.count(length, multiple) if n >= pixels)
        assert axis.canvas == next(taken)
        starts, times = np.array(axis.starts), np.zeros(pixels, int)
        assert starts[0] == 0
        assert starts[-1] + length == axis.canvas
        assert not (starts % multiple).any()
        assert len(set(axis.starts)) == len(axis.starts)
        for number, start in enumerate(axis.starts):
            kept = axis.kept(number)
            times[kept] += 1
            assert kept.stop > kept.start
            assert kept.start >= start + (halo if start else 0)
            assert kept.stop <= start + length - (halo if start + length < axis.canvas else 0)
        assert (times == 1).all()


@pytest.mark.parametrize(("multiple", "halo", "length"), PLACES)
def test_there_are_as_few_tiles_as_there_can_be(multiple, halo, length):
    centre = (length - 2 * halo) // multiple * multiple
    for pixels in range(1, 300):
        axis = plan_axis(pixels, length, multiple, halo)
        # The first and the last read have no halo at the image's edge.
        assert (len(axis.starts) - 1) * centre + length >= axis.canvas
        assert (len(axis.starts) - 2) * centre + length < axis.canvas


@pytest.mark.parametrize(("multiple", "halo", "length"), PLACES)
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_overlapping_reads_lie_alike_from_both_ends(multiple, halo, length, overlap):
    for pixels in (*range(1, 200), 997):
        axis = plan_overlapping(pixels, length, multiple, overlap)
        assert axis.canvas == plan_axis(pixels, length, multiple, halo).canvas
        starts = np.array(axis.starts)
        np.testing.assert_array_equal(starts + starts[::-1], axis.canvas - length)
        assert not (starts % multiple).any()
        steps = np.diff(starts)
        assert (steps > 0).all()
        # No step is longer than asked, but for one of `multiple`, the shortest there is.
        assert (steps <= max(multiple, length * (1 - overlap))).all()
        least = -(-(axis.canvas - length) // max(multiple, length * (1 - overlap))) + 1
        assert least <= len(starts) <= 2 * least + 4


def test_a_volume_and_the_tiles_that_meet_a_window():
    plan = plan_tiles((5, 70, 41), (8, 32, 24), 4, 4)
    seen, reads = np.zeros((5, 70, 41), int), []
    for number in range(len(plan)):
        tile = plan.tile(number)
        assert tile.number == number
        seen[tile.kept] += 1
        reads.append([(s, s + n) for s, n in zip(tile.start, (8, 32, 24), strict=True)])
    assert (seen == 1).all()
    assert plan.counts == (1, 3, 3)
    assert plan.work == 9 * 8 * 32 * 24 / seen.size
    for window in (whole(seen.shape), (slice(0, 1), slice(28, 33), slice(16, 17))):
        meets = [
            all(a < part.stop and b > part.start for (a, b), part in zip(read, window, strict=True))
            for read in reads
        ]
        assert list(plan.meeting(window)) == list(np.flatnonzero(meets))


@pytest.mark.parametrize("mode", ["edge", "symmetric"])
def test_windows_are_those_of_the_padded_image(mode):
    rng = np.random.default_rng(0)
    for size in ((1, 1), (1, 7), (5, 3), (11, 13)):
        image = rng.integers(0, 256, (*size, 2))

        def read(window, image=image):
            inside = zip(window, image.shape, strict=False)
            assert all(0 <= part.start < part.stop <= n for part, n in inside)
            return image[window]

        before = 9 if mode == "symmetric" else 0  # nothing is repeated before an image
        padded = np.pad(image, [(before, 30)] * 2 + [(0, 0)], mode=mode)
        for first in itertools.product(range(-before, 20, 3), range(-before, 20, 4)):
            found = read_padded(read, size, first, (5, 10), mode)
            row, column = (a + before for a in first)
            np.testing.assert_array_equal(found, padded[row : row + 5, column : column + 10])


def test_no_more_is_read_than_lies_in_the_image():
    asked = []

    def read(window):
        asked.append(window)
        return np.zeros([part.stop - part.start for part in window] + [1])

    assert read_padded(read, (100, 50), (90, 20), (16, 8), "edge").shape == (16, 8, 1)
    assert read_padded(read, (100, 50), (-4, 46), (16, 8), "symmetric").shape == (16, 8, 1)
    assert asked == [(slice(90, 100), slice(20, 28)), (slice(0, 12), slice(46, 50))]
