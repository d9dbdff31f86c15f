"""Averages of parameters, which evaluation uses in the place of the last ones."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from optax.contrib import ScheduleFreeState

from unet_jax.traced import Number

Move = Callable[[Any, Any, Any, jax.Array], Any]
"""(average, parameters after an update, the optimiser's state after it, int32 how many updates came
before it) -> the average after it."""


def exponential(decay: Number) -> Move:
    """Makes an exponential moving average.

    After update t, from 0, it is d average + (1 - d) parameters with d = min(decay, (1 + t) /
    (10 + t)), so that early averages are not held back by the initial parameters.

    Args:
        decay: Of the average, in [0, 1).

    Returns:
        How it moves.
    """

    def move(average: Any, params: Any, state: Any, update: jax.Array) -> Any:
        del state
        share = 1 - jnp.minimum(decay, (1.0 + update) / (10.0 + update))
        return optax.incremental_update(params, average, share)

    return move


def uniform(start: int) -> Move:
    """Makes the mean of the parameters of all updates from one on (Izmailov et al., 2018, SWA).

    Their method computes the running statistics of batch normalisation anew for the mean; here
    they are those of the last parameters, as with the other averages.

    Args:
        start: Updates before the first one that counts; until then it is the last parameters.

    Returns:
        How it moves.
    """

    def move(average: Any, params: Any, state: Any, update: jax.Array) -> Any:
        del state
        share = 1.0 / jnp.maximum(update - start + 1, 1)
        return optax.incremental_update(params, average, share)

    return move


def schedule_free() -> Move:
    """Makes the sequence x of an optimiser without a schedule, whose parameters are its y.

    Defazio et al., 2024, eq. 3 to 5: y = (1 - b) z + b x, of which the state keeps z and b.

    Returns:
        How it moves; a part of the optimiser's state must be `optax.contrib.schedule_free`'s.
    """

    def move(average: Any, params: Any, state: Any, update: jax.Array) -> Any:
        del average, update
        own = next(part for part in state if isinstance(part, ScheduleFreeState))
        x = optax.contrib.schedule_free_eval_params(own, params)
        # Where y is z so is x, also where its equation rounds.
        return jax.tree.map(lambda x, y, z: jnp.where(y == z, y, x), x, params, own.z)

    return move
