"""The whole of a prediction as one pure function of an image: what every format exports."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from unet_jax.augment.scale import standardise, to_unit
from unet_jax.data.normalise import Normalise
from unet_jax.data.sample import Spec
from unet_jax.errors import UserError
from unet_jax.export import canvas, ends
from unet_jax.models.unet import UNet
from unet_jax.network import Network
from unet_jax.predict.fits import Resize, make_fit, resize_logits
from unet_jax.predict.values import is_other_range
from unet_jax.process import target

OUTPUTS = ("label", "probability", "other_range")
Weights = Mapping[str, Any]
Steps = tuple[Any, ...]


class Pipeline(NamedTuple):
    """A prediction from images as they are decoded.

    Attributes:
        apply: (weights, image [B, *n, C], steps, see `grid`) -> "label" uint8 [B, *n], class ids,
            or of classes that may overlap [B, *n, K] of 0 and 1; "probability" float32 [B, *n, K];
            "other_range" bool [B], whether the values of an image are of a wholly other range than
            those of the training. Any n; the labels are those of `--mode=predict`.
        weights: float32 by "COLLECTION/MODULE/.../NAME".
        dtype: Of the image.
        axes: n.
        channels: C.
        least: The fewest pixels along an axis for which the network sees more than one value where
            it normalises by the image.
        grid: The sizes that the network reads; `steps` are arrays int8 [k], one for each axis, of
            which the lengths k count alone. None where images are resized, and `steps` are ().
    """

    apply: Callable[[Weights, jax.Array, Steps], dict[str, jax.Array]]
    weights: dict[str, np.ndarray]
    dtype: str
    axes: int
    channels: int
    least: int
    grid: canvas.Grid | None

    def arguments(self) -> tuple[Any, jax.ShapeDtypeStruct, Steps]:
        """Returns the shapes of all that `apply` takes, of any number and size, as symbols."""
        sizes = "dhw"[-self.axes :]
        steps = [f"k{n}" for n in sizes] if self.grid else []
        symbols = jax.export.symbolic_shape(f"b, {', '.join([*sizes, *steps])}")
        shape = (*symbols[: 1 + self.axes], self.channels)
        shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in self.weights.items()}
        lengths = tuple(jax.ShapeDtypeStruct((k,), jnp.int8) for k in symbols[1 + self.axes :])
        return shapes, jax.ShapeDtypeStruct(shape, self.dtype), lengths

    def steps(self, size: Sequence[int]) -> Steps:
        """Returns the `steps` of images of a size [*n]."""
        if self.grid is None:
            return ()
        return tuple(np.zeros(self.grid.steps(n), np.int8) for n in size)


def make_pipeline(network: Network, variables: Any, dtype: str = "") -> Pipeline:
    """Makes the prediction of a trained network.

    Args:
        network: The network.
        variables: Its {"params", "batch_stats"}.
        dtype: Of the network's convolutions, where that is other than in training.

    Returns:
        The prediction.
    """
    model, spec = network.model, network.spec
    if dtype:
        model = model.clone(dtype=dtype)
    flat = flatten_dict(jax.device_get(variables), sep="/")
    weights = {name: np.asarray(x) for name, x in sorted(flat.items())}
    how = network.loading.normalise
    fit = make_fit(network.loading, model)
    if isinstance(fit, Resize):
        grid, resized = None, fit.image_size
    else:
        grid, resized = canvas.make_grid(model, rounds=not fit.is_least), ()

    def apply(weights: Weights, image: jax.Array, steps: Steps) -> dict[str, jax.Array]:
        variables = {"batch_stats": {}, **unflatten_dict(dict(weights), sep="/")}
        read = _to_unit(image, how, spec) if how.is_of_image else image
        size = image.shape[1:-1]
        if grid is None:
            read = canvas.resize(read, resized)
            given = fit.reach.canvas(resized)
            lengths = fit.reach.read(given)
        else:
            lengths, given = (
                [grid.multiple * k.shape[0] + more for k in steps]
                for more in (grid.read, grid.given)
            )
        read = canvas.pad(read, given, lengths, fit.reach.mode)
        if not how.is_of_image:
            read = _to_unit(read, how, spec)
        logits: Any = model.apply(variables, standardise(read), train=False)
        if grid is None:
            logits = canvas.cut(logits, resized)
            own = jnp.stack([jnp.asarray(n, jnp.float32) for n in size])
            own = jnp.broadcast_to(own, (image.shape[0], len(size)))
            logits = resize_logits(logits, own, size)
        else:
            logits = canvas.cut(logits, size)
        task = network.task
        return {
            "label": task.mask(task.decide(logits)),
            "probability": task.probability(logits),
            "other_range": _other_range(image, how, spec),
        }

    kept = jax.dtypes.canonicalize_dtype(spec.dtype).name
    return Pipeline(apply, weights, kept, spec.axes, spec.channels, _least(model), grid)


def plain_forms() -> Any:
    """Makes what is traced inside take XLA's own form of every operation, whatever the platform."""
    return target.compiling_for(jax.devices()[:1], stand_for="any")


def _to_unit(image: jax.Array, how: Normalise, spec: Spec) -> jax.Array:
    """Brings images [B, *n, C] to black 0 and white 1."""
    if how.is_of_image:
        return ends.normalise(image, how)
    return to_unit(image, how.value_range(spec), cuts=how.cuts)


def _other_range(image: jax.Array, how: Normalise, spec: Spec) -> jax.Array:
    if how.is_of_image:  # images that tell their range themselves may have any
        return jnp.zeros(image.shape[:1], bool)
    black, white = how.value_range(spec)
    pair = float(np.min(black)), float(np.max(white))
    values = image.astype(jnp.float32)
    axes = tuple(range(1, image.ndim))
    is_float = jnp.issubdtype(image.dtype, jnp.floating)
    low, high = jnp.min(values, axes), jnp.max(values, axes)
    return is_other_range(low, high, pair, is_float=bool(is_float))


def _least(model: UNet) -> int:
    """Returns the fewest pixels along every axis that leave no normalisation a single value."""
    n = 1
    while True:
        try:
            model.check_not_dead("", (model.input_size(n)[0],) * model.dimensions)
        except UserError:
            n += 1
        else:
            return n
