"""Several trials side by side in one program."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from unet_jax.experiment import step_shapes
from unet_jax.models.fast import compiler_options
from unet_jax.process import target
from unet_jax.process.capacity import device_memory
from unet_jax.step import State
from unet_jax.studies.pack.step import (
    MEMORY_SHARE,
    Batch,
    Inputs,
    Member,
    distinct,
    inputs_of,
    make_step,
)


class SideBySide:
    """All trials in one program: their states [T, ...] split over the devices by trial."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Plans the step; nothing is compiled."""
        self._members, count = members, len(members)
        self._per_device = -(-count // target.device_count())
        self._devices = -(-count // self._per_device)
        mesh = jax.make_mesh(
            (self._devices,),
            ("trial",),
            axis_types=(AxisType.Auto,),
            devices=target.devices()[: self._devices],
        )
        by_trial, whole = PartitionSpec("trial"), PartitionSpec()
        self._by_trial, self._whole = NamedSharding(mesh, by_trial), NamedSharding(mesh, whole)
        one = make_step(members[0])

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
        return self._put(self._own_inputs())

    def _own_inputs(self) -> list[Inputs]:
        return [one._replace(order=np.int32(one.order)) for one in inputs_of(self._members)]

    def fetch(self, states: Any) -> Iterator[State]:
        """Yields every trial's own state; see `Way`."""
        return _unstack(jax.device_get(states), len(self._members))

    def fetch_scalars(self, scalars: Any) -> list[dict[str, Any]]:
        """Returns every trial's own scalars; see `Way`."""
        return list(_unstack(jax.device_get(scalars), len(self._members)))

    def shapes(self) -> tuple[Any, Any, Any]:
        """Returns the shapes of the step's arguments, with shardings: states, batches, inputs."""
        rows = self._per_device * self._devices
        seeds = len(distinct([member.seed for member in self._members]))

        def stack(tree: Any, count: int, where: NamedSharding) -> Any:
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype, sharding=where), tree
            )

        state, batch, _ = step_shapes(self._members[0].experiment)
        own = self._own_inputs()[0]
        return (
            stack(state, rows, self._by_trial),
            stack(batch, seeds, self._whole),
            stack(own, rows, self._by_trial),
        )

    def lower(self) -> Any:
        """Traces the step for its devices; returns the `jax.stages.Lowered`."""
        return self._step.lower(*self.shapes())

    def most(self) -> int:
        """Returns how many trials fit; see `Way`."""
        self._step = self.lower().compile()
        found = self._step.memory_analysis()
        if found is None:
            return len(self._members)
        each = (found.argument_size_in_bytes + found.temp_size_in_bytes) / self._per_device
        return max(1, int(MEMORY_SHARE * device_memory() // each)) * self._devices

    def describe(self) -> str:
        """Says how the trials share the devices."""
        return f"one program, {self._per_device} on each of {self._devices} devices"


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *x: np.stack(x), *trees)


def _unstack(tree: Any, count: int) -> Iterator[Any]:
    for row in range(count):
        yield jax.tree.map(lambda x: x[row], tree)  # noqa: B023
