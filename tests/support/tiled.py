"""Networks whose logits are all that is computed, and what a plain call of them gives."""

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.data.sample import RGB
from unet_jax.data.sources import Loading
from unet_jax.network import TileSettings
from unet_jax.predict.assembled import Assembled
from unet_jax.predict.predictor import Outputs, Predictor
from unet_jax.predict.tiled import Large
from unet_jax.sharding import make_shardings

BATCH = 2  # of images of `Loading.image_size`; of reads there is one at once


def both(logits, batch):
    return {"logits": logits, "label": jnp.argmax(logits, axis=-1).astype(jnp.uint8)}


def make_tiles(model, variables, devices=1, **settings):
    """Returns a predictor of logits that takes every image in tiles, and its variables."""
    size = (16,) * model.dimensions
    loading = Loading(size, "crop", 1)
    shardings = make_shardings(devices)
    spec = RGB._replace(axes=model.dimensions)
    tiles = TileSettings(**{"whole": 0} | settings)
    predictor = Predictor(model, spec, loading, shardings, Outputs(None, both), tiles)
    return predictor, jax.device_put(variables, shardings.replicated)


def in_tiles(predictor, variables, image, todo=None):
    """Returns what the tiles of an image give, put together."""
    size = image.shape[:-1]
    found = Assembled(size, ())
    for part in predictor.tiling.run(variables, Large("image", size, image.__getitem__), BATCH):
        assert not part.error
        found.add(part)
    return {name: value[0] for name, value in found.batch().items()}


def draw_image(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)


def read_length(predictor, variables):
    return predictor.tiling.choose(variables, BATCH).lengths


class Plain:
    """The network alone: its logits for whole images, padded by hand."""

    def __init__(self, model, variables):
        self._model = model
        # Black -2 and white 2; see `scale.standardise`.
        self._apply = jax.jit(
            lambda x: model.apply(variables, (x / 255.0 - 0.5) / 0.25, train=False)
        )

    def __call__(self, image, least):
        """Returns the logits of an image, which is padded to a read of `least` at least."""
        size = image.shape[:-1]
        if self._model.padding == "valid":
            given = [self._model.input_size(max(n, m)) for n, m in zip(size, least, strict=True)]
            before = [(read - own) // 2 for read, own in given]
            ends = [(b, read - n - b) for (read, _), n, b in zip(given, size, before, strict=True)]
            mode = "symmetric"
        else:
            multiple = self._model.multiple()
            ends = [(0, max(m, n + -n % multiple) - n) for n, m in zip(size, least, strict=True)]
            mode = "edge"
        padded = np.pad(image, (*ends, (0, 0)), mode=mode)
        logits = np.asarray(self._apply(padded[None].astype(np.float32)))[0]
        return logits[tuple(map(slice, size))]
