"""Factors by class that a rule finds in the training split."""

from collections.abc import Iterable, Mapping
from typing import Any

from unet_jax.data.class_weights import find_rule
from unet_jax.errors import UserError
from unet_jax.losses.make import TERMS
from unet_jax.task import Task


def find_rules(terms: Mapping[str, Mapping[str, Any]], task: Task) -> dict[str, str]:
    """Finds the terms whose factors by class are left to a rule of `data.class_weights`.

    Args:
        terms: Of `check_loss`.
        task: What a label means.

    Returns:
        The rule, one for all, by term.

    Raises:
        UserError: There are several rules, or one for a factor that is none of classes alone.
    """
    keys = {name: TERMS[name].by_class for name in terms if TERMS[name].by_class}
    found = {name: find_rule(terms[name].get(key, ())) for name, key in keys.items()}
    rules = {name: rule for name, rule in found.items() if rule}
    said = [f"config.loss.{name}.{keys[name]}={rule!r}" for name, rule in rules.items()]
    if len(set(rules.values())) > 1:
        raise UserError(f"{' and '.join(said)} are two rules; a run has weights by one: name one.")
    if "focal" in rules and task.decides == "masks":
        raise UserError(
            f"config.loss.focal.alpha={rules['focal']!r} is for classes that exclude each other; "
            "of others alpha_k weighs a class against its absence: give numbers from 0 to 1."
        )
    return rules


def put_weights(
    terms: Mapping[str, Mapping[str, Any]], rules: Iterable[str], weights: tuple[float, ...]
) -> dict[str, dict[str, Any]]:
    """Puts what a rule found in its place.

    Args:
        terms: By name, their keys.
        rules: The terms that name one.
        weights: K weights.

    Returns:
        The terms, with numbers.
    """
    found = {name: dict(values) for name, values in terms.items()}
    for name in rules:
        found[name][TERMS[name].by_class] = TERMS[name].of_rule(weights)
    return found
