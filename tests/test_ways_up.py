import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models.geometry import up_geometry
from unet_jax.models.ways_up import (
    PixelShuffle,
    ResizeConv,
    TransposeConv,
    Unpool,
    max_unpool,
    resize_bilinear,
    resize_nearest,
    transpose_geometry,
)


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("size", "strides"),
    [((5,), (2,)), ((1, 4), (2, 3)), ((3, 5), (4, 1)), ((2, 3, 2), (2, 3, 4))],
)
def test_interpolations_equal_jax_image_resize(size, strides):
    x = normal(2, *size, 3)
    shape = (2, *(s * n for s, n in zip(strides, size, strict=True)), 3)
    found, expected = resize_bilinear(x, strides), jax.image.resize(x, shape, "bilinear")
    np.testing.assert_allclose(found, expected, atol=1e-5)
    repeated = jax.image.resize(x, shape, "nearest")
    np.testing.assert_array_equal(resize_nearest(x, strides), repeated)


@pytest.mark.parametrize("strides", [(2, 2), (3, 2), (2, 1, 2)])
def test_pixel_shuffle_starts_by_repeating_pixels(strides):
    layer, x = PixelShuffle(5, "float32", strides), normal(2, *range(3, 3 + len(strides)), 4)
    variables = layer.init(jax.random.key(1), x)
    found = layer.apply(variables, x)
    kernel = variables["params"]["Conv_0"]["kernel"][..., :5].reshape(4, 5)
    mixed = jnp.einsum("...c,cf->...f", x, kernel, precision="highest")
    np.testing.assert_allclose(found, resize_nearest(mixed, strides), atol=1e-5)
    assert found.std() > 0.1


@pytest.mark.parametrize("strides", [(2, 2), (3, 2)])
def test_unpooling_equals_a_loop(strides):
    pooled_from, x = np.asarray(normal(2, 6, 4, 3)), np.asarray(normal(2, 6 // strides[0], 2, 3))
    pooled_from = pooled_from.round()  # several of a window are largest: the first counts
    expected = np.zeros_like(pooled_from)
    for n, i, j, c in np.ndindex(x.shape):
        a, b = strides
        window = pooled_from[n, a * i : a * i + a, b * j : b * j + b, c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        expected[n, a * i + row, b * j + column, c] = x[n, i, j, c]
    found = max_unpool(jnp.asarray(x), jnp.asarray(pooled_from), strides)
    np.testing.assert_array_equal(found, expected)
    layer = Unpool(3, "float32", strides)
    params = {"Conv_0": {"kernel": jnp.eye(3)[None, None], "bias": jnp.zeros(3)}}
    np.testing.assert_allclose(layer.apply({"params": params}, x, pooled_from), expected, atol=1e-6)


@pytest.mark.parametrize(("f", "p", "s"), [(4, 1, 2), (8, 2, 4), (12, 3, 6)])
def test_bilinear_start_interpolates_and_mixes(f, p, s):
    layer = TransposeConv(5, "float32", (s, s), (f, f), (p, p), "bilinear")
    x = normal(2, 6, 7, 3)
    variables = layer.init(jax.random.key(1), x)
    # The filter is a window times one 1x1 convolution.
    window = np.maximum(0, 1 - np.abs(np.arange(f) - (f - 1) / 2) / s)
    mix = variables["params"]["kernel"][f // 2, f // 2] / window[f // 2] ** 2
    expected = resize_bilinear(jnp.einsum("...c,cf->...f", x, mix, precision="highest"), (s, s))
    found = layer.apply(variables, x)
    assert found.shape == (2, 6 * s, 7 * s, 5)
    np.testing.assert_allclose(found[:, s:-s, s:-s], expected[:, s:-s, s:-s], atol=1e-5)
    assert not np.allclose(found[:, 0], expected[:, 0], atol=1e-3)


def test_any_stage_that_fits_reaches_its_stride():
    for f, s in itertools.product(range(1, 8), range(1, 5)):
        for p in range(f):
            if f - 2 * p > s or s - f + 2 * p >= s:  # refused by the options
                continue
            layer, x = TransposeConv(2, "float32", (s,) * 2, (f,) * 2, (p,) * 2), normal(1, 3, 5, 4)
            shape = jax.eval_shape(lambda x, m=layer: m.init_with_output(jax.random.key(0), x), x)
            assert shape[0].shape == (1, 3 * s, 5 * s, 2), (f, p, s)
            assert transpose_geometry(f, p, s).output_size(5) == 5 * s


@pytest.mark.parametrize(("f", "p", "s"), [(2, 0, 2), (4, 1, 2), (7, 2, 3), (3, 1, 4)])
def test_activations_keep_their_scale(f, p, s):
    layer, x = TransposeConv(64, "float32", (s, s), (f, f), (p, p)), normal(1, 16, 16, 64)
    found = layer.apply(layer.init(jax.random.key(1), x), x)
    inner = np.asarray(found)[:, 2 * s : -2 * s, 2 * s : -2 * s]
    covered = 1 if f >= s else (f / s) ** 2
    assert 0.6 < inner.std() / np.sqrt(covered) < 1.5


WAYS = {
    "bilinear": lambda s: ResizeConv(4, "float32", (s,)),
    "nearest": lambda s: ResizeConv(4, "float32", (s,), True),
    "pixel_shuffle": lambda s: PixelShuffle(4, "float32", (s,)),
    "transpose": lambda s: TransposeConv(4, "float32", (s,), (s + 2,), (1,)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("s", [1, 2, 3, 4])
def test_geometry_says_which_pixels_are_seen(way, s):
    layer = WAYS[way](s)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 9, 3)))
    variables = jax.tree.map(lambda p: jnp.abs(p) * (p.ndim > 1), variables)  # no bias
    lit = np.flatnonzero(layer.apply(variables, jnp.zeros((1, 9, 3)).at[0, 4].set(1.0)).sum((0, 2)))
    g = up_geometry(way, s + 2, 1, s)
    assert lit.min() == 4 * s - g.padding
    assert lit.max() == 4 * s - g.padding + g.filter - 1
