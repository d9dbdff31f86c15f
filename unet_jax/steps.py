"""Durations as people write them ("30 epochs", "10%", "5000 steps", 5000), turned into steps."""

import math
import re
from typing import NamedTuple

from unet_jax.errors import UserError

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
        UserError: The text is no duration, or a percentage stands where it has no meaning.
    """
    match = _DURATION.fullmatch(str(duration))
    allowed = '"30 epochs", "5000 steps", "5000"' + (', "10%"' if total_steps is not None else "")
    if match is None:
        raise UserError(f"{key}={duration!r} is no duration. Write it as one of {allowed}.")
    number, unit = float(match[1]), match[2] or "steps"
    if unit == "%" and total_steps is None:
        raise UserError(f"{key}={duration!r}: a share needs a whole. Write it as one of {allowed}.")
    per_unit = {"%": (total_steps or 0) / 100, "epoch": epoch_steps, "step": 1.0}
    # The tolerance keeps 30 * (n / B) from being rounded up by floating-point dust.
    return math.ceil(number * per_unit[unit.rstrip("s")] - 1e-6)


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
        seed: Of initialisation, order and augmentation.
        eval_every: Duration between evaluations; also percent. The last step is always evaluated.
        checkpoint_every: Duration between checkpoints; also percent. Every evaluation saves one.
        log_every: Duration between lines of scalars.
        pictures: Training images in an epoch, one for every crop.

    Returns:
        The plan.

    Raises:
        UserError: A duration cannot be read, or a number is out of range.
    """
    if batch_size < 1:
        raise UserError(f"config.train.batch_size={batch_size} must be 1 or more.")
    if seed < 0:
        raise UserError(f"config.train.seed={seed} must be 0 or more.")
    epoch_steps = pictures / batch_size
    total = to_steps(duration, key="config.train.duration", epoch_steps=epoch_steps)
    if total < 1:
        raise UserError(f"config.train.duration={duration!r} must be at least one step.")
    every = {"eval_every": eval_every, "checkpoint_every": checkpoint_every, "log_every": log_every}
    steps = {
        name: max(
            1,
            to_steps(value, key=f"config.train.{name}", epoch_steps=epoch_steps, total_steps=total),
        )
        for name, value in every.items()
    }
    return Plan(total, epoch_steps, batch_size, seed, **steps)
