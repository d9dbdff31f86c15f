"""Files of weights, and the variables that they are loaded into."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file
from vectors.make_vectors import MILESIAL, milesial_shapes, numbers_for, resnet_shapes

from unet_jax.models.encoders.resnet import ResNet
from unet_jax.models.unet import UNet

SAVE = {".safetensors": save_file, ".npz": lambda weights, file: np.savez(file, **weights)}


def milesial_weights(**sizes):
    return numbers_for(milesial_shapes(**(MILESIAL | sizes)))


def resnet_weights(variant="resnet18"):
    return numbers_for(resnet_shapes(variant))


def write(folder, weights, suffix=".safetensors"):
    file = folder / f"weights{suffix}"
    SAVE[suffix](weights, file)
    return file


def unet(features=MILESIAL["features"], classes=2, channels=3, norm="batch"):
    return shapes_of(UNet(classes, features, norm=norm), channels)


class WithEncoder(nn.Module):
    """The least model whose encoder is a ResNet."""

    variant: str = "resnet18"

    @nn.compact
    def __call__(self, x, *, train):
        maps = ResNet(self.variant, name="encoder")(x, train=train)
        return nn.Conv(2, (1, 1), name="head")(maps[0])


def shapes_of(model, channels=3):
    """Variables of the right shapes; every one is 7, which no file holds."""
    batch = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), batch)
    return jax.device_put(jax.tree.map(lambda x: np.full(x.shape, 7, x.dtype), shapes))
