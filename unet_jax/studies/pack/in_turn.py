"""Several trials through one program, one after the other in each of some lanes."""

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from unet_jax.experiment import step_shapes
from unet_jax.models.fast import compiler_options
from unet_jax.process import runtime
from unet_jax.process.capacity import device_memory
from unet_jax.step import State
from unet_jax.studies.pack.step import MEMORY_SHARE, Batch, Inputs, Member, inputs_of, make_step


class InTurn:
    """One program, whose numbers are inputs, for one trial after the other in each of some lanes.

    It is the way on CPUs: XLA has no fast convolution there whose filters differ by trial, nor one
    inside a loop, and in turn the activations of one trial stay in the cache. A step of a small
    network leaves cores idle between its operations; a step in another lane takes them.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        """Plans the step; nothing is compiled."""
        self._members, self._device = members, jax.devices()[0]

    def __call__(self, states: Any, batches: Any, inputs: Any) -> tuple[Any, Any]:
        """Takes a step of every trial; see `Way`."""
        step, lanes = self._step, self._lanes

        def take(state: State, own: Inputs) -> tuple[State, Any]:
            with jax.transfer_guard("disallow"):
                return step(state, batches[own.order], own.key, own.numbers)

        # XLA runs what one thread starts in that order, and what others start beside it.
        begun = [
            lanes[row % len(lanes)].submit(take, *pair)
            for row, pair in enumerate(zip(states, inputs, strict=True))
        ]
        done = [future.result() for future in begun]
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
            for own in inputs_of(self._members)
        ]

    def fetch(self, states: Any) -> Iterator[State]:
        """Yields every trial's own state; see `Way`."""
        return map(jax.device_get, states)

    def fetch_scalars(self, scalars: Any) -> list[dict[str, Any]]:
        """Returns every trial's own scalars; see `Way`."""
        return jax.device_get(scalars)

    def most(self) -> int:
        """Returns how many trials fit; see `Way`."""
        found = self._step.memory_analysis()
        if found is None:
            return len(self._members)
        left = MEMORY_SHARE * device_memory() - len(self._lanes) * found.temp_size_in_bytes
        return max(1, int(left // found.argument_size_in_bytes))

    def describe(self) -> str:
        """Says how the trials share the device."""
        lanes = len(self._lanes)
        return "one program, in turn" + (f", {lanes} at a time" if lanes > 1 else "")

    @functools.cached_property
    def _step(self) -> Any:
        """The compiled step."""
        options = compiler_options(self._members[0].experiment.model)
        step = jax.jit(make_step(self._members[0]), donate_argnums=0, compiler_options=options)
        key, _, numbers = inputs_of(self._members)[0]
        state, batch, _ = step_shapes(self._members[0].experiment)
        return step.lower(_plain(state), batch, key, numbers).compile()

    @functools.cached_property
    def _lanes(self) -> list[ThreadPoolExecutor]:
        """A thread for each lane: one per core, and fewer where the workspace of so many is short.

        What a trial computes does not depend on them: XLA splits its sums by its own threads.
        """
        count, found = min(len(self._members), runtime.cores()), self._step.memory_analysis()
        if found is not None:
            states = len(self._members) * found.argument_size_in_bytes
            left = MEMORY_SHARE * device_memory() - states
            count = min(count, int(left // max(1, found.temp_size_in_bytes)))
        return [ThreadPoolExecutor(1) for _ in range(max(1, count))]


def _plain(shapes: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shapes)
