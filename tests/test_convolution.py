import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.signal import correlate

from unet_jax.models import convolution
from unet_jax.models.convolution import conv3x3, convolve, winograd, winograd_kernel_gradient


def draw(b, h, w, c, f):
    rng = np.random.default_rng(b * h + w * c + f)
    x, dy = rng.normal(size=(b, h, w, c)), rng.normal(size=(b, h, w, f))
    return x, rng.normal(size=(3, 3, c, f)) / 3, dy


def by_scipy(x, kernel):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    c, f = kernel.shape[2:]
    y = np.zeros((*x.shape[:3], f))
    for n, i, j in np.ndindex(x.shape[0], c, f):
        y[n, :, :, j] += correlate(padded[n, :, :, i], kernel[:, :, i, j], mode="valid")
    return y


def kernel_gradient_by_loop(x, dy):
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    _, h, w, _ = x.shape
    gradient = np.zeros((3, 3, x.shape[-1], dy.shape[-1]))
    for i, j in np.ndindex(3, 3):
        gradient[i, j] = np.einsum("bhwc,bhwf->cf", padded[:, i : i + h, j : j + w], dy)
    return gradient


@pytest.mark.parametrize("shape", [(1, 2, 2, 1, 1), (2, 4, 6, 3, 5), (1, 8, 2, 4, 2)])
def test_winograd_equals_sliding_the_kernel(shape):
    x, kernel, dy = draw(*shape)
    found = winograd(jnp.float32(x), jnp.float32(kernel))
    np.testing.assert_allclose(found, by_scipy(x, kernel), atol=1e-5)
    found = winograd_kernel_gradient(jnp.float32(x), jnp.float32(dy))
    np.testing.assert_allclose(found, kernel_gradient_by_loop(x, dy), atol=1e-4)


# Every form that conv3x3 chooses from: XLA's, the swapped kernel gradient, Winograd's both ways,
# and Winograd's forward alone.
@pytest.mark.parametrize(
    ("shape", "tiles"),
    [
        ((2, 5, 4, 3, 8), 2**23),
        ((2, 4, 6, 40, 16), 2**23),
        ((2, 4, 6, 128, 130), 2**23),
        ((2, 5, 6, 128, 128), 2**23),
        ((2, 4, 6, 128, 128), 1),
    ],
)
def test_conv3x3_and_its_gradients(shape, tiles, monkeypatch):
    monkeypatch.setattr(convolution, "WINOGRAD_TILES", tiles)
    x, kernel, dy = draw(*shape)
    y, backward = jax.vjp(conv3x3, jnp.float32(x), jnp.float32(kernel))
    dx, dkernel = backward(jnp.float32(dy))
    if shape[-1] * shape[-2] < 1000:
        np.testing.assert_allclose(y, by_scipy(x, kernel), atol=1e-4)
    scale = np.sqrt(x.shape[-1])
    turned = np.flip(kernel, (0, 1)).swapaxes(2, 3)
    expected = [(y, x, kernel), (dx, dy, turned)]
    for found, a, b in expected:
        reference = lax.conv_general_dilated(
            jnp.float32(a),
            jnp.float32(b),
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        np.testing.assert_allclose(found, reference, atol=2e-5 * scale)
    np.testing.assert_allclose(dkernel, kernel_gradient_by_loop(x, dy), atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 4, 6, 128, 128), (1, 4, 4, 256, 128)])
def test_many_channels_really_take_winograds_form(shape):
    x, kernel, _ = (jnp.float32(a) for a in draw(*shape))
    text = jax.jit(conv3x3).lower(x, kernel).as_text()
    assert "dot_general" in text
    assert "convolution" not in text


@pytest.mark.parametrize(
    "settings",
    [
        {"window_strides": (2, 2), "padding": ((1, 1), (1, 1))},
        {"window_strides": (1, 1), "padding": ((0, 0), (0, 0))},
        {"window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "rhs_dilation": (2, 2)},
    ],
)
def test_other_convolutions_are_xlas(settings):
    x, kernel, _ = (jnp.float32(a) for a in draw(1, 8, 8, 128, 128))
    strides, padding = settings.pop("window_strides"), settings.pop("padding")
    numbers = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    found = convolve(x, kernel, strides, padding, **settings, **numbers)
    expected = lax.conv_general_dilated(x, kernel, strides, padding, **settings, **numbers)
    np.testing.assert_array_equal(found, expected)
