"""Durations as people write them ("30 epochs", "10%", "5000 steps", 5000), turned into steps."""

import math
import re
from typing import NamedTuple

from unet_jax.config import check_range
from unet_jax.errors import UserError

MOST_STEPS = 2**31 - 1  # what the state counts to
MOST_SEED = 2**32 - 1  # beyond it, random keys begin again
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?(?:[eE]\d+)?)\s*(steps?|epochs?|%)?\s*")


def to_steps(
    duration: str | int, *, key: str, epoch_steps: float, total_steps: int | None = None
) -> int:
    """Turns a duration into a number of optimiser steps.

    Args:
        duration: "30 epochs", "10%" (of the whole run), "5000 steps", "5000" or 5000.
        key: The config key that holds it, for error messages.
        epoch_steps: Steps in one epoch: training pictures / batch size, not rounded.
        total_steps: Steps in the whole run; None where a share of it makes no sense.

    Returns:
        Steps, rounded up, so that "1 epoch" sees every picture; at least 1 unless the number is 0.

    Raises:
        UserError: The text is no duration, a percentage stands where it has no meaning or is above
            100, or no run can be that long.
    """
    match = _DURATION.fullmatch(str(duration))
    allowed = '"30 epochs", "5000 steps", "5000"' + (', "10%"' if total_steps is not None else "")
    if match is None:
        raise UserError(f"{key}={duration!r} is no duration. Write it as one of {allowed}.")
    number, unit = float(match[1]), match[2] or "steps"
    if unit == "%" and total_steps is None:
        raise UserError(f"{key}={duration!r}: a share needs a whole. Write it as one of {allowed}.")
    if unit == "%" and number > 100:
        raise UserError(f"{key}={duration!r} is more than the whole run; use 100% or less.")
    per_unit = {"%": (total_steps or 0) / 100, "epoch": epoch_steps, "step": 1.0}
    steps = number * per_unit[unit.rstrip("s")]
    if steps > MOST_STEPS:
        raise UserError(f"{key}={duration!r} is more than the {MOST_STEPS:,} steps of any run.")
    # The tolerance keeps 30 * (n / B) from being rounded up by floating-point dust.
    return max(math.ceil(steps - 1e-6), math.ceil(min(number, 1)))


class Plan(NamedTuple):
    """The train section of a config, in steps; see `make_plan`."""

    total: int
    epoch_steps: float
    batch_size: int
    seed: int
    eval_every: int
    checkpoint_every: int
    log_every: int


def make_plan(
    duration: str = "30 epochs",
    batch_size: int = 32,
    seed: int = 0,
    eval_every: str = "10%",
    checkpoint_every: str = "10%",
    log_every: str = "20 steps",
    *,
    pictures: int,
) -> Plan:
    """Turns the durations of a config into steps.

    Args:
        duration: Length of the run: steps or epochs.
        batch_size: B, over all devices.
        seed: Of initialisation, order and augmentation; below 2^32.
        eval_every: Duration between evaluations; also percent, and 0 for none but that of the last
            step, which is always evaluated.
        checkpoint_every: Likewise between checkpoints. Every evaluation saves one.
        log_every: Likewise between lines of scalars.
        pictures: Training images in an epoch, one for every crop.

    Returns:
        The plan.

    Raises:
        UserError: A duration cannot be read, or a number is out of range.
    """
    check_range("config.train.batch_size", batch_size, 1)
    check_range("config.train.seed", seed, 0, MOST_SEED)
    epoch_steps = pictures / batch_size
    total = to_steps(duration, key="config.train.duration", epoch_steps=epoch_steps)
    if total < 1:
        raise UserError(f"config.train.duration={duration!r} must be at least one step.")
    every = {"eval_every": eval_every, "checkpoint_every": checkpoint_every, "log_every": log_every}
    lengths = {"epoch_steps": epoch_steps, "total_steps": total}
    # Every 0 steps is never, but at the end.
    steps = {
        name: to_steps(value, key=f"config.train.{name}", **lengths) or total
        for name, value in every.items()
    }
    return Plan(total, epoch_steps, batch_size, seed, **steps)
