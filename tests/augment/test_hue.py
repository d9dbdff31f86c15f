"""Saturation and hue against Python's own HSV."""

import colorsys

import jax
import numpy as np
import pytest

from unet_jax.augment.intensity import saturate, turn_hue

RNG = np.random.default_rng(0)
EDGES = np.array(np.meshgrid(*[[0.0, 1e-7, 0.3, 0.3 + 1e-7, 0.5, 1.0]] * 3)).reshape(3, -1).T
COLOURS = np.float32(np.concatenate([EDGES, RNG.random((400, 3))]))


def by_colorsys(change):
    hsv = (colorsys.rgb_to_hsv(*map(float, rgb)) for rgb in COLOURS)
    return np.array([colorsys.hsv_to_rgb(*change(*each)) for each in hsv])


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7, 9.0])
def test_saturation_is_multiplied_up_to_1(factor):
    found = jax.jit(saturate)(COLOURS.reshape(8, -1, 3), factor)
    expected = by_colorsys(lambda h, s, v: (h, min(1.0, s * factor), v))
    np.testing.assert_allclose(np.reshape(found, (-1, 3)), expected, atol=2e-6)


@pytest.mark.parametrize("shift", [-0.5, -0.03, 0.0, 0.2, 0.5])
def test_hue_is_turned(shift):
    found = jax.jit(turn_hue)(COLOURS.reshape(8, -1, 3), shift)
    expected = by_colorsys(lambda h, s, v: ((h + shift) % 1, s, v))
    np.testing.assert_allclose(np.reshape(found, (-1, 3)), expected, atol=2e-6)


def test_rounding_moves_no_colour_far():
    shaken = np.float32(np.clip(COLOURS + RNG.uniform(-1e-7, 1e-7, COLOURS.shape), 0, 1))
    for change, by in ((saturate, 1.7), (turn_hue, 0.3)):
        one, other = (jax.jit(change)(x, by) for x in (COLOURS, shaken))
        np.testing.assert_allclose(one, other, atol=2e-6)
