"""A convolution with its batch normalisation in evaluation, which are one kernel and one sum."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models.blocks import conv_norm
from unet_jax.models.options import Options

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}
FORMS = {  # channels in and out, and the form of the convolution
    "few channels": (3, 5, {}),
    "1x1": (4, 6, {"size": 1}),
    "strided": (4, 6, {"strides": (2, 2)}),
    "dilated": (4, 6, {"dilation": 2}),
    "each channel alone": (5, 5, {"groups": 5}),
    "many channels": (128, 130, {}),
}


class Layer(nn.Module):
    features: int
    options: Options
    form: dict
    activates: bool
    train: bool = False

    @nn.compact
    def __call__(self, x):
        options, train = self.options, self.train
        return conv_norm(x, self.features, options, train, activates=self.activates, **self.form)


def by_numpy(x, kernel, *, strides=(1, 1), dilation=1, groups=1, size=3):
    reach = dilation * (size // 2)
    padded = np.pad(np.float64(x), ((0, 0), (reach,) * 2, (reach,) * 2, (0, 0)))
    _, h, w, _ = x.shape
    total = 0.0
    for i, j in np.ndindex(size, size):
        seen = padded[:, i * dilation :, j * dilation :][:, :h, :w]
        tap = np.float64(kernel[i, j])
        total = total + (seen * tap if groups > 1 else seen @ tap)
    return total[:, :: strides[0], :: strides[1]]


def draw(layer, x, mean, seed=0):
    """Draws the layer's variables; the running mean is so many deviations off."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda s: np.float32(rng.normal(size=s.shape)), shapes)
    variance = np.float32(rng.uniform(0.2, 2, layer.features))
    off = mean * np.sqrt(variance) + rng.normal(size=layer.features)
    variables["batch_stats"]["BatchNorm_0"] = {"mean": np.float32(off), "var": variance}
    return variables


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("form", FORMS)
def test_evaluation_follows_the_equation_in_float64(form, activation):
    c, features, how = FORMS[form]
    x = np.float32(np.random.default_rng(1).normal(size=(2, 6, 8, c)))
    for activates in (False, True):
        layer = Layer(features, Options(2, activation=activation), how, activates)
        variables = draw(layer, x, mean=3.0)
        own, stats = variables["params"]["BatchNorm_0"], variables["batch_stats"]["BatchNorm_0"]
        y = by_numpy(x, variables["params"]["Conv_0"]["kernel"], **how)
        y = (y - np.float64(stats["mean"])) / np.sqrt(np.float64(stats["var"]) + 1e-5)
        y = y * np.float64(own["scale"]) + np.float64(own["bias"])
        expected = ACTIVATIONS[activation](y) if activates else y
        found = jax.jit(layer.apply)(variables, x)
        tolerance = 3e-6 * math.sqrt(9 * c)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_it_rounds_no_more_than_one_step_after_the_other(mean):
    """Errors of the outputs in float64, beside those of a normalisation after the convolution."""
    x = np.float32(np.random.default_rng(1).normal(size=(1, 9, 7, 32)))
    x = np.float32(x + mean)  # so that the convolution's results are large beside their deviation
    layer = Layer(16, Options(2), {}, False)
    variables = draw(layer, x, mean=0.0)
    kernel = variables["params"]["Conv_0"]["kernel"]
    y = by_numpy(x, kernel)
    stats = {"mean": np.float32(y.mean((0, 1, 2))), "var": np.float32(y.var((0, 1, 2)))}
    variables["batch_stats"]["BatchNorm_0"] = stats
    own = variables["params"]["BatchNorm_0"]
    factor = np.float64(own["scale"]) / np.sqrt(np.float64(stats["var"]) + 1e-5)
    expected = (y - np.float64(stats["mean"])) * factor + np.float64(own["bias"])
    found = jax.jit(layer.apply)(variables, x)
    convolved = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1),) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    apart = (np.asarray(convolved) - stats["mean"]) * np.float32(factor) + own["bias"]
    errors = [np.abs(np.float64(z) - expected).max() for z in (found, apart)]
    assert errors[0] <= 3 * errors[1]


def test_gradients_are_those_of_one_step_after_the_other():
    x = np.float32(np.random.default_rng(1).normal(size=(2, 5, 7, 3)))
    layer = Layer(4, Options(2), {}, True)
    variables = draw(layer, x, mean=0.0)

    def apart(x, variables):
        own, stats = variables["params"]["BatchNorm_0"], variables["batch_stats"]["BatchNorm_0"]
        y = jax.lax.conv_general_dilated(
            x,
            variables["params"]["Conv_0"]["kernel"],
            (1, 1),
            ((1, 1),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        factor = own["scale"] / jnp.sqrt(stats["var"] + 1e-5)
        factor, mean, bias = (v[None, None, None] for v in (factor, stats["mean"], own["bias"]))
        return jax.nn.relu((y - mean) * factor + bias)

    weigh = np.float32(np.random.default_rng(2).normal(size=(2, 5, 7, 4)))
    both = [
        jax.jit(jax.grad(lambda x, v, form=form: (weigh * form(x, v)).sum(), (0, 1)))(x, variables)
        for form in (lambda x, v: layer.apply(v, x), apart)
    ]
    for found, expected in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
