"""Optimisers and learning-rate schedules, from optax."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.steps import to_steps
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
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Makes the optimiser of a config.

    Args:
        name: "adamw" (Loshchilov & Hutter, 2019) or "sgd" with Nesterov momentum.
        learning_rate: The peak learning rate.
        schedule: "cosine", "polynomial" or "constant", after the warm-up.
        warmup: Duration of the linear warm-up: steps, epochs or percent.
        momentum: Momentum of SGD, and the first beta of AdamW.
        weight_decay: Decoupled decay per step, times the learning rate; applied to kernels alone,
            not to biases and normalisation parameters.
        clip_norm: Largest global norm of the gradients; 0.0 for no limit.
        accumulate: Batches whose gradients are averaged for one update.
        ema_decay: Decay of the moving average of the parameters used in evaluation; 0.0 for none.
        total_steps: Steps (batches) of the whole run.
        epoch_steps: Steps of one epoch.

    Returns:
        The optimiser, and the schedule as a function of the step (batch) for logging.

    Raises:
        UserError: A value is not among what is allowed.
    """
    if not is_traced(learning_rate) and learning_rate <= 0:
        raise UserError(f"config.optim.learning_rate={learning_rate} must be above 0.")
    if accumulate < 1:
        raise UserError(f"config.optim.accumulate={accumulate} must be 1 or more.")
    if not is_traced(ema_decay) and not 0 <= ema_decay < 1:
        raise UserError(f"config.optim.ema_decay={ema_decay} must be in [0, 1).")
    warmup_steps = to_steps(
        warmup, key="config.optim.warmup", epoch_steps=epoch_steps, total_steps=total_steps
    )
    rate = make_schedule(
        schedule, learning_rate, warmup_steps // accumulate, max(1, total_steps // accumulate)
    )

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
    optimizer = optax.chain(*chain)
    if accumulate > 1:
        optimizer = optax.MultiSteps(optimizer, accumulate).gradient_transformation()
    return optimizer, lambda step: rate(jnp.asarray(step) // accumulate)
