"""Optimisers and learning-rate schedules, from optax."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from unet_jax.config import choose
from unet_jax.durations import MOST_STEPS, to_horizon, to_steps
from unet_jax.errors import UserError
from unet_jax.traced import Number, Switch, is_on


def make_schedule(
    kind: str, learning_rate: float, warmup_steps: int, total_steps: int
) -> optax.Schedule:
    """A linear warm-up from 0, then a decay to 0 at the horizon.

    Args:
        kind: "cosine" (Loshchilov & Hutter, 2017), "polynomial" with power 0.9 (Chen et al., 2017,
            "poly"), or "constant".
        learning_rate: The peak.
        warmup_steps: Steps of warm-up.
        total_steps: Steps to the horizon.

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


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimiser with its schedule, and the average of parameters that evaluation uses.

    Attributes:
        init: init(params) -> the optimiser's state.
        update: update(gradient, state, params) -> (updates, state); where it accumulates,
            update(gradients of H heads, H weights, state, params), see `accumulate_gradients`.
        schedule: schedule(step) -> the learning rate of that step.
        ema_decay: Decay of the moving average of parameters.
        averages: Whether there is such an average.
        accumulate: Steps (batches) that make one update.
        total_steps: Steps of the whole run.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]
    schedule: optax.Schedule
    ema_decay: float
    averages: bool
    accumulate: int
    total_steps: int

    def begin_average(self, params: Any) -> Any:
        """Returns the average of the initial parameters; {} where none is kept."""
        return jax.tree.map(jnp.copy, params) if self.averages else {}

    def average(self, average: Any, params: Any, step: jax.Array) -> Any:
        """Moves the average of parameters towards those after a step.

        After update t, from 0, the exponential moving average is d average + (1 - d) params with
        d = min(ema_decay, (1 + t) / (10 + t)), so that early averages are not held back by the
        initial parameters. Between updates it stays.

        Args:
            average: Before the step; {} where none is kept.
            params: The parameters after the step.
            step: int32, steps taken before it.

        Returns:
            The average after the step.
        """
        if not self.averages:
            return average
        update = step // self.accumulate
        decay = jnp.minimum(self.ema_decay, (1.0 + update) / (10.0 + update))

        def move() -> Any:
            return optax.incremental_update(params, average, 1 - decay)

        if self.accumulate == 1:
            return move()
        return jax.lax.cond(self._ends_group(step + 1), move, lambda: average)

    def _ends_group(self, count: jax.Array) -> jax.Array:
        return (count % self.accumulate == 0) | (count == self.total_steps)


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


def check_optimizer(values: Mapping[str, Any]) -> None:
    """Checks the numbers of a config's optim section.

    Args:
        values: Arguments of `make_optimizer`, by name.

    Raises:
        UserError: A number is out of range.
    """
    ranges = {
        "learning_rate": (values["learning_rate"] > 0, "above 0"),
        "momentum": (0 <= values["momentum"] < 1, "in [0, 1)"),
        "weight_decay": (values["weight_decay"] >= 0, "0 or more"),
        "clip_norm": (values["clip_norm"] >= 0, "0 or more; 0.0 is for no limit"),
        "accumulate": (1 <= values["accumulate"] <= MOST_STEPS, f"from 1 to {MOST_STEPS}"),
        "ema_decay": (0 <= values["ema_decay"] < 1, "in [0, 1)"),
    }
    for name, (holds, allowed) in ranges.items():
        if not holds:
            raise UserError(f"config.optim.{name}={values[name]} must be {allowed}.")


def make_optimizer(
    name: str = "adamw",
    learning_rate: Number = 1e-3,
    schedule: str = "cosine",
    warmup: str = "5%",
    momentum: Number = 0.9,
    weight_decay: Number = 1e-4,
    clip_norm: Switch = 1.0,
    accumulate: int = 1,
    ema_decay: Switch = 0.0,
    horizon: str = "",
    *,
    total_steps: int,
    epoch_steps: float,
    heads: int = 1,
) -> Optimizer:
    """Makes the optimiser of a config.

    With `accumulate`, an update equals that of one batch of all the group's images for terms of the
    loss that are means over pixels (cross-entropy without top_k, binary cross-entropy, focal,
    boundary), whatever pixels and classes weigh; see `accumulate_gradients`. Two things are not
    those of the large batch, and the header of a run names them: all other terms, ratios of sums
    over a batch or ranks in it, are those of each batch, weighted like its pixels; and batch
    statistics are those of each batch.

    Args:
        name: "adamw" (Loshchilov & Hutter, 2019) or "sgd" with Nesterov momentum.
        learning_rate: The peak learning rate.
        schedule: "cosine", "polynomial" or "constant", after the warm-up.
        warmup: Duration of the linear warm-up: steps, epochs or percent of the horizon. It ends
            before the horizon's last update, whose learning rate is then above 0.
        momentum: Momentum of SGD, and the first beta of AdamW; in [0, 1).
        weight_decay: Decoupled decay per step, times the learning rate; applied to kernels alone,
            not to biases and normalisation parameters.
        clip_norm: Largest global norm of the gradients; 0.0 for no limit.
        accumulate: Batches that make one update together; the run's last batches make one too where
            they are fewer. Schedules count updates.
        ema_decay: Decay of the moving average of the parameters used in evaluation; 0.0 for none.
        horizon: Duration from which the schedule and every percentage of a config are taken, also
            those of the train section: steps or epochs, as many as the run's at least; "" is the
            run's own. A run of a horizon can be made longer afterwards, up to it.
        total_steps: Steps (batches) of the whole run.
        epoch_steps: Steps of one epoch.
        heads: Of the model in training, see `UNet.heads`, times the parts of the loss.

    Returns:
        The optimiser.

    Raises:
        UserError: A name is unknown, or a duration does not fit.
    """
    length = to_horizon(horizon, total=total_steps, epoch_steps=epoch_steps)
    updates = -(-length // accumulate)
    warmup_updates = count_warmup(warmup, accumulate, length, epoch_steps)
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
    init, update = optimizer = optax.chain(*chain)
    if accumulate > 1:
        init, update = accumulate_gradients(optimizer, accumulate, total_steps, heads)
    return Optimizer(
        init=init,
        update=update,
        schedule=lambda step: rate(jnp.asarray(step) // accumulate),
        ema_decay=ema_decay,
        averages=is_on(ema_decay),
        accumulate=accumulate,
        total_steps=total_steps,
    )


def count_warmup(warmup: str, accumulate: int, length: int, epoch_steps: float) -> int:
    """Counts the updates of the warm-up.

    Args:
        warmup: Duration of the warm-up; see `make_optimizer`.
        accumulate: Batches that make an update together.
        length: Steps to the horizon.
        epoch_steps: Steps of one epoch.

    Returns:
        The updates, all but the last one at most.

    Raises:
        UserError: It is no duration, or longer than there are steps.
    """
    key = "config.optim.warmup"
    steps = to_steps(warmup, key=key, epoch_steps=epoch_steps, total_steps=length)
    if steps > length:
        raise UserError(
            f"{key}={warmup!r} is {steps} steps, and the run has {length}; shorten it, or train "
            "for longer (config.train.duration)."
        )
    return min(-(-steps // accumulate), -(-length // accumulate) - 1)
