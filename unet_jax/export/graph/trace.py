"""From a jaxpr to a graph."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from unet_jax.export.graph.builder import Builder, Value
from unet_jax.export.graph.rules import convert


def emit(builder: Builder, closed: Any, inputs: Sequence[Value]) -> list[Value]:
    """Adds a program to a graph.

    Args:
        builder: The graph.
        closed: Its jaxpr, with constants.
        inputs: What it is given.

    Returns:
        What it returns.

    Raises:
        UserError: A primitive has no rule.
    """
    values: dict[Any, Value] = {}
    for var, constant in zip(closed.jaxpr.constvars, closed.consts, strict=True):
        values[var] = _constant(builder, np.asarray(constant))
    values |= dict(zip(closed.jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        if isinstance(atom, Literal):
            aval: Any = atom.aval
            return _constant(builder, np.asarray(atom.val, aval.dtype))
        return values[atom]

    for equation in closed.jaxpr.eqns:
        operands = [read(atom) for atom in equation.invars]
        inner = _inner(equation.params)
        if inner is not None:  # a function within the function
            results = emit(builder, inner, operands)
        else:
            results = [convert(builder, equation, operands)]
        values |= dict(zip(equation.outvars, results, strict=False))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _inner(params: Mapping[str, Any]) -> Any:
    """Returns the program of an equation that calls one; None of another."""
    return next((params[name] for name in ("jaxpr", "call_jaxpr") if name in params), None)


def _constant(builder: Builder, array: np.ndarray) -> Value:
    return Value(builder.constant(array, array.dtype), array.shape, array.dtype)


def flat_names(tree: Any) -> list[str]:
    """Returns the names of a dict's leaves in jax's order."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [path[-1].key for path, _ in paths]
