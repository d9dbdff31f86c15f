"""The product of pixels with a matrix, and its gradients, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models import fast


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 4, 3, 2, 6), (3, 9, 2)])
def test_products_and_gradients(shape, devices, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    rng = np.random.default_rng(0)
    x, matrix = rng.normal(size=shape), rng.normal(size=(shape[-1], 4))
    dy = rng.normal(size=(*shape[:-1], 4))

    @jax.jit
    def run(x, matrix, dy):
        y, backward = jax.vjp(fast.multiply, x, matrix)
        return y, *backward(dy)

    y, dx, dmatrix = run(*map(jnp.float32, (x, matrix, dy)))
    np.testing.assert_allclose(y, x @ matrix, atol=1e-5)
    np.testing.assert_allclose(dx, dy @ matrix.T, atol=1e-5)
    expected = sum(np.outer(x[at], dy[at]) for at in np.ndindex(shape[:-1]))
    np.testing.assert_allclose(dmatrix, expected, atol=1e-4)
    assert (y.shape, dx.shape, dmatrix.shape) == (dy.shape, x.shape, matrix.shape)


def test_on_one_device_no_pixels_are_laid_out_anew(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 8, 8, 4), (4, 6), (2, 8, 8, 6))]

    def gradients(x, matrix, dy):
        return jax.vjp(fast.multiply, x, matrix)[1](dy)

    text = jax.jit(gradients).lower(*shapes).compile().as_text()
    assert "f32[6,128]" not in text
    assert "f32[4,128]" not in text
