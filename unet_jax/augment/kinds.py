"""What a step of the augmentation can be, and what it is told of the images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unet_jax.data.sample import Spec
from unet_jax.task import Task
from unet_jax.traced import Number, is_traced

Arrays = tuple[jax.Array, jax.Array, jax.Array]
_CHANCE = 0x70726F62  # folded into a step's key; steps split theirs, which folds in 0, 1, ...


class Given(NamedTuple):
    """What steps are checked against.

    Attributes:
        spec: Of the images.
        size: Pixels [*n] of a training image; () where they are not known.
        task: What their labels mean; None where it is not known.
        batch_size: B; 0 where it is not known.
    """

    spec: Spec
    size: tuple[int, ...] = ()
    task: Task | None = None
    batch_size: int = 0


class Spatial(NamedTuple):
    """A step that moves the pixels of one image, its label and its weight alike.

    Coordinates are in pixels with centres at i + 1/2.

    Attributes:
        move: (key, coordinates float32 [*n, axes]) -> coordinates, of places in the result those of
            the places in the input that they come from.
        direct: (key, image, label, weight) -> the three, moved: the same without a general
            resampling, for a step that has a faster or an exact way; None for one that has not.
        probability: Of an image to take the step.
    """

    move: Callable[[jax.Array, jax.Array], jax.Array]
    direct: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], Arrays] | None = None
    probability: Number = 1.0


class Sampling(NamedTuple):
    """How images are looked up between their pixels.

    Attributes:
        cubic: By cubic splines; otherwise linearly.
    """

    cubic: bool


class Intensity(NamedTuple):
    """A step that changes the values of one image.

    Attributes:
        change: (key, image float32 [*n, C] in [0, 1]) -> image of the same.
        probability: Of an image to take the step.
    """

    change: Callable[[jax.Array, jax.Array], jax.Array]
    probability: Number = 1.0


class Mix(NamedTuple):
    """A step that takes pixels from the image before it in the batch; the first one's is the last.

    Attributes:
        choose: (key, the other's label int [*n] or [*n, L], its weight float32 [*n]) -> bool [*n],
            the pixels that are taken.
        probability: Of an image to take the step.
    """

    choose: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    probability: Number = 1.0


Part = Spatial | Sampling | Intensity | Mix
"""What the function of a step makes."""


def perhaps(probability: Number, key: jax.Array, taken: Any, left: Any) -> Any:
    """Takes a step by chance.

    Args:
        probability: Of the step.
        key: The step's, whose draws do not depend on the probability.
        taken: Arrays after the step.
        left: The same before it.

    Returns:
        The ones or the others; those after it, without a draw, where the probability is 1.
    """
    if not is_traced(probability) and probability == 1:
        return taken
    takes = jax.random.bernoulli(jax.random.fold_in(key, _CHANCE), probability)
    return jax.tree.map(lambda new, old: jnp.where(takes, new, old), taken, left)
