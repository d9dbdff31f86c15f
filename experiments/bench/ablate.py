"""Steps that lack one kind of work, which shows what it takes where XLA fuses it with others."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax

from unet_jax.models import blocks
from unet_jax.step import variable_shapes


def _first_of_windows(x: jax.Array, strides: tuple[int, ...]) -> jax.Array:
    return x[(slice(None), *(slice(None, None, stride) for stride in strides))]


ABLATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "activation": (blocks.ACTIVATIONS, {"relu": lambda x: x}),
    "normalisation": (blocks.NORMS, {"batch": lambda x, dtype, train: x}),
    "pooling": (blocks.POOLS, {"max": _first_of_windows}),
}
"""What can be left out: the table that has it, and what takes its place there."""


@contextlib.contextmanager
def leave_out(name: str) -> Iterator[None]:
    """Leaves a kind of work out of the steps that are made and traced within the context.

    Args:
        name: A key of `ABLATIONS`.
    """
    table, other = ABLATIONS[name]
    variable_shapes.cache_clear()  # of the same model with it
    with mock.patch.dict(table, other):
        yield
    variable_shapes.cache_clear()
