import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.signal import correlate

from unet_jax.models.fast import choice, convolve
from unet_jax.models.fast.convolution import conv3x3, depthwise3x3
from unet_jax.models.fast.winograd import (
    winograd,
    winograd_data_gradient,
    winograd_kernel_gradient,
)


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


@pytest.mark.parametrize("by_image", [True, False])
@pytest.mark.parametrize("shape", [(1, 2, 2, 1, 1), (2, 4, 6, 3, 5), (1, 8, 2, 4, 2)])
def test_winograd_equals_sliding_the_kernel(shape, by_image):
    x, kernel, dy = draw(*shape)
    forward = jax.jit(winograd, static_argnames="by_image")
    found = forward(jnp.float32(x), jnp.float32(kernel), by_image=by_image)
    np.testing.assert_allclose(found, by_scipy(x, kernel), atol=1e-5)
    backward = jax.jit(winograd_data_gradient, static_argnames="by_image")
    found = backward(jnp.float32(dy), jnp.float32(kernel), by_image=by_image)
    turned = np.flip(kernel, (0, 1)).swapaxes(2, 3)
    np.testing.assert_allclose(found, by_scipy(dy, turned), atol=1e-5)
    gradient = jax.jit(winograd_kernel_gradient, static_argnames="by_image")
    found = gradient(jnp.float32(x), jnp.float32(dy), by_image=by_image)
    np.testing.assert_allclose(found, kernel_gradient_by_loop(x, dy), atol=1e-4)


# Every form that conv3x3 chooses from: XLA's, the swapped kernel gradient, Winograd's both ways,
# at once and image by image, and Winograd's forward alone.
@pytest.mark.parametrize(
    ("shape", "limits"),
    [
        ((2, 5, 4, 3, 8), {}),
        ((2, 4, 6, 40, 16), {}),
        ((2, 4, 6, 128, 130), {}),
        ((2, 5, 6, 128, 128), {}),
        ((2, 4, 6, 128, 128), {"BATCH_TILES": 0}),
        ((2, 4, 6, 128, 128), {"BATCH_TILES": 0, "IMAGE_TILES_GRADIENT": 0}),
    ],
)
def test_conv3x3_and_its_gradients(shape, limits, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    for name, limit in limits.items():
        monkeypatch.setattr(choice, name, limit)
    x, kernel, dy = draw(*shape)

    @jax.jit
    def run(x, kernel, dy):
        y, backward = jax.vjp(conv3x3, x, kernel)
        return y, *backward(dy)

    y, dx, dkernel = run(jnp.float32(x), jnp.float32(kernel), jnp.float32(dy))
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


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (1, 1, 6, 8), (3, 8, 8, 16)])
def test_depthwise3x3_and_its_gradients(shape):
    x, kernel, dy = draw(*shape, shape[-1])
    own = kernel[:, :, :1]

    def each(a, b):  # channel by channel
        return np.concatenate(
            [by_scipy(a[..., [i]], b[..., [i]]) for i in range(shape[-1])], axis=-1
        )

    y, backward = jax.vjp(depthwise3x3, jnp.float32(x), jnp.float32(own))
    dx, dkernel = backward(jnp.float32(dy))
    np.testing.assert_allclose(y, each(x, own), atol=1e-5)
    np.testing.assert_allclose(dx, each(dy, np.flip(own, (0, 1))), atol=1e-5)
    crossed = kernel_gradient_by_loop(x, dy)
    np.testing.assert_allclose(dkernel[:, :, 0], crossed.diagonal(axis1=2, axis2=3), atol=1e-4)
    numbers = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": shape[-1]}
    args = jnp.float32(x), jnp.float32(own), (1, 1), ((1, 1), (1, 1))
    text = jax.jit(lambda x, k: convolve(x, k, *args[2:], **numbers)).lower(*args[:2]).as_text()
    assert "convolution" not in text


def lowered(function, *args):
    return jax.jit(lambda *args: function(*args)).lower(*args).as_text()  # traced anew


@pytest.mark.parametrize("shape", [(2, 4, 6, 128, 128), (1, 4, 4, 256, 128)])
def test_many_channels_really_take_winograds_form(shape, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    x, kernel, _ = (jnp.float32(a) for a in draw(*shape))
    text = lowered(conv3x3, x, kernel)
    assert "dot_general" in text
    assert "convolution" not in text
    assert "while" not in text


def test_large_batches_go_image_by_image_and_only_one_device_takes_this_form(monkeypatch):
    shapes = [(8, 64, 64, 128), (3, 3, 128, 128), (8, 64, 64, 128)]
    x, kernel, dy = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)

    def gradient(x, kernel, dy):
        return jax.vjp(lambda kernel: conv3x3(x, kernel), kernel)[1](dy)

    monkeypatch.setattr(jax, "device_count", lambda: 1)
    forms = [lowered(conv3x3, x, kernel), lowered(gradient, x, kernel, dy)]
    assert all("while" in text and "dot_general" in text for text in forms)
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    forms = [lowered(conv3x3, x, kernel), lowered(gradient, x, kernel, dy)]
    assert all("while" not in text and "convolution" in text for text in forms)
    small = jax.ShapeDtypeStruct((2, 4, 6, 128), jnp.float32)
    assert "dot_general" not in lowered(conv3x3, small, kernel)


@pytest.mark.parametrize(
    "settings",
    [
        {"window_strides": (2, 2), "padding": ((1, 1), (1, 1))},
        {"window_strides": (1, 1), "padding": ((0, 0), (0, 0))},
        {"window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "rhs_dilation": (2, 2)},
        {"window_strides": (1, 1), "padding": ((1, 1), (1, 1)), "feature_group_count": 2},
    ],
)
def test_other_convolutions_are_xlas(settings):
    x, kernel, _ = (jnp.float32(a) for a in draw(1, 8, 8, 128, 128))
    kernel = kernel[:, :, : 128 // settings.get("feature_group_count", 1)]
    strides, padding = settings.pop("window_strides"), settings.pop("padding")
    numbers = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    found = convolve(x, kernel, strides, padding, **settings, **numbers)
    expected = lax.conv_general_dilated(x, kernel, strides, padding, **settings, **numbers)
    np.testing.assert_array_equal(found, expected)
