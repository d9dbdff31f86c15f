import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from unet_jax.models.fast import BatchNorm, native
from unet_jax.models.fast.batch_norm import normalise
from unet_jax.models.fast.choice import channel_moments, channel_products, channel_sums

FORMS = ("native", "XLA's on one device", "XLA's on eight")


def take(form, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8 if form.endswith("eight") else 1)
    monkeypatch.setenv("UNET_JAX_KERNELS", "1" if form == "native" else "0")
    if form == "native" and not native.load().name:
        pytest.skip(native.load().why)


def draw(shape=(4, 6, 5, 3)):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) * 2 + 1
    return x, rng.normal(size=shape), rng.uniform(0.5, 2, shape[-1]), rng.normal(size=shape[-1])


def by_hand(x, dy, scale, bias):
    """Forward and backward in float64 by the equations of Ioffe & Szegedy, section 3."""
    axes = tuple(range(x.ndim - 1))
    m = x.size // x.shape[-1]
    mean, variance = x.mean(axes), x.var(axes)
    root = np.sqrt(variance + 1e-5)
    normal = (x - mean) / root
    d_normal = dy * scale
    d_variance = (d_normal * (x - mean)).sum(axes) * -0.5 * root**-3
    d_mean = -d_normal.sum(axes) / root - 2 * d_variance * (x - mean).mean(axes)
    dx = d_normal / root + d_variance * 2 * (x - mean) / m + d_mean / m
    return scale * normal + bias, mean, variance, dx, (dy * normal).sum(axes), dy.sum(axes)


def test_a_batch_of_many_devices_has_more_pixels_than_int32_counts():
    x = jax.ShapeDtypeStruct((2**13, 1024, 1024, 4), jnp.bfloat16)
    one = jax.ShapeDtypeStruct((4,), jnp.float32)

    def loss(x, scale, bias):
        return normalise(x, scale, bias, 1e-5)[0].astype(jnp.float32).sum()

    found = jax.eval_shape(jax.grad(loss, argnums=(0, 1, 2)), x, one, one)
    assert [y.shape for y in found] == [x.shape, (4,), (4,)]


@pytest.mark.parametrize("shape", [(4, 6, 5, 3), (2, 3, 4, 5, 2), (1, 2, 1, 1)])
def test_normalise_and_its_gradients_follow_the_paper(shape):
    x, dy, scale, bias = draw(shape)
    arguments = [jnp.float32(a) for a in (x, scale, bias)]
    (y, mean, variance), backward = jax.vjp(lambda *a: normalise(*a, 1e-5), *arguments)
    dx, dscale, dbias = backward((jnp.float32(dy), jnp.zeros_like(mean), jnp.zeros_like(variance)))
    found = (y, mean, variance, dx, dscale, dbias)
    for ours, expected in zip(found, by_hand(x, dy, scale, bias), strict=True):
        np.testing.assert_allclose(ours, expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_and_statistics_are_those_of_linen(train, dtype):
    x = jnp.float32(draw()[0])
    ours = BatchNorm(not train, momentum=0.9, dtype=dtype)
    linens = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=jnp.dtype(dtype))
    variables = linens.init(jax.random.key(0), x)
    assert jax.tree.structure(ours.init(jax.random.key(0), x)) == jax.tree.structure(variables)
    stats = {"mean": jnp.float32([1, 2, 0]), "var": jnp.float32([4, 1, 2])}
    params = {"scale": jnp.float32([1, 2, 3]), "bias": jnp.float32([0, 1, -1])}
    variables = {"params": params, "batch_stats": stats}
    found, expected = (m.apply(variables, x, mutable=["batch_stats"]) for m in (ours, linens))
    assert found[0].dtype == jnp.dtype(dtype)
    # In bfloat16 ours rounds the input, as activations are, before the statistics.
    bound = 1e-5 if dtype == "float32" else 0.05
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.float32(a), np.float32(b), atol=bound, rtol=bound)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "shape", [(3, 4, 5, 6), (1, 70, 130, 3), (2, 3, 9, 7, 32), (7, 1, 33), (2, 1, 5000, 1)]
)
def test_sums_over_channels_are_numpys(shape, form, monkeypatch):
    take(form, monkeypatch)
    x, y = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    center = np.linspace(-1, 1, shape[-1], dtype=np.float32)
    axes, d = tuple(range(x.ndim - 1)), np.float64(x) - center
    found = channel_sums(x), *channel_products(y, x, center), *channel_moments(x, center)
    for ours, values in zip(found, (np.float64(x), np.float64(y), y * d, d, d * d), strict=True):
        bound = (1e-6 if form == "native" else 5e-6) * np.abs(values).sum(axes).max()
        np.testing.assert_allclose(ours, values.sum(axes), atol=bound)


def test_sums_over_channels_round_little_and_are_float32(monkeypatch):
    many, zero = jnp.full((4, 64, 64, 2), 0.1, jnp.bfloat16), jnp.zeros(2)
    for form in FORMS:
        take(form, monkeypatch)
        expected = float(many[0, 0, 0, 0]) * 2**14
        square = expected * float(many[0, 0, 0, 0])
        np.testing.assert_allclose(channel_sums(many), expected, rtol=1e-4)
        for found in channel_products(many, many, zero), channel_moments(many, zero):
            np.testing.assert_allclose(found, [[expected] * 2, [square] * 2], rtol=1e-4)
            assert [sums.dtype for sums in found] == [jnp.float32] * 2


@pytest.mark.parametrize("form", FORMS[:2])
def test_the_variance_of_a_large_mean_is_exact_on_one_device_too(form, monkeypatch):
    take(form, monkeypatch)
    test_normalise_and_its_gradients_follow_the_paper((4, 33, 70, 16))
    x = np.float32(np.random.default_rng(0).normal(size=(4, 33, 70, 5)) + 1e4)
    y, _, variance = normalise(x, jnp.ones(5), jnp.zeros(5), 1e-5)
    exact = np.float64(x)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=1e-4)
    normal = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    np.testing.assert_allclose(y, normal, atol=2e-3)
