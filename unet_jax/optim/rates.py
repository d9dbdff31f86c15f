"""Learning rates of a model's parts."""

import fnmatch
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import optax

from unet_jax.errors import UserError

Rates = Sequence[tuple[str, float]]
_MOST_NAMES = 20  # in a message


def is_named(path: Sequence[str], pattern: str) -> bool:
    """Tells whether a pattern names a parameter, or a module that it is in.

    Args:
        path: Of the parameter, such as `("encoder_0", "Conv_0", "kernel")`.
        pattern: Such as `"encoder_*"`, `"decoder_0/Conv_1"` or `"*/bias"`.

    Returns:
        Whether it does.
    """
    names = itertools.accumulate(path, lambda above, name: f"{above}/{name}")
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def check_rates(rates: Any) -> None:
    """Checks the form of config.optim.rates.

    Args:
        rates: Its value.

    Raises:
        UserError: It is no tuple of a pattern and a factor each.
    """
    for pair in rates:
        is_pair = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)
        if not is_pair or not isinstance(pair[1], int | float) or not 0 <= pair[1] < float("inf"):
            raise UserError(
                f"config.optim.rates={rates!r} must be pairs of a pattern and a factor of 0 or "
                'more, such as (("encoder*", 0.1), ("head", 10.0)).'
            )


def check_parts(frozen: Sequence[str], rates: Rates, params: Any) -> None:
    """Checks that the parts of a model that a config names are there.

    Args:
        frozen: Patterns of modules of the model, config.model.frozen.
        rates: Patterns and factors, config.optim.rates.
        params: The parameters, or their shapes, by module.

    Raises:
        UserError: A pattern names nothing, or all is frozen.
    """
    modules = dict.fromkeys(params, 0)
    _check_names("config.model.frozen", frozen, modules)
    _check_names("config.optim.rates", [pattern for pattern, _ in rates], params)
    if all(any(is_named((name,), pattern) for pattern in frozen) for name in modules):
        raise UserError(f"config.model.frozen={frozen!r} leaves no part of the model to train.")


def _check_names(key: str, patterns: Sequence[str], params: Any) -> None:
    """Checks that every pattern names a parameter, or a module of some."""
    paths = [_names(path) for path, _ in jax.tree.leaves_with_path(params)]
    for pattern in patterns:
        if not any(is_named(path, pattern) for path in paths):
            known = [*dict.fromkeys(path[0] for path in paths)]
            more = ", ..." if len(known) > _MOST_NAMES else ""
            raise UserError(
                f"{key} names {pattern!r}, and no part of the model is called so; its parts are "
                f"{', '.join(known[:_MOST_NAMES])}{more}."
            )


def scale_by_part(rates: Rates) -> optax.GradientTransformation:
    """Makes what multiplies the updates of parts of a model.

    Args:
        rates: A pattern and a factor each, see `is_named`; of several that name a parameter the
            first counts, and one that none names has the factor 1.

    Returns:
        The transformation, without a state.
    """

    def factor(path: Any) -> float:
        names = _names(path)
        return next((float(f) for pattern, f in rates if is_named(names, pattern)), 1.0)

    def scale(updates: Any, params: Any) -> Any:
        del params
        return jax.tree.map_with_path(lambda path, update: update * factor(path), updates)

    return optax.stateless(scale)


def _names(path: Any) -> tuple[str, ...]:
    return tuple(key.key for key in path)
