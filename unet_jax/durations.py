"""Durations as people write them ("30 epochs", "10%", "5000 steps", 5000), turned into steps."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from unet_jax.config import check_range
from unet_jax.errors import UserError
from unet_jax.traced import Seed

MOST_STEPS = 2**31 - 1  # what the state counts to
MOST_SEED = 2**32 - 1  # beyond it, random keys begin again
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(second|minute|hour|day)s?\s*")
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?(?:[eE]\d+)?)\s*(steps?|epochs?|%)?\s*")


def to_seconds(duration: str | int) -> float | None:
    """Turns a time such as "2 hours" or "90 minutes" into seconds; None for any other duration."""
    match = _TIME.fullmatch(str(duration))
    return None if match is None else float(match[1]) * _SECONDS[match[2]]


def to_steps(
    duration: str | int, *, key: str, epoch_steps: float, total_steps: int | None = None
) -> int:
    """Turns a duration into a number of optimiser steps.

    Args:
        duration: "30 epochs", "10%" (of the horizon), "5000 steps", "5000" or 5000.
        key: The config key that holds it, for error messages.
        epoch_steps: Steps in one epoch: training images / batch size, not rounded.
        total_steps: Steps of which shares are taken; None where a share makes no sense.

    Returns:
        Steps, rounded up, so that "1 epoch" sees every image; at least 1 unless the number is 0.

    Raises:
        UserError: The text is no duration, a percentage stands where it has no meaning or is above
            100, or no run can be that long.
    """
    match = _DURATION.fullmatch(str(duration))
    allowed = '"30 epochs", "5000 steps", "5000"' + (', "10%"' if total_steps is not None else "")
    if match is None and to_seconds(duration) is not None:
        raise UserError(
            f"{key}={duration!r} is a time, which config.train.duration alone can be, of a single "
            f"run that trains. Write it as one of {allowed}."
        )
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
    """When a run does what, in steps; see `make_plan`."""

    total: int
    epoch_steps: float
    batch_size: int
    seed: int
    eval_every: int
    checkpoint_every: int
    log_every: int
    group: int = 1
    patience: int = 0
    trackers: tuple[str, ...] = ()

    def is_planned(self, step: int) -> bool:
        """Tells whether the run saves this step though nobody asks it to stop."""
        every = (self.eval_every, self.checkpoint_every)
        return step == self.total or any(step % n == 0 for n in every)

    def is_lasting(self, step: int) -> bool:
        """Tells whether a longer run would leave at this step what this one does.

        The last step is evaluated, and its group of batches makes an update, due or not.
        """
        is_due = step % self.eval_every == 0 and step % self.group == 0
        return step < self.total or is_due


def to_horizon(horizon: str, *, total: int, epoch_steps: float) -> int:
    """Turns config.optim.horizon into steps.

    Args:
        horizon: A duration; "" is that of the run.
        total: Steps of the run.
        epoch_steps: See `to_steps`.

    Returns:
        The steps from which schedules and shares are taken.

    Raises:
        UserError: It is no duration, or shorter than the run.
    """
    key = "config.optim.horizon"
    steps = to_steps(horizon, key=key, epoch_steps=epoch_steps) if horizon else total
    if steps < total:
        raise UserError(
            f"{key}={horizon!r} is {steps} steps, and config.train.duration {total}; make it as "
            'long at least, or leave it "", for that of the run.'
        )
    return steps


def check_plan(values: Mapping[str, Any]) -> None:
    """Checks the numbers of a config's train section.

    Args:
        values: Arguments of `make_plan`, by name.

    Raises:
        UserError: A number is out of range.
    """
    check_range("config.train.batch_size", values["batch_size"], 1)
    check_range("config.train.seed", values["seed"], 0, MOST_SEED)


def make_plan(
    duration: str = "30 epochs",
    batch_size: int = 32,
    seed: Seed = 0,
    eval_every: str = "10%",
    checkpoint_every: str = "10%",
    log_every: str = "20 steps",
    patience: str = "",
    trackers: tuple[str, ...] = ("tensorboard",),
    *,
    images: int,
    horizon: str = "",
    group: int = 1,
) -> Plan:
    """Turns the durations of a config into steps.

    Args:
        duration: Length of the run: steps or epochs; of a single run also a time, such as
            "2 hours", whose steps are found when it begins and are kept (see `budget.Budget`).
        batch_size: B, over all devices.
        seed: Of initialisation, order and augmentation; below 2^32.
        eval_every: Duration between evaluations; also percent of the horizon, and 0 for none but
            that of the last step, which is always evaluated.
        checkpoint_every: Duration between checkpoints. Every evaluation saves one.
        log_every: Duration between lines of scalars.
        patience: Duration after which a run ends at an evaluation, if none since was as good by
            `config.eval.headline` as the best before; also percent of the horizon. "" for none:
            the run takes all its steps. What depends on the run's length, such as the schedule,
            is that of `duration`.
        trackers: Where scalars go beside metrics.jsonl, keys of `trackers.make.TRACKERS`:
            "tensorboard", "mlflow" (extra mlflow) and "wandb" (extra wandb). A run neither waits
            for them nor fails with them.
        images: Training images in an epoch, one for every crop.
        horizon: Duration of which percentages are taken, that of `optim.make_optimizer`.
        group: Batches that make an update together.

    Returns:
        The plan.

    Raises:
        UserError: A duration cannot be read, or is longer than what it is a part of.
    """
    epoch_steps = images / batch_size
    total = to_steps(duration, key="config.train.duration", epoch_steps=epoch_steps)
    if total < 1:
        raise UserError(f"config.train.duration={duration!r} must be at least one step.")
    every = {"eval_every": eval_every, "checkpoint_every": checkpoint_every, "log_every": log_every}
    shares_of = to_horizon(horizon, total=total, epoch_steps=epoch_steps)
    lengths = {"epoch_steps": epoch_steps, "total_steps": shares_of}
    # Every 0 steps is never, but at the end.
    steps = {
        name: to_steps(value, key=f"config.train.{name}", **lengths) or total
        for name, value in every.items()
    }
    key = "config.train.patience"
    ends = to_steps(patience, key=key, **lengths) if patience else 0
    more = {"group": group, "patience": ends, "trackers": trackers}
    return Plan(total, epoch_steps, batch_size, seed, **steps, **more)
