"""One update of the gradients of several batches."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class GroupState(NamedTuple):
    """State of `accumulate_gradients`, of which a run that goes on inside a group needs all.

    Attributes:
        count: int32, batches so far.
        gradients: Per head, the group's sum of a batch's weight times its gradient.
        weights: float32 [H], the group's sums of weights.
        inner: State of the optimiser that takes the groups' gradients.
    """

    count: jax.Array
    gradients: tuple[Any, ...]
    weights: jax.Array
    inner: Any


def accumulate_gradients(
    optimizer: optax.GradientTransformation, every: int, total: int, heads: int
) -> tuple[Callable[[Any], GroupState], Callable[..., tuple[Any, GroupState]]]:
    """Makes one update of the gradients of several batches, that of the one large batch.

    The group's gradient is the sum over parts h of sum_b w_hb g_hb / sum_b w_hb, where g_hb is what
    part h adds to the gradient of batch b, and w_hb the mean weight of its pixels, by whose sum its
    means were divided. So pixels count alike wherever they are in the group, also where batches
    have different numbers of ignored pixels. A part is a head of the model, or of a head those
    terms of the loss that weigh pixels alike; see `losses.make.Part`. Each needs a sum of its own,
    as big as the parameters, and a backward pass, since nothing ties its weights to another's.

    The batches of the run that are left after its last whole group make an update as well.

    Args:
        optimizer: Takes the groups' gradients.
        every: Batches in a group.
        total: Batches of the whole run.
        heads: H, of the parts.

    Returns:
        init(params) -> state, and update(gradients of H heads, H weights, state, params) ->
        (updates, state); the updates are 0 but after a group's last batch.
    """

    def begin(params: Any) -> tuple[tuple[Any, ...], jax.Array]:
        sums = tuple(optax.tree.zeros_like(params) for _ in range(heads))
        return sums, jnp.zeros(heads, jnp.float32)

    def init(params: Any) -> GroupState:
        return GroupState(jnp.zeros((), jnp.int32), *begin(params), optimizer.init(params))

    def update(
        gradients: Sequence[Any], weights: Sequence[jax.Array], state: GroupState, params: Any
    ) -> tuple[Any, GroupState]:
        sums = tuple(map(optax.tree.add_scale, state.gradients, weights, gradients))
        count, weight_sums = state.count + 1, state.weights + jnp.stack(weights)

        def apply() -> tuple[Any, GroupState]:
            # Where no pixel counts the sums are 0 as well, and so is the gradient.
            divisors = jnp.maximum(weight_sums, jnp.finfo(jnp.float32).tiny)
            gradient = functools.reduce(optax.tree.add, map(_divide, sums, divisors))
            updates, inner = optimizer.update(gradient, state.inner, params)
            return updates, GroupState(count, *begin(params), inner)

        def wait() -> tuple[Any, GroupState]:
            return optax.tree.zeros_like(params), GroupState(count, sums, weight_sums, state.inner)

        return jax.lax.cond((count % every == 0) | (count == total), apply, wait)

    return init, update


def _divide(tree: Any, divisor: jax.Array) -> Any:
    return jax.tree.map(lambda x: x / divisor, tree)
