"""Numbers of a config that may be traced, so that runs which differ in them share one program.

Whoever traces a number has checked every value it stands for, with the number as it is.
"""

from typing import Any

import jax


def is_traced(*values: Any) -> bool:
    """Tells whether one of some numbers has no value while the program is made."""
    return any(isinstance(value, jax.Array) for value in jax.tree.leaves(values))


def is_on(number: Any) -> bool:
    """Tells whether a number switches something on: whether it is not 0.

    Runs that share a traced number are alike in this, so a traced one always does.
    """
    return is_traced(number) or bool(number)
