"""The optimiser of a config, from optax."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from unet_jax.config import choose
from unet_jax.durations import MOST_STEPS, to_horizon, to_steps
from unet_jax.errors import UserError
from unet_jax.optim.accumulate import accumulate_gradients
from unet_jax.optim.average import Move, exponential, schedule_free, uniform
from unet_jax.optim.rates import Rates, check_rates, scale_by_part
from unet_jax.optim.schedule import count_warmup, make_schedule
from unet_jax.traced import Number, Switch, is_on

SCHEDULE_FREE = "schedule_free_adamw"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimiser with its schedule, and the average of parameters that evaluation uses.

    Attributes:
        init: init(params) -> the optimiser's state.
        update: update(gradient, state, params) -> (updates, state); where it accumulates,
            update(gradients of H heads, H weights, state, params), see `accumulate_gradients`.
        schedule: schedule(step) -> the learning rate of that step.
        move: How the average of parameters moves; None where there is none.
        accumulate: Steps (batches) that make one update.
        total_steps: Steps of the whole run.
        updates: Of the horizon.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]
    schedule: optax.Schedule
    move: Move | None
    accumulate: int
    total_steps: int
    updates: int

    def share(self, step: jax.Array) -> jax.Array:
        """Returns how far a step's update is, from 0, the horizon's first, to 1, its last."""
        done = jnp.asarray(step) // self.accumulate
        return jnp.minimum(done / max(1, self.updates - 1), 1.0)

    def begin_average(self, params: Any) -> Any:
        """Returns the average of the initial parameters; {} where none is kept."""
        return jax.tree.map(jnp.copy, params) if self.move else {}

    def average(self, average: Any, params: Any, state: Any, step: jax.Array) -> Any:
        """Moves the average of parameters towards those after a step; between updates it stays.

        Args:
            average: Before the step; {} where none is kept.
            params: The parameters after the step.
            state: The optimiser's state after it.
            step: int32, steps taken before it.

        Returns:
            The average after the step.
        """
        move = self.move
        if move is None:
            return average
        if self.accumulate == 1:
            return move(average, params, state, step)
        count = step + 1
        ends_group = (count % self.accumulate == 0) | (count == self.total_steps)
        update = step // self.accumulate
        return jax.lax.cond(
            ends_group, lambda: move(average, params, state.inner, update), lambda: average
        )


def check_optimizer(values: Mapping[str, Any]) -> None:
    """Checks the values of a config's optim section that need no other to be checked with.

    Args:
        values: Arguments of `make_optimizer`, by name.

    Raises:
        UserError: A number is out of range, or values do not go together.
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
    check_rates(values["rates"])
    if values["swa_from"] and values["ema_decay"]:
        raise UserError(
            f"config.optim.swa_from={values['swa_from']!r} and "
            f"config.optim.ema_decay={values['ema_decay']} are two averages of the parameters, and "
            'evaluation uses one: set swa_from to "" or ema_decay to 0.0.'
        )
    if values["name"] == SCHEDULE_FREE:
        _check_schedule_free(values)


def _check_schedule_free(values: Mapping[str, Any]) -> None:
    wanted = {"schedule": "constant", "swa_from": "", "ema_decay": 0.0}
    wrong = [f"config.optim.{name}={value!r}" for name, value in wanted.items()]
    wrong = [each for each, name in zip(wrong, wanted, strict=True) if values[name] != wanted[name]]
    wrong += ["config.optim.momentum above 0"] if not values["momentum"] else []
    if wrong:
        raise UserError(
            f"config.optim.name={SCHEDULE_FREE!r} has no schedule but the warm-up, and averages "
            f"the parameters itself: set {' and '.join(wrong)}."
        )


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
    swa_from: str = "",
    rates: tuple[tuple[str, float], ...] = (),
    horizon: str = "",
    *,
    total_steps: int,
    epoch_steps: float,
    heads: int = 1,
    frozen: Sequence[str] = (),
) -> Optimizer:
    """Makes the optimiser of a config.

    With `accumulate`, an update equals that of one batch of all the group's images for terms of the
    loss that are means over pixels (cross-entropy without top_k, binary cross-entropy, focal,
    boundary), whatever pixels and classes weigh; see `accumulate_gradients`. Two things are not
    those of the large batch, and the header of a run names them: all other terms, ratios of sums
    over a batch or ranks in it, are those of each batch, weighted like its pixels; and batch
    statistics are those of each batch.

    Args:
        name: "adamw" (Loshchilov & Hutter, 2019), "sgd" with Nesterov momentum, "lion" (Chen et
            al., 2023), which wants a learning rate 3 to 10 times smaller and a weight decay as much
            larger, or "schedule_free_adamw" (Defazio et al., 2024), which averages the parameters
            itself and wants schedule="constant".
        learning_rate: The peak learning rate.
        schedule: "cosine", "polynomial" or "constant", after the warm-up.
        warmup: Duration of the linear warm-up: steps, epochs or percent of the horizon. It ends
            before the horizon's last update, whose learning rate is then above 0.
        momentum: Momentum of SGD, the first beta of AdamW and of Lion, and what schedule-free
            AdamW has in its place; in [0, 1).
        weight_decay: Decoupled decay per step, times the learning rate; applied to kernels alone,
            not to biases and normalisation parameters.
        clip_norm: Largest global norm of the gradients; 0.0 for no limit.
        accumulate: Batches that make one update together; the run's last batches make one too where
            they are fewer. Schedules count updates.
        ema_decay: Decay of the exponential moving average of the parameters, which evaluation then
            uses; 0.0 for none. See `average.exponential`.
        swa_from: Duration after which the mean of the parameters of all updates begins, which
            evaluation then uses: steps, epochs or percent of the horizon; "" for none. See
            `average.uniform`.
        rates: Factors of the learning rate of parts of the model, such as (("encoder*", 0.1),
            ("head", 10.0)): a pattern of the name of a module or parameter, and its factor. The
            first pattern that names a parameter counts; the others have 1.
        horizon: Duration from which the schedule and every percentage of a config are taken, also
            those of the train section: steps or epochs, as many as the run's at least; "" is the
            run's own. A run of a horizon can be made longer afterwards, up to it.
        total_steps: Steps (batches) of the whole run.
        epoch_steps: Steps of one epoch.
        heads: Of the model in training, see `UNet.heads`, times the parts of the loss.
        frozen: Patterns of the parts that stay as they are, whatever their rates.

    Returns:
        The optimiser.

    Raises:
        UserError: A name is unknown, or a duration does not fit.
    """
    length = to_horizon(horizon, total=total_steps, epoch_steps=epoch_steps)
    updates = -(-length // accumulate)
    warmup_updates = count_warmup(warmup, accumulate, length, epoch_steps)
    rate = make_schedule(schedule, learning_rate, warmup_updates, updates)
    stays = tuple((pattern, 0.0) for pattern in frozen)
    chain = [optax.clip_by_global_norm(clip_norm)] if is_on(clip_norm) else []
    chain += _make_named(name, rate, momentum, weight_decay, (*stays, *rates))
    if stays:  # also where a schedule-free optimiser rounds
        chain.append(scale_by_part(stays))
    init, update = optimizer = optax.chain(*chain)
    if accumulate > 1:
        init, update = accumulate_gradients(optimizer, accumulate, total_steps, heads)
    move = exponential(ema_decay) if is_on(ema_decay) else None
    if swa_from:
        key = "config.optim.swa_from"
        steps = to_steps(swa_from, key=key, epoch_steps=epoch_steps, total_steps=length)
        move = uniform(-(-steps // accumulate))
    return Optimizer(
        init=init,
        update=update,
        schedule=lambda step: rate(jnp.asarray(step) // accumulate),
        move=schedule_free() if name == SCHEDULE_FREE else move,
        accumulate=accumulate,
        total_steps=total_steps,
        updates=updates,
    )


def _make_named(
    name: str, rate: optax.Schedule, momentum: Number, weight_decay: Number, rates: Rates
) -> list[optax.GradientTransformation]:
    """Makes the optimiser of a name, as parts of a chain; see `make_optimizer`."""

    def is_kernel(params: Any) -> Any:
        return jax.tree.map(lambda p: p.ndim > 1, params)

    decay = {"weight_decay": weight_decay, "mask": is_kernel}
    parts = [scale_by_part(rates)] if rates else []

    def sgd() -> list[optax.GradientTransformation]:
        chain = optax.chain(
            optax.trace(momentum, nesterov=True),
            optax.add_decayed_weights(weight_decay, is_kernel),
            optax.scale_by_learning_rate(rate),
        )
        return [chain, *parts]

    def free() -> list[optax.GradientTransformation]:
        base = optax.chain(optax.adamw(rate, b1=0.0, **decay), *parts)
        return [optax.contrib.schedule_free(base, rate, b1=momentum)]

    makers: dict[str, Callable[[], list[optax.GradientTransformation]]] = {
        "adamw": lambda: [optax.adamw(rate, b1=momentum, **decay), *parts],
        "sgd": sgd,
        "lion": lambda: [optax.lion(rate, b1=momentum, **decay), *parts],
        SCHEDULE_FREE: free,
    }
    return choose(makers, "config.optim.name", name)()
