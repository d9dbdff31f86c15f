"""Optimisers and learning-rate schedules, from optax."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.steps import MOST_STEPS, to_steps
from unet_jax.traced import is_on, is_traced


def make_schedule(
    kind: str, learning_rate: float, warmup_steps: int, total_steps: int
) -> optax.Schedule:
    """A linear warm-up from 0, then a decay to 0 at the last step.

    Args:
        kind: "cosine" (Loshchilov & Hutter, 2017), "polynomial" with power 0.9 (Chen et al., 2017,
            "poly"), or "constant".
        learning_rate: The peak.
        warmup_steps: Steps of warm-up.
        total_steps: Steps of the whole run.

    Returns:
        A function from step to learning rate.

    Raises:
        UserError: The kind is unknown.
    """
    rest = max(1, total_steps - warmup_steps)
    decays = {
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, rest),
        "polynomial": lambda: optax.polynomial_schedule(learning_rate, 0.0, 0.9, rest),
        "constant": lambda: optax.constant_schedule(learning_rate),
    }
    decay = choose(decays, "config.optim.schedule", kind)()
    warmup = optax.linear_schedule(0.0, learning_rate, max(1, warmup_steps))
    return optax.join_schedules([warmup, decay], [warmup_steps])


class EmaState(NamedTuple):
    """State of `track_ema`: the number of updates and the averaged parameters."""

    count: jax.Array
    ema: Any


def track_ema(decay: float) -> optax.GradientTransformation:
    """Keeps an exponential moving average of the parameters; the updates pass unchanged.

    ema_t = d ema_{t-1} + (1 - d) params_t with d = min(decay, (1 + t) / (10 + t)), so that early
    averages are not held back by the initial parameters. It comes last in a chain, where the
    updates are those that are applied.

    Args:
        decay: In [0, 1).

    Returns:
        The transformation, with an `EmaState`.
    """

    def init(params: Any) -> EmaState:
        return EmaState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: Any, state: EmaState, params: Any = None) -> tuple[Any, EmaState]:
        d = jnp.minimum(decay, (1.0 + state.count) / (10.0 + state.count))
        new_params = optax.apply_updates(params, updates)
        ema = optax.incremental_update(new_params, state.ema, 1 - d)
        return updates, EmaState(state.count + 1, ema)

    return optax.GradientTransformation(init, update)  # pyrefly: ignore[bad-argument-type]


def averaged_params(params: Any, opt_state: Any) -> Any:
    """Returns the averaged parameters where the optimiser keeps them, else the parameters.

    Args:
        params: The current parameters.
        opt_state: State of an optimiser of `make_optimizer`.

    Returns:
        The parameters to evaluate with.
    """
    return optax.tree.get(opt_state, "ema", default=params)


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


@dataclasses.dataclass(frozen=True)
class Accumulation:
    """An optimiser of gradients that come head by head, with a weight each.

    Attributes:
        init: params -> state.
        update: (gradients of H heads, H weights, state, params) -> (updates, state).
    """

    init: Callable[[Any], GroupState]
    update: Callable[[Sequence[Any], Sequence[jax.Array], GroupState, Any], tuple[Any, GroupState]]


Optimizer = optax.GradientTransformation | Accumulation


def accumulate_gradients(
    optimizer: optax.GradientTransformation, every: int, total: int, heads: int
) -> Accumulation:
    """Makes one update of the gradients of several batches, that of the one large batch.

    The group's gradient is the sum over heads h of sum_b w_hb g_hb / sum_b w_hb, where g_hb is what
    head h adds to the gradient of batch b, and w_hb the mean weight of its pixels, by whose sum its
    cross-entropy was divided. So pixels count alike wherever they are in the group, also where
    batches have different numbers of ignored pixels. Each head needs a sum of its own, as big as
    the parameters, and a backward pass, since nothing ties its weights to another's.

    The batches of the run that are left after its last whole group make an update as well.

    Args:
        optimizer: Takes the groups' gradients.
        every: Batches in a group.
        total: Batches of the whole run.
        heads: H.

    Returns:
        The optimiser; its updates are 0 but after a group's last batch.
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

    return Accumulation(init, update)


def _divide(tree: Any, divisor: jax.Array) -> Any:
    return jax.tree.map(lambda x: x / divisor, tree)


def make_optimizer(
    name: str = "adamw",
    learning_rate: float = 1e-3,
    schedule: str = "cosine",
    warmup: str = "5%",
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    clip_norm: float = 1.0,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    *,
    total_steps: int,
    epoch_steps: float,
    heads: int = 1,
) -> tuple[Optimizer, optax.Schedule]:
    """Makes the optimiser of a config.

    With `accumulate`, an update equals that of one batch of all the group's images for
    cross-entropy, whatever pixels and classes weigh; see `accumulate_gradients`. Two things are
    not those of the large batch: soft Dice, a ratio of sums over a batch, is that of each batch,
    weighted like the batch's cross-entropy; and batch statistics are those of each batch.

    Args:
        name: "adamw" (Loshchilov & Hutter, 2019) or "sgd" with Nesterov momentum.
        learning_rate: The peak learning rate.
        schedule: "cosine", "polynomial" or "constant", after the warm-up.
        warmup: Duration of the linear warm-up: steps, epochs or percent. It ends before the last
            update, whose learning rate is then above 0.
        momentum: Momentum of SGD, and the first beta of AdamW; in [0, 1).
        weight_decay: Decoupled decay per step, times the learning rate; applied to kernels alone,
            not to biases and normalisation parameters.
        clip_norm: Largest global norm of the gradients; 0.0 for no limit.
        accumulate: Batches that make one update together; the run's last batches make one too where
            they are fewer. Schedules count updates.
        ema_decay: Decay of the moving average of the parameters used in evaluation; 0.0 for none.
        total_steps: Steps (batches) of the whole run.
        epoch_steps: Steps of one epoch.
        heads: Of the model in training; see `UNet.heads`.

    Returns:
        The optimiser, an `Accumulation` where it accumulates, and the schedule as a function of the
        step (batch) for logging.

    Raises:
        UserError: A value is not among what is allowed.
    """
    _check_numbers(
        learning_rate=(learning_rate, lambda x: x > 0, "above 0"),
        momentum=(momentum, lambda x: 0 <= x < 1, "in [0, 1)"),
        weight_decay=(weight_decay, lambda x: x >= 0, "0 or more"),
        clip_norm=(clip_norm, lambda x: x >= 0, "0 or more; 0.0 is for no limit"),
        accumulate=(accumulate, lambda x: 1 <= x <= MOST_STEPS, f"from 1 to {MOST_STEPS}"),
        ema_decay=(ema_decay, lambda x: 0 <= x < 1, "in [0, 1)"),
    )
    warmup_steps = to_steps(
        warmup, key="config.optim.warmup", epoch_steps=epoch_steps, total_steps=total_steps
    )
    if warmup_steps > total_steps:
        raise UserError(
            f"config.optim.warmup={warmup!r} is {warmup_steps} steps, and the run has "
            f"{total_steps}; shorten it, or train for longer (config.train.duration)."
        )
    updates = -(-total_steps // accumulate)
    warmup_updates = min(-(-warmup_steps // accumulate), updates - 1)
    rate = make_schedule(schedule, learning_rate, warmup_updates, updates)

    def is_kernel(params: Any) -> Any:
        return jax.tree.map(lambda p: p.ndim > 1, params)

    adamw = optax.adamw(rate, b1=momentum, weight_decay=weight_decay, mask=is_kernel)
    sgd = optax.chain(
        optax.trace(momentum, nesterov=True),
        optax.add_decayed_weights(weight_decay, is_kernel),
        optax.scale_by_learning_rate(rate),
    )
    chain = [optax.clip_by_global_norm(clip_norm)] if is_on(clip_norm) else []
    chain.append(choose({"adamw": adamw, "sgd": sgd}, "config.optim.name", name))
    if is_on(ema_decay):
        chain.append(track_ema(ema_decay))
    optimizer: Any = optax.chain(*chain)
    if accumulate > 1:
        optimizer = accumulate_gradients(optimizer, accumulate, total_steps, heads)
    return optimizer, lambda step: rate(jnp.asarray(step) // accumulate)


def _check_numbers(**checks: tuple[Any, Callable[[Any], bool], str]) -> None:
    """Checks (value, what must hold of it, that in words), by key of the config section."""
    for name, (value, holds, allowed) in checks.items():
        if not is_traced(value) and not holds(value):
            raise UserError(f"config.optim.{name}={value} must be {allowed}.")
