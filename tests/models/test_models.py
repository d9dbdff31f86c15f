import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from support import xla

from unet_jax.models.blocks import NORMS
from unet_jax.models.fast import max_pool
from unet_jax.models.unet import UNet
from unet_jax.models.up.geometry import Geometry
from unet_jax.models.up.stage import Stage
from unet_jax.models.up.transposed import TransposeConv

# Parameters by (features, K, norm). The first is the count of the PyTorch U-Net that people start
# from (3 input channels, 2 classes, transposed convolutions), the second that of the paper's
# network for the same input: every convolution has a bias instead of a normalisation's two vectors.
# The rest is counted by hand in `count` below.
PARAMETERS = {
    ((64, 128, 256, 512, 1024), 2, "batch"): 31_037_698,
    ((64, 128, 256, 512, 1024), 2, "none"): 31_031_810,
    ((16, 32, 64, 128, 256), 3, "batch"): 1_942_611,
    ((16, 32, 64, 128), 6, "group"): 482_822,
    ((4, 8), 6, "instance"): 1_774,
}


def count(features, classes, norm):
    """Counts parameters layer by layer."""
    vectors = 1 if norm == "none" else 2

    def double(c, f):
        return 9 * c * f + 9 * f * f + 2 * vectors * f

    total, c = 0, 3
    for f in features:
        total, c = total + double(c, f), f
    for f in reversed(features[:-1]):
        total, c = total + 4 * c * f + f + double(2 * f, f), f
    return total + c * classes + classes


# Each is one program, where one operation after the other would be a hundred.
@functools.partial(jax.jit, static_argnums=0)
def init(model, image):
    return model.init(jax.random.key(0), image, train=False)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, variables, image):
    return model.apply(variables, image, train=False)


def make(features=(4, 8, 12), classes=3, size=(16, 16), **fields):
    model = UNet(classes, features, **fields)
    return model, init(model, jnp.zeros((1, *size, 3)))


@pytest.mark.parametrize(("variant", "expected"), PARAMETERS.items())
def test_parameter_counts(variant, expected):
    features, classes, norm = variant
    model = UNet(classes, features, norm=norm)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == expected
    assert count(features, classes, norm) == expected


def test_every_norm_has_a_parameter_count():
    assert {norm for _, _, norm in PARAMETERS} == set(NORMS)


def test_every_skip_is_consumed_and_carries_gradient():
    model, variables = make()
    shapes = {"/".join(k): v.shape for k, v in flatten_dict(variables["params"]).items()}
    for level, features in enumerate((4, 8)):
        assert shapes[f"decoder_{level}/Conv_0/kernel"][2] == 2 * features
    image = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))

    def loss(kernels):
        params = variables["params"] | kernels
        return jnp.sum(model.apply(variables | {"params": params}, image, train=False) ** 2)

    decoders = {f"decoder_{level}": variables["params"][f"decoder_{level}"] for level in (0, 1)}
    gradients = jax.jit(jax.grad(loss))(decoders)
    for level, features in enumerate((4, 8)):
        from_skip = gradients[f"decoder_{level}"]["Conv_0"]["kernel"][:, :, :features]
        assert (np.abs(from_skip).sum(axis=(0, 1, 3)) > 0).all()


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (37, 53), (4, 90)])
def test_any_size_works(size):
    model, variables = make()
    image = jax.random.normal(jax.random.key(1), (2, *size, 3))
    logits = apply(model, variables, image)
    assert logits.shape == (2, *size, 3)
    assert np.isfinite(logits).all()


def test_padding_repeats_the_edge():
    model, variables = make()
    image = jax.random.normal(jax.random.key(1), (1, 13, 15, 3))
    by_hand = jnp.asarray(np.pad(image, ((0, 0), (0, 3), (0, 1), (0, 0)), mode="edge"))
    found = apply(model, variables, image)
    expected = apply(model, variables, by_hand)[:, :13, :15]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(norm):
    image = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    exact, variables = make(norm=norm)
    rounded, same = make(norm=norm, dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(same)} == {jnp.dtype("float32")}
    expected = np.asarray(apply(exact, variables, image))
    found = np.asarray(apply(rounded, variables, image))
    assert found.dtype == np.float32
    assert not np.array_equal(found, expected)
    assert np.max(np.abs(found - expected)) < 0.05 * np.max(np.abs(expected))


def test_batch_norm_uses_the_batch_and_tracks_it():
    model, variables = make(features=(4, 8))
    image = jax.random.normal(jax.random.key(1), (4, 8, 8, 3)) * 3 + 1
    train = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    _, updated = train(variables, image)
    kernel = variables["params"]["encoder_0"]["Conv_0"]["kernel"]
    convolved = np.asarray(
        jax.lax.conv_general_dilated(
            image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    stats = updated["batch_stats"]["encoder_0"]["BatchNorm_0"]
    axes = (0, 1, 2)
    np.testing.assert_allclose(stats["mean"], 0.1 * convolved.mean(axes), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * convolved.var(axes), rtol=1e-4)


def literal_transpose_conv(x, kernel, bias, stride):
    """A grid of zeros; every pixel places the filter times itself; overlaps add up."""
    b, h, w, _ = x.shape
    f, _, _, features = kernel.shape
    y = np.zeros((b, stride * (h - 1) + f, stride * (w - 1) + f, features))
    for n, i, j in np.ndindex(b, h, w):
        placed = np.einsum("c,klcf->klf", x[n, i, j], kernel)
        y[n, i * stride : i * stride + f, j * stride : j * stride + f] += placed
    return y + bias


@pytest.mark.parametrize("stride", [2, 3])
def test_transpose_conv_equals_placing_the_filter(stride):
    layer = TransposeConv(Stage(5, (Geometry(stride, stride),) * 2))
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 6))
    variables = layer.init(jax.random.key(1), x)
    bias = jnp.arange(5.0)
    params = variables["params"] | {"bias": bias}
    expected = literal_transpose_conv(
        np.asarray(x), np.asarray(params["kernel"]), np.asarray(bias), stride
    )
    found = layer.apply({"params": params}, x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("strides", [(2, 2), (3, 1), (2, 4), (2, 2, 3)])
def test_max_pool_and_its_gradient_equal_a_loop(strides):
    rng = np.random.default_rng(0)
    shape = tuple(n * s for n, s in zip((2, 3, 1), strides, strict=False))
    x = rng.integers(0, 4, (2, *shape, 3)).astype(np.float32)  # several are largest
    pooled = np.zeros((2, *(n // s for n, s in zip(shape, strides, strict=True)), 3), np.float32)
    weights, gradient = rng.normal(size=pooled.shape).astype(np.float32), np.zeros_like(x)
    for n, *pixel, c in np.ndindex(pooled.shape):
        window = tuple(slice(i * s, (i + 1) * s) for i, s in zip(pixel, strides, strict=True))
        values = x[(n, *window, c)]
        pooled[(n, *pixel, c)] = values.max()
        place = np.unravel_index(values.argmax(), values.shape)
        gradient[(n, *window, c)][place] = weights[(n, *pixel, c)]
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), strides), pooled)
    found = jax.grad(lambda x: jnp.sum(max_pool(x, strides) * weights))(jnp.asarray(x))
    np.testing.assert_array_equal(found, gradient)


def test_the_gradient_of_max_pool_is_there_where_activations_are_computed_anew():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 30, 34, 4)).astype(np.float32)
    scale, bias = (rng.normal(size=(1, 1, 1, 4)).astype(np.float32) + 1 for _ in range(2))

    def total(x):
        return jnp.sum(max_pool(jax.nn.relu(x * scale + bias)) ** 2)

    # So XLA rounds the two computations of the activation otherwise.
    options = {"xla_backend_optimization_level": 0} | xla.EMITTERS
    found = jax.jit(jax.grad(total), compiler_options=options)(x)
    y = np.maximum(x * scale + bias, 0).reshape(2, 15, 2, 17, 2, 4)
    largest = y.max((2, 4), keepdims=True)
    right = np.where(y == largest, 2 * y, 0).reshape(x.shape) * scale
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6)
