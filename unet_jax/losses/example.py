"""What a term of the loss is computed from."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax

from unet_jax.task import Task


class Example(NamedTuple):
    """A batch of one head.

    Attributes:
        logits: float32 [..., K].
        label: int [...], or [..., K] of 0 and 1 by class; valid everywhere, also where the weight
            is 0.
        weight: float32 [...], of the pixels, >= 0; 0 for those to ignore.
        task: What the label means.
        extras: Maps that some terms need, by name: float32 [...], or [..., channels]; see `Term`.
    """

    logits: jax.Array
    label: jax.Array
    weight: jax.Array
    task: Task
    extras: Mapping[str, jax.Array] = MappingProxyType({})
