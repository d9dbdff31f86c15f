"""Small versions of all variants, for several test files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.models.encoders.resnet import ENCODERS, Layout
from unet_jax.models.unet import UNet
from unet_jax.models.variants import section

FEATURES = {"blocks": (4, 8, 12), "bottleneck": (8, 12, 16), "resnet": (4, 6, 8, 10, 12)}
TINY = {
    "resnet18": Layout(False, (1, 1, 1, 1), (4, 6, 8, 8, 12)),
    "resnet34": Layout(False, (1, 2, 1, 1), (4, 6, 8, 8, 12)),
    "resnet50": Layout(True, (1, 2, 1, 1), (4, 8, 8, 12, 16)),
}


def tiny_resnets(monkeypatch):
    """Makes the ResNets small, where their sizes do not matter."""
    assert TINY.keys() == ENCODERS.keys()
    for variant, layout in TINY.items():
        monkeypatch.setitem(ENCODERS, variant, layout)


def small(variant, **changes):
    values = section(variant)
    kind = "resnet" if values["encoder"] != "blocks" else values["block"]
    features = FEATURES.get(kind, FEATURES["blocks"])
    return UNet(3, **section(variant, **{"features": features} | changes))


def shallow(variant):
    """Returns the features of two levels, where a variant has all its parts with so few."""
    model = small(variant)
    needs_more = model.encoder != "blocks" or model.decoder != "unet" or model.deep_supervision
    return {} if needs_more else {"features": model.features[:2]}


def train_size(model):
    if model.encoder != "blocks":
        return 64
    if model.padding == "same":
        return 32
    path = model.axis_path()
    return 92 if path.output_size(92) else path.nearest_sizes(92)[0]


@functools.cache
def shapes_of(model, encoders):
    """Returns the shapes of a model's variables, which depend on what the encoders are."""
    image = jnp.zeros((1, *(train_size(model),) * model.dimensions, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    shapes = {"batch_stats": {}, **shapes}
    shapes.pop("deep_supervision", None)
    return shapes


def make(variant, **changes):
    """Returns a small model and random variables, made without compiling anything."""
    model = small(variant, **changes)
    return model, random_like(shapes_of(model, tuple(ENCODERS.items())))


def random_like(shapes):
    """Returns random variables of shapes, of which few networks give every pixel one class."""
    rng = np.random.default_rng(0)

    def fill(path, shape):
        values = rng.normal(size=shape.shape).astype(np.float32)
        name = path[-1].key
        if name == "kernel":
            return np.float32(values * np.sqrt(2 / np.prod(shape.shape[:-1])))
        return np.asarray(0.1 * values + (name in {"scale", "var"}), shape.dtype)

    return jax.device_put(jax.tree_util.tree_map_with_path(fill, shapes))


def make_image(shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)
