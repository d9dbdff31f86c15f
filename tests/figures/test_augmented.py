import numpy as np
import pytest
from PIL import Image

from unet_jax.figures import Example, augmentation_sheet, overlay


def example(seed, size=(128, 128), by_class=False):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    label = np.zeros((*size, 3) if by_class else size, np.uint8)
    label[40:80, 20:60] = 1
    weight = np.ones(size, np.float32)
    weight[:30] = 0
    return Example(image, label, weight, {"border": np.float32(seed + 1) * (weight + 1)})


def tile(pixels, wanted):
    """Finds where an image lies on a page, and cuts it out."""
    height, width = wanted.shape[:2]
    for y, x in np.ndindex(pixels.shape[0] - height + 1, pixels.shape[1] - width + 1):
        if (pixels[y, x] == wanted[0, 0]).all() and (
            pixels[y : y + height, x : x + width] == wanted
        ).all():
            return x, y
    return None


@pytest.mark.parametrize("by_class", [False, True])
def test_a_sheet_shows_images_masks_weights_and_maps(tmp_path, by_class):
    before, after = example(0, by_class=by_class), example(1, by_class=by_class)
    file = tmp_path / "a.png"
    augmentation_sheet(file, [(before, after)], ["a", "b", "c"], "A title", ["x"])
    with Image.open(file) as opened:
        pixels = np.asarray(opened)
    places = []
    for one in (before, after):
        large = one.image.repeat(2, 0).repeat(2, 1)
        known = (
            np.where((one.weight > 0).reshape(*one.weight.shape, *(1,) * by_class), one.label, 255)
            .repeat(2, 0)
            .repeat(2, 1)
        )
        x, y = tile(pixels, large)
        assert tile(pixels, overlay(large, known.astype(np.uint8))) == (x + 266, y)
        maps = [pixels[y : y + 256, x + 266 * k : x + 266 * k + 256, 0] for k in (2, 3)]
        # Black is 0 and white the largest of the page, which is that of the second image.
        for found, expected in zip(maps, (one.weight, one.extras["border"] / 4), strict=True):
            grey = np.rint(expected * 255).repeat(2, 0).repeat(2, 1)
            np.testing.assert_array_equal(found[1:-1, 1:-1], grey[1:-1, 1:-1])
        assert (maps[0][0] == 150).all()
        places.append(x)
    assert places[1] == places[0] + 4 * 266


def test_a_sheet_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        augmentation_sheet(tmp_path / "a.png", [], ["a"], "A title", [])
