"""Learning-rate schedules."""

import optax

from unet_jax.config import choose
from unet_jax.durations import to_steps
from unet_jax.errors import UserError


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
