"""Numbers of a config that may be traced, so that runs which differ in them share one program.

A function says in its own signature which of its arguments are such numbers: `rate: Number`. Checks
see the numbers of every run before any is traced.
"""

import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple


class Traceable(NamedTuple):
    """What an annotation says of a number.

    Attributes:
        switches: Whether 0 switches something off, so that the program with 0 is another one.
    """

    switches: bool


Number = Annotated[float, Traceable(switches=False)]
"""A number that a program can take as an input."""
Switch = Annotated[float, Traceable(switches=True)]
"""A number that a program can take as an input unless it is 0."""
Seed = Annotated[int, Traceable(switches=False)]
"""A seed, which decides no more than inputs of the program."""


def traceable(function: Callable[..., Any]) -> dict[str, Traceable]:
    """Finds the arguments of a function that may be traced, also in a tuple.

    Args:
        function: Its signature has annotations such as `Number` and `tuple[Switch, ...]`.

    Returns:
        What the annotations say, by argument.
    """
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = parameter.annotation
        for kind in (annotation, *typing.get_args(annotation)):
            for said in getattr(kind, "__metadata__", ()):
                if isinstance(said, Traceable):
                    found[name] = said
    return found


def is_traced(*values: Any) -> bool:
    """Tells whether one of some numbers has no value while the program is made."""
    import jax  # which a config's defaults must not need

    return any(isinstance(value, jax.Array) for value in jax.tree.leaves(values))


def is_on(number: Any) -> bool:
    """Tells whether a number switches something on: whether it is not 0.

    Runs that share a traced number are alike in this, so a traced one always does.
    """
    return is_traced(number) or bool(number)
