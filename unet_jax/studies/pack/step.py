"""The train step of several trials, as a program whose numbers are inputs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from unet_jax.experiment import Experiment, step_parts
from unet_jax.step import State, make_pure_step
from unet_jax.studies.pack.grouping import varying

MEMORY_SHARE = 0.9  # of a device's memory that a program may plan to use
Batch = Mapping[str, np.ndarray]


class Member(NamedTuple):
    """A trial of a pack."""

    folder: Path
    config: ConfigDict
    experiment: Experiment

    @property
    def seed(self) -> int:
        """Returns the trial's seed."""
        return self.experiment.plan.seed


class Inputs(NamedTuple):
    """What differs between trials: of one or, side by side, of all of them.

    Attributes:
        key: Of the steps, as `jax.random.key_data`.
        order: Whose batch the trial takes; trials of one seed share theirs.
        numbers: By path; see `grouping.numbers_of`.
    """

    key: Any
    order: Any
    numbers: Any


class Way(Protocol):
    """How several trials take their steps.

    Calling it takes one of every trial: way(states, batches, inputs) -> (states, scalars). The
    states that go in are donated.
    """

    def __call__(self, states: Any, batches: Any, inputs: Any) -> tuple[Any, Any]:
        """Takes a step of every trial."""
        ...

    def put(self, states: Sequence[State]) -> Any:
        """Brings the trials' states to the devices."""
        ...

    def put_batches(self, batches: Sequence[Batch]) -> Any:
        """Brings the batches of the different seeds to the devices."""
        ...

    def inputs(self) -> Any:
        """Returns what differs between the trials, on the devices."""
        ...

    def fetch(self, states: Any) -> Iterator[State]:
        """Yields every trial's own state, on the host."""
        ...

    def fetch_scalars(self, scalars: Any) -> list[dict[str, Any]]:
        """Returns every trial's own scalars, on the host."""
        ...

    def most(self) -> int:
        """Returns how many such trials fit into memory, 1 or more; compiles the step."""
        ...

    def describe(self) -> str:
        """Says how the trials share the devices."""
        ...


def distinct(seeds: Sequence[int]) -> list[int]:
    """Returns the different seeds, in the order they come."""
    return list(dict.fromkeys(seeds))


def make_step(member: Member) -> Any:
    """Makes step(state, batch, key, numbers) of the member's config but for traced numbers."""
    e = member.experiment

    def step(state: State, batch: Any, key: Any, numbers: Any) -> Any:
        pure = make_pure_step(**step_parts(e.config, e.network, e.plan, numbers))
        return pure(state, batch, jax.random.wrap_key_data(key))

    return step


def inputs_of(members: Sequence[Member]) -> list[Inputs]:
    """Returns what differs between trials, on the host."""
    seeds = distinct([member.seed for member in members])
    numbers = varying([member.experiment.config for member in members])
    return [
        Inputs(
            jax.device_get(jax.random.key_data(jax.random.split(jax.random.key(member.seed))[1])),
            seeds.index(member.seed),
            {path: jax.tree.map(np.float32, values[row]) for path, values in numbers.items()},
        )
        for row, member in enumerate(members)
    ]
