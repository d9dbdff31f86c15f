import numpy as np
import pytest
from PIL import Image

from unet_jax.data.resize import resize_image, resize_label

SHAPE = 11, 7


def random(*shape, dtype="uint8", most=256):
    return np.random.default_rng(0).integers(0, most, shape).astype(dtype)


def triangle(values, axis, count):
    """Resizes along one axis by weights of a triangle as wide as what it covers."""
    moved, rows = np.moveaxis(values, axis, 0), []
    scale = len(moved) / count
    reach = max(1, scale)
    for row in range(count):
        centre = (row + 0.5) * scale
        near = [i for i in range(len(moved)) if abs(i + 0.5 - centre) < reach]
        weights = np.array([1 - abs(i + 0.5 - centre) / reach for i in near])
        rows.append(np.tensordot(weights / weights.sum(), moved[near], 1))
    return np.moveaxis(np.array(rows), 0, axis)


def test_resize_to_the_same_size_changes_nothing():
    rgb, grey = random(*SHAPE, 3), random(*SHAPE)
    assert resize_image(rgb, SHAPE) is rgb
    assert resize_label(grey, SHAPE) is grey


@pytest.mark.parametrize("size", [(3, 5), (22, 14), (11, 20), (1, 1), (64, 3)])
def test_resize_label_takes_the_nearest_pixel_and_invents_no_value(size):
    label = random(*SHAPE) % 3 * 100
    resized = resize_label(label, size)
    assert resized.dtype == np.uint8
    expected = np.zeros(size, np.uint8)
    for row, column in np.ndindex(size):
        y = int((row + 0.5) * SHAPE[0] / size[0])
        x = int((column + 0.5) * SHAPE[1] / size[1])
        expected[row, column] = label[y, x]
    np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize("size", [(3, 5), (22, 14), (1, 1), (64, 3), (10, 8)])
@pytest.mark.parametrize("shape", [SHAPE, (128, 97), (33, 64)])
def test_labels_are_resized_as_pillow_does(size, shape):
    label = random(*shape)
    expected = np.asarray(Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST))
    np.testing.assert_array_equal(resize_label(label, size), expected)
    several = np.stack([label, label // 2, 255 - label], axis=-1)  # L labels of every pixel
    resized = resize_label(several, size)
    np.testing.assert_array_equal(resized, np.stack([expected, expected // 2, 255 - expected], -1))


def test_volumes_of_labels_take_the_nearest_along_each_axis():
    label = random(5, 11, 7)
    resized = resize_label(label, (3, 4, 9))
    for place in np.ndindex(resized.shape):
        near = [
            int((i + 0.5) * n / m) for i, n, m in zip(place, (5, 11, 7), (3, 4, 9), strict=True)
        ]
        assert resized[place] == label[tuple(near)]


def test_resize_image_halves_by_an_antialiased_triangle():
    """Scale 1/2: weights of the triangle over four pixels, renormalised at the border."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 12, 3), np.uint8)
    expected = image.astype(float)
    for axis in (0, 1):
        moved = np.moveaxis(expected, axis, 0)
        rows = []
        for row in range(len(moved) // 2):
            centre = 2 * row + 1
            taps = [i for i in range(centre - 2, centre + 2) if 0 <= i < len(moved)]
            weights = np.array([1 - abs(i + 0.5 - centre) / 2 for i in taps])
            rows.append(np.tensordot(weights / weights.sum(), moved[taps], 1))
        expected = np.moveaxis(np.array(rows), 0, axis)
    resized = resize_image(image, (4, 6))
    assert resized.dtype == np.uint8
    np.testing.assert_allclose(resized, expected, atol=1.01)  # Pillow rounds after each axis


@pytest.mark.parametrize(
    ("shape", "size", "dtype", "most"),
    [
        ((11, 7, 1), (4, 13), "uint8", 256),
        ((11, 7, 5), (6, 6), "uint16", 2**16),
        ((11, 7, 2), (23, 3), "float32", 2),
        ((5, 11, 7, 1), (8, 4, 7), "int16", 2**15),
        ((5, 11, 7, 3), (1, 30, 2), "uint8", 256),
    ],
)
def test_images_of_any_kind_are_resized_linearly_along_each_axis(shape, size, dtype, most):
    image = random(*shape, dtype=dtype, most=most)
    if dtype == "float32":
        image = np.random.default_rng(0).random(shape, np.float32)
    if dtype == "int16":
        image -= 2**14
    expected = image.astype(np.float64)
    for axis, count in enumerate(size):
        expected = triangle(expected, axis, count)
    resized = resize_image(image, size)
    assert resized.dtype == image.dtype
    assert resized.shape == (*size, shape[-1])
    # Rounded to the nearest where they are integers; float32 in between.
    tolerance = 1e-5 if dtype == "float32" else 0.5 + 2e-6 * most
    np.testing.assert_allclose(resized, expected, atol=tolerance)
