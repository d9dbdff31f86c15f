"""Steps that change values, against SciPy, NumPy's Fourier transform, Pillow and loops."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import fft, ndimage, stats

from unet_jax.augment.kinds import Given
from unet_jax.augment.make import STEPS, check_augment
from unet_jax.data.sample import RGB
from unet_jax.errors import UserError

SIZES = [(1, 1), (3, 17), (20, 9), (4, 6, 5)]
KEYS = jax.random.split(jax.random.key(11), 6)


def change(name, images, **values):
    """Applies a step to images [N, *n, C], each with its key."""
    step = STEPS[name].make(**values)
    return np.asarray(jax.jit(jax.vmap(step.change))(KEYS[: len(images)], jnp.asarray(images)))


def draw(size, channels=2, count=6):
    """Smooth images whose edges matter."""
    rng = np.random.default_rng(0)
    return rng.random((count, *size, channels)).astype(np.float32)


def drawn(low, high):
    """What each key draws evenly from a range."""
    return [float(jax.random.uniform(key, minval=low, maxval=high)) for key in KEYS]


@pytest.mark.parametrize("size", [(5, 7), (3, 4, 5)])
def test_gamma_raises_each_image_to_a_power_of_its_own(size):
    images = 0.05 + 0.9 * draw(size)
    powers = np.log(change("gamma", images, power=(0.5, 3.0))) / np.log(images)
    flat = powers.reshape(6, -1)
    np.testing.assert_allclose(flat, flat[:, :1].repeat(flat.shape[1], 1), rtol=1e-3)
    assert (flat[:, 0] * 1.001 >= 0.5).all()
    assert (flat[:, 0] <= 3.003).all()
    assert len({round(float(p), 3) for p in flat[:, 0]}) == 6
    np.testing.assert_array_equal(
        change("gamma", np.array([[[-0.5], [0.0], [1.0], [1.5]]]), power=(2.0, 2.0)).ravel(),
        [0, 0, 1, 1],
    )


def test_noise_is_normal_and_its_deviation_is_drawn():
    images = np.full((6, 40, 30, 3), 0.5, np.float32)
    rest = (change("noise", images, sigma=0.1) - 0.5).reshape(6, -1)
    deviations = rest.std(axis=1)
    assert (deviations <= 0.103).all()
    assert deviations.max() > 2 * deviations.min()
    for row, deviation in zip(rest, deviations, strict=True):
        assert stats.kstest(row / deviation, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(rest) - np.eye(6)).max() < 0.06
    bright = change("noise", np.ones((1, 9, 9, 1), np.float32), sigma=0.5)
    assert bright.max() == 1


@pytest.mark.parametrize("size", SIZES)
def test_a_blur_is_that_of_scipy(size):
    images = draw(size)
    found = change("blur", images, sigma=1.7)
    for image, other, sigma in zip(images, found, drawn(0, 1.7), strict=True):
        ways = {"mode": "nearest", "radius": 6, "axes": range(len(size))}
        expected = ndimage.gaussian_filter(np.float64(image), sigma, **ways)
        np.testing.assert_allclose(other, expected, atol=1e-5)


def few_pixels(values, scale):
    """One axis: the nearest of few pixels, and linear between their middles."""
    n = len(values)
    few = max(1, round(n * scale))
    coarse = [values[int((k + 0.5) * n / few)] for k in range(few)]
    return np.array([np.interp((i + 0.5) * few / n - 0.5, range(few), coarse) for i in range(n)])


@pytest.mark.parametrize("size", SIZES)
def test_low_resolution_is_the_nearest_of_few_pixels(size):
    images = draw(size)
    found = change("low_resolution", images, scale=0.3)
    for image, other, scale in zip(images, found, drawn(0.3, 1.0), strict=True):
        expected = np.float64(image)
        for axis in range(len(size)):
            expected = np.apply_along_axis(few_pixels, axis, expected, scale)
        np.testing.assert_allclose(other, expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_ringing_leaves_low_frequencies(size):
    images = 0.3 + 0.4 * draw(size)
    found = change("ringing", images, cut=0.8)
    for image, other, cut in zip(images, found, drawn(0, 0.8), strict=True):
        waves = np.fft.fftn(image, axes=range(len(size)))
        for axis, n in enumerate(size):
            most = min(int((1 - cut) * n / 2), (n - 1) // 2)
            is_low = np.abs(np.rint(np.fft.fftfreq(n) * n)) <= most
            waves *= np.expand_dims(is_low, [a for a in range(waves.ndim) if a != axis])
        expected = np.fft.ifftn(waves, axes=range(len(size))).real
        np.testing.assert_allclose(other, np.clip(expected, 0, 1), atol=2e-5)


def as_pillow(image, quality):
    """Returns float64 [H, W] of a grey image that was a file, and its table of quantisation."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    opened = Image.open(buffer)
    return np.asarray(opened, np.float64), np.array(opened.quantization[0]).reshape(8, 8)


def by_blocks(image, table):
    """Quantises the cosines of each block with SciPy, by the table that Pillow's file has."""
    wide = np.pad(image, [(0, -n % 8) for n in image.shape], mode="edge").astype(np.float64)
    for i, j in np.ndindex(wide.shape[0] // 8, wide.shape[1] // 8):
        block = wide[8 * i : 8 * i + 8, 8 * j : 8 * j + 8]
        waves = np.rint(fft.dctn(block - 128, norm="ortho") / table) * table
        block[:] = fft.idctn(waves, norm="ortho") + 128
    return np.clip(wide[: image.shape[0], : image.shape[1]], 0, 255)


@pytest.mark.parametrize("size", [(1, 1), (16, 24), (21, 13), (3, 9, 10)])
def test_quantisation_is_that_of_a_jpeg_file(size):
    images = ndimage.gaussian_filter(draw(size, 1), (0, *(1,) * len(size), 0))
    # Waves of whole numbers often lie half-way between two steps, where rounding decides.
    images[3:] = np.rint(255 * images[3:]) / 255
    found, off = change("jpeg", images, quality=20.0), []
    for row, (image, other, quality) in enumerate(zip(images, found, drawn(20, 100), strict=True)):
        flat = (-1, *size[-2:])
        for one, own in zip(image.reshape(flat), other.reshape(flat), strict=True):
            pillow, table = as_pillow((one * 255).round().astype(np.uint8), round(quality))
            if row < 3:
                np.testing.assert_allclose(own * 255, by_blocks(one * 255, table), atol=1e-2)
            else:
                off.append(np.abs(own * 255 - pillow).mean())
    # Its cosines are those of fixed-point arithmetic, and it holds whole numbers.
    assert np.median(off) < 1


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (
            {"gamma": {"power": (2.0, 1.0)}},
            r"gamma\.power=\(2.0, 1.0\) must be \(smallest, largest",
        ),
        (
            {"gamma": {"power": (1.0,)}},
            r"gamma\.power=\(1.0,\) must be \(smallest, largest\), both",
        ),
        ({"noise": {"sigma": -0.1}}, r"noise\.sigma=-0.1 must be from 0 to 1"),
        ({"blur": {"sigma": 17.0}}, r"blur\.sigma=17.0 must be from 0 to 16"),
        ({"low_resolution": {"scale": 0.0}}, r"scale=0.0 must be from 0.05 to 1"),
        ({"ringing": {"cut": 1.0}}, r"ringing\.cut=1.0 must be from 0 to 0.9"),
        ({"jpeg": {"quality": 0.0}}, r"jpeg\.quality=0.0 must be from 1 to 100"),
    ],
)
def test_values_of_steps_that_degrade_that_do_not_fit(section, says):
    with pytest.raises(UserError, match=rf"^config\.augment\..*{says}"):
        check_augment(section, Given(RGB))
