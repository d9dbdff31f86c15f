"""A run as long as a time allows: how many steps that is, before the first of them is taken."""

import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from unet_jax.data.pipeline import train_batches
from unet_jax.defaults import to_config
from unet_jax.durations import MOST_STEPS, to_seconds
from unet_jax.errors import UserError
from unet_jax.experiment import Experiment, plan_of
from unet_jax.predict.predictor import Predictor
from unet_jax.process import records
from unet_jax.process.console import console
from unet_jax.process.console import duration as write_seconds
from unet_jax.runs import layout
from unet_jax.runs.checkpoint import Checkpoints
from unet_jax.sharding import process_rows, put_batch, replicate
from unet_jax.step import State, Step

PROVISIONAL = 10**6  # steps, of the program that is timed
MOST, SHARE = 20, 0.05  # steps that are timed at most, and of the time that is given
FEW = 3  # batches of an evaluation that are timed at most
WARM = 2  # steps before; the first one waits for the compiler


class Budget(NamedTuple):
    """What a time comes to; a run keeps it, and goes on by it.

    Attributes:
        duration: Of the config, such as "2 hours".
        steps: As many as were found to fit.
        step_s: Seconds of a step.
        evaluation_s: Seconds of an evaluation with its checkpoint.
    """

    duration: str
    steps: int
    step_s: float
    evaluation_s: float

    def describe(self) -> str:
        """Says in a line what the time comes to."""
        return (
            f"config.train.duration={self.duration!r} is {self.steps:,} steps of "
            f"{self.step_s:.3g} s and evaluations of {self.evaluation_s:.3g} s; "
            f"{layout.DURATION} keeps the number"
        )

    def write(self) -> str:
        """Returns the text of duration.json."""
        return json.dumps(self._asdict(), indent=2) + "\n"


def read(workdir: Path) -> Budget | None:
    """Reads what the time of a run came to.

    Args:
        workdir: The run's directory.

    Returns:
        That; None of a run that has no duration.json.

    Raises:
        BrokenFileError: The file is not what a run wrote.
    """
    shape = {
        "duration": str,
        "steps": records.Count,
        "step_s": records.Number,
        "evaluation_s": records.Number,
    }
    advice = "put it back, or train again with --overwrite"
    found = records.read_json(workdir / layout.DURATION, shape, "what a run wrote", advice)
    return None if found is None else Budget(**found)


def settle(config: ConfigDict, kept: Budget | None) -> ConfigDict:
    """Puts steps in the place of a time.

    Args:
        config: The whole config.
        kept: Of a run that goes on.

    Returns:
        The config; where its duration is a time, with the steps that the run keeps, or
        `PROVISIONAL` ones, which are to be measured.

    Raises:
        UserError: The config has a horizon too, or the run keeps no steps of its time.
    """
    text = config.train.duration
    if to_seconds(text) is None:
        return config
    if config.optim.horizon:
        raise UserError(
            f"config.train.duration={text!r} is a time, and config.optim.horizon="
            f'{config.optim.horizon!r} counts steps; leave the horizon "", for that of the run.'
        )
    return with_steps(config, kept.steps if kept else PROVISIONAL)


def with_steps(config: ConfigDict, steps: int) -> ConfigDict:
    """Returns a copy of a config whose duration is steps."""
    values = config.to_dict()
    values["train"]["duration"] = f"{steps} steps"
    return to_config(values)


def measure(
    text: str, experiment: Experiment, train_step: Step, eval_step: Predictor, began: float
) -> Budget:
    """Finds how many steps fit into a time, by taking some.

    What was spent so far, the compilation of the program with the right number of steps, and all
    evaluations are a part of the time.

    Args:
        text: Value of config.train.duration.
        experiment: Of the config with `PROVISIONAL` steps.
        train_step: Its step.
        eval_step: Evaluates its network.
        began: When the command began, of `time.monotonic`.

    Returns:
        The steps; those that the first process found.

    Raises:
        UserError: Not a step fits.
    """
    given = to_seconds(text)
    assert given is not None
    console.print(f"timing steps, of which as many as fit into {text} are to be taken")
    state, compile_s, step_s = _time_steps(experiment, train_step, SHARE * given)
    evaluation_s = _time_evaluation(experiment, eval_step, state)
    left = given - (time.monotonic() - began) - compile_s
    steps = _fit(experiment, left, step_s, evaluation_s)
    if jax.process_count() > 1:
        steps = int(multihost_utils.broadcast_one_to_all(np.asarray(steps, np.int32)))
    if steps < 1:
        raise UserError(
            f"config.train.duration={text!r} is too short for a step: it takes "
            f"{write_seconds(given - left)} to begin, a step {step_s:.2g} s and an evaluation "
            f"{evaluation_s:.2g} s; give it more time."
        )
    return Budget(text, steps, float(step_s), float(evaluation_s))


def _time_steps(
    experiment: Experiment, train_step: Step, most_s: float
) -> tuple[Any, float, float]:
    """Returns a state, and the seconds of the first step and of the median of others."""
    e = experiment
    order = {"batch_size": e.plan.batch_size, "seed": 0, "start": 0, "stop": WARM + MOST}
    rows = process_rows(e.plan.batch_size, e.shardings).tolist()
    batches = train_batches(e.dataset.splits["train"], e.loading, **order, rows=rows)
    state, key = e.init(jax.random.key(0)), replicate(jax.random.key(0), e.shardings)
    seconds: list[float] = []
    for batch in batches:
        before = time.monotonic()
        state, scalars = train_step(state, put_batch(batch, e.shardings), key)
        jax.block_until_ready(scalars)
        seconds.append(time.monotonic() - before)
        timed = seconds[WARM:]
        if jax.process_count() == 1 and len(timed) > 2 and sum(timed) > most_s:
            break
    return state, seconds[0], statistics.median(seconds[WARM:])


def _time_evaluation(experiment: Experiment, eval_step: Predictor, state: State) -> float:
    """Returns the seconds of an evaluation, by those of a few batches, and of a checkpoint."""
    val, size = experiment.dataset.splits["val"], experiment.network.settings.batch_size
    batches = -(-len(val) // size)
    some, seconds = min(batches, FEW), 0.0
    for _ in range(2):  # the first one waits for the compiler
        began = time.monotonic()
        found = eval_step.batches(state.eval_variables(), val, size)
        jax.block_until_ready([result for _, result in itertools.islice(found, some)])
        seconds = time.monotonic() - began
    return seconds * batches / some + _time_checkpoint(state)


def _time_checkpoint(state: State) -> float:
    """Returns the seconds of a checkpoint, in a folder that goes again."""
    if jax.process_count() > 1:
        return 0.0  # processes that share no folder for it would wait for each other
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))
        checkpoints.save(1, state, {}, None)
        checkpoints.wait()
        checkpoints.close()
        return time.monotonic() - began


def _fit(experiment: Experiment, left: float, step_s: float, evaluation_s: float) -> int:
    """Returns the most steps that take no longer than the seconds that are left; 0 for none."""
    e = experiment
    images = len(e.dataset.splits["train"]) * e.loading.crops

    def take(steps: int) -> float:
        plan = plan_of(with_steps(e.config, steps), images)
        return steps * step_s + -(-steps // plan.eval_every) * evaluation_s

    low, high = 0, min(max(1, int(left / step_s) + 1), MOST_STEPS)
    while low + 1 < high:  # as many as low fit, and as many as high do not
        middle = (low + high) // 2
        low, high = (middle, high) if take(middle) <= left else (low, middle)
    return low
