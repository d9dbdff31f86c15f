"""The train step of several trials: in turn through one program, or side by side in one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from unet_jax.experiment import Experiment, step_parts, step_shapes
from unet_jax.models.fast import compiler_options
from unet_jax.process.capacity import device_memory
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


class InTurn:
    """One program, whose numbers are inputs, for one trial after the other.

    It is the way on CPUs: XLA has no fast convolution there whose filters differ by trial, nor one
    inside a loop, and in turn the activations of one trial stay in the cache.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        """Plans the step; nothing is compiled."""
        self._members, self._device = members, jax.devices()[0]
        options = compiler_options(members[0].experiment.model)
        self._step: Any = jax.jit(
            _make_step(members[0]), donate_argnums=0, compiler_options=options
        )

    def __call__(self, states: Any, batches: Any, inputs: Any) -> tuple[Any, Any]:
        """Takes a step of every trial; see `Way`."""
        done = [
            self._step(state, batches[row], key, numbers)
            for state, (key, row, numbers) in zip(states, inputs, strict=True)
        ]
        return [state for state, _ in done], [scalars for _, scalars in done]

    def put(self, states: Sequence[State]) -> Any:
        """Brings the states to the device; see `Way`."""
        return [jax.device_put(jax.device_get(state), self._device) for state in states]

    def put_batches(self, batches: Sequence[Batch]) -> Any:
        """Brings the batches to the device; see `Way`."""
        return [jax.device_put(dict(batch), self._device) for batch in batches]

    def inputs(self) -> Any:
        """Returns what differs between the trials; see `Way`."""
        return [
            own._replace(
                key=jax.device_put(own.key, self._device),
                numbers=jax.device_put(own.numbers, self._device),
            )
            for own in _inputs(self._members)
        ]

    def fetch(self, states: Any) -> Iterator[State]:
        """Yields every trial's own state; see `Way`."""
        return map(jax.device_get, states)

    def fetch_scalars(self, scalars: Any) -> list[dict[str, Any]]:
        """Returns every trial's own scalars; see `Way`."""
        return jax.device_get(scalars)

    def most(self) -> int:
        """Returns how many trials fit; see `Way`."""
        key, _, numbers = _inputs(self._members)[0]
        state, batch, _ = step_shapes(self._members[0].experiment)
        lowered = self._step.lower(_plain(state), batch, key, numbers)
        self._step = lowered.compile()
        found = self._step.memory_analysis()
        if found is None:
            return len(self._members)
        left = MEMORY_SHARE * device_memory() - found.temp_size_in_bytes
        return max(1, int(left // found.argument_size_in_bytes))

    def describe(self) -> str:
        """Says how the trials share the device."""
        return "one program, in turn"


class SideBySide:
    """All trials in one program: their states [T, ...] split over the devices by trial."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Plans the step; nothing is compiled."""
        self._members, count = members, len(members)
        self._per_device = -(-count // jax.device_count())
        self._devices = -(-count // self._per_device)
        mesh = jax.make_mesh(
            (self._devices,),
            ("trial",),
            axis_types=(AxisType.Auto,),
            devices=jax.devices()[: self._devices],
        )
        by_trial, whole = PartitionSpec("trial"), PartitionSpec()
        self._by_trial, self._whole = NamedSharding(mesh, by_trial), NamedSharding(mesh, whole)
        one = _make_step(members[0])

        def step(states: State, batches: Any, inputs: Inputs) -> Any:
            def each(state: State, own: Inputs) -> Any:
                batch = jax.tree.map(lambda x: x[own.order], batches)
                return one(state, batch, own.key, own.numbers)

            return jax.vmap(each)(states, inputs)

        # By hand, since the compiler would gather the trials for convolutions in groups.
        sharded = jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(by_trial, whole, by_trial),
            out_specs=by_trial,
            check_vma=False,
        )
        options = compiler_options(members[0].experiment.model)
        self._step: Any = jax.jit(sharded, donate_argnums=0, compiler_options=options)

    def __call__(self, states: Any, batches: Any, inputs: Any) -> tuple[Any, Any]:
        """Takes a step of every trial; see `Way`."""
        return self._step(states, batches, inputs)

    def put(self, states: Sequence[State]) -> Any:
        """Brings the states to the devices; see `Way`."""
        return self._put(states)

    def _put(self, trees: Sequence[Any]) -> Any:
        # The last trial again, in what is left over.
        rows = [*trees, *[trees[-1]] * (self._per_device * self._devices - len(trees))]
        return jax.device_put(_stack(jax.device_get(rows)), self._by_trial)

    def put_batches(self, batches: Sequence[Batch]) -> Any:
        """Brings the batches to the devices; see `Way`."""
        return jax.device_put(_stack([dict(batch) for batch in batches]), self._whole)

    def inputs(self) -> Any:
        """Returns what differs between the trials; see `Way`."""
        own = _inputs(self._members)
        return self._put([one._replace(order=np.int32(one.order)) for one in own])

    def fetch(self, states: Any) -> Iterator[State]:
        """Yields every trial's own state; see `Way`."""
        return _unstack(jax.device_get(states), len(self._members))

    def fetch_scalars(self, scalars: Any) -> list[dict[str, Any]]:
        """Returns every trial's own scalars; see `Way`."""
        return list(_unstack(jax.device_get(scalars), len(self._members)))

    def most(self) -> int:
        """Returns how many trials fit; see `Way`."""
        rows = self._per_device * self._devices

        def shape(x: Any, count: int, where: NamedSharding) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((count, *x.shape), x.dtype, sharding=where)

        seeds = len(distinct([member.seed for member in self._members]))
        state, batch, _ = step_shapes(self._members[0].experiment)
        states = jax.tree.map(lambda x: shape(x, rows, self._by_trial), state)
        batches = jax.tree.map(lambda x: shape(x, seeds, self._whole), batch)
        self._step = self._step.lower(states, batches, self.inputs()).compile()
        found = self._step.memory_analysis()
        if found is None:
            return len(self._members)
        each = (found.argument_size_in_bytes + found.temp_size_in_bytes) / self._per_device
        return max(1, int(MEMORY_SHARE * device_memory() // each)) * self._devices

    def describe(self) -> str:
        """Says how the trials share the devices."""
        return f"one program, {self._per_device} on each of {self._devices} devices"


def _make_step(member: Member) -> Any:
    """Makes step(state, batch, key, numbers) of the member's config but for traced numbers."""
    e = member.experiment

    def step(state: State, batch: Any, key: Any, numbers: Any) -> Any:
        pure = make_pure_step(**step_parts(e.config, e.network, e.plan, numbers))
        return pure(state, batch, jax.random.wrap_key_data(key))

    return step


def _inputs(members: Sequence[Member]) -> list[Inputs]:
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


def _plain(shapes: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def _unstack(tree: Any, count: int) -> Iterator[Any]:
    for row in range(count):
        yield jax.tree.map(lambda x: x[row], tree)  # noqa: B023
