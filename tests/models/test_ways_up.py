import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models.anatomy import dissect
from unet_jax.models.receptive import sees
from unet_jax.models.rules import check_options
from unet_jax.models.unet import UNet
from unet_jax.models.up.geometry import Geometry, fitting_paddings, stage_geometry
from unet_jax.models.up.resize import resize_bilinear, resize_nearest
from unet_jax.models.up.shuffle import PixelShuffle
from unet_jax.models.up.stage import Stage
from unet_jax.models.up.transposed import TransposeConv
from unet_jax.models.up.unpool import Unpool, max_unpool
from unet_jax.models.up.ways import WAYS


def side_by_side(features, strides):
    return Stage(features, tuple(Geometry(s, s) for s in strides))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


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
    x = normal(2, *range(3, 3 + len(strides)), 4)
    layer = PixelShuffle(side_by_side(5, strides))
    variables = jax.jit(layer.init)(jax.random.key(1), x)
    found = jax.jit(layer.apply)(variables, x)
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
    layer = Unpool(side_by_side(3, strides))
    params = {"Conv_0": {"kernel": jnp.eye(3)[None, None], "bias": jnp.zeros(3)}}
    np.testing.assert_allclose(layer.apply({"params": params}, x, pooled_from), expected, atol=1e-6)


@pytest.mark.parametrize(("f", "p", "s"), [(4, 1, 2), (8, 2, 4), (12, 3, 6)])
def test_bilinear_start_interpolates_and_mixes(f, p, s):
    layer = TransposeConv(Stage(5, (stage_geometry(f, p, s),) * 2, initial="bilinear"))
    x = normal(2, 6, 7, 3)
    variables = jax.jit(layer.init)(jax.random.key(1), x)
    # The filter is a window times one 1x1 convolution.
    window = np.maximum(0, 1 - np.abs(np.arange(f) - (f - 1) / 2) / s)
    mix = variables["params"]["kernel"][f // 2, f // 2] / window[f // 2] ** 2
    expected = resize_bilinear(jnp.einsum("...c,cf->...f", x, mix, precision="highest"), (s, s))
    found = jax.jit(layer.apply)(variables, x)
    assert found.shape == (2, 6 * s, 7 * s, 5)
    np.testing.assert_allclose(found[:, s:-s, s:-s], expected[:, s:-s, s:-s], atol=1e-5)
    assert not np.allclose(found[:, 0], expected[:, 0], atol=1e-3)


def test_any_stage_that_fits_reaches_its_stride():
    for f, s in itertools.product(range(1, 8), range(1, 5)):
        for p in range(f):
            low, high = fitting_paddings(f, s)
            fits = 1 <= f - 2 * p <= s
            assert (low <= p <= high) == fits
            if not fits:  # refused by the options
                continue
            geometry = stage_geometry(f, p, s)
            layer, x = TransposeConv(Stage(2, (geometry,) * 2)), normal(1, 3, 5, 4)
            shape = jax.eval_shape(lambda x, m=layer: m.init_with_output(jax.random.key(0), x), x)
            assert shape[0].shape == (1, 3 * s, 5 * s, 2), (f, p, s)
            assert geometry.output_size(5) == 5 * s


@pytest.mark.parametrize(("f", "p", "s"), [(2, 0, 2), (4, 1, 2), (7, 2, 3), (3, 1, 4)])
def test_activations_keep_their_scale(f, p, s):
    layer = TransposeConv(Stage(64, (stage_geometry(f, p, s),) * 2))
    x = normal(1, 16, 16, 64)
    found = jax.jit(layer.apply)(jax.jit(layer.init)(jax.random.key(1), x), x)
    inner = np.asarray(found)[:, 2 * s : -2 * s, 2 * s : -2 * s]
    covered = 1 if f >= s else (f / s) ** 2
    assert 0.6 < inner.std() / np.sqrt(covered) < 1.5


def made(way, s):
    """Returns a way's row and its module along one axis, with a filter of its own if it has one."""
    row = WAYS[way]
    geometry = row.geometry(s + 2, 1, s) if row.has_filter else row.geometry(s, 0, s)
    return row, geometry, row.module(Stage(64, (geometry,)))


def skip(row, n):
    # In which pixel of a window the largest is differs from channel to channel.
    return (normal(1, n, 64),) if row.reads_skip else ()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("s", [1, 2, 3, 4])
def test_geometry_says_which_pixels_are_seen(way, s):
    row, g, layer = made(way, s)
    bright = np.zeros((1, 9, 3), np.float32)
    bright[0, 4] = 1.0
    inputs = bright, *skip(row, 9 * s)
    variables = jax.device_get(jax.jit(layer.init)(jax.random.key(0), *inputs))
    variables = jax.tree.map(lambda p: np.abs(p) * (p.ndim > 1), variables)  # no bias
    lit = np.flatnonzero(np.sum(jax.jit(layer.apply)(variables, *inputs), (0, 2)))
    assert lit.min() == 4 * s - g.padding
    assert lit.max() == 4 * s - g.padding + g.filter - 1
    for pixel in range(9 * s):
        first, last = g.sources(pixel, pixel)
        assert (first <= 4 <= last) == (lit.min() <= pixel <= lit.max())


@pytest.mark.parametrize("way", [way for way in WAYS if not WAYS[way].reads_skip])
def test_only_a_way_that_pads_makes_up_pixels(way):
    row, g, layer = made(way, 2)
    x = jnp.ones((1, 9, 3))
    variables = layer.init(jax.random.key(0), x)
    y = np.asarray(layer.apply(variables, x))[0]
    # Where the filter lies inside of the input, constant pixels stay constant, phase by phase.
    inside = [q for q in range(18) if g.sources(q, q)[0] >= 0 and g.sources(q, q)[1] < 9]
    for q in inside:
        np.testing.assert_allclose(y[q], y[8 + q % 2], atol=1e-6)
    assert (len(inside) < 18) == (row.pads or row.has_filter)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_has_its_place_in_a_model(way):
    row, size = WAYS[way], (16, 20)
    model = UNet(3, (4, 8), up=way)
    check_options(model)
    found = dissect(model, size)
    up = found.find("up", 0)
    assert up is not None
    assert found.output == (16, 20, 3)
    assert up.label == row.label + " 2x2" * row.has_filter + ", stride 2"
    assert sees(model, 40)[0] < 40 < sees(model, 40)[1]
    is_warned = UNet(3, (4, 8), up=way, up_filters=((3, 1, 2),)).checkerboards() != [None]
    assert is_warned == row.has_filter
