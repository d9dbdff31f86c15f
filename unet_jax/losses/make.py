"""The training loss of a config: the weighted sum of the terms that its section names."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from unet_jax.config import check_parts
from unet_jax.errors import UserError
from unet_jax.losses.example import Example
from unet_jax.losses.lovasz import lovasz, lovasz_hinge
from unet_jax.losses.overlap import check_tversky, generalised_dice, soft_dice, tversky
from unet_jax.losses.pixel import (
    MOST_WEIGHT,
    binary_cross_entropy,
    check_cross_entropy,
    check_focal,
    cross_entropy,
    focal,
)
from unet_jax.losses.tubes import check_cldice, cldice
from unet_jax.task import Task
from unet_jax.traced import Number, is_traced


class Term(NamedTuple):
    """A term that a loss can have.

    Attributes:
        function: (Example, **its section but for the weight) -> scalar.
        check: (values by key, number of classes) -> None; raises a UserError where they do not fit.
    """

    function: Callable[..., jax.Array]
    check: Callable[[Mapping[str, Any], int], None] = lambda values, num_classes: None


TERMS: dict[str, Term] = {
    "cross_entropy": Term(cross_entropy, check_cross_entropy),
    "dice": Term(soft_dice),
    "binary_cross_entropy": Term(binary_cross_entropy),
    "focal": Term(focal, check_focal),
    "generalised_dice": Term(generalised_dice),
    "tversky": Term(tversky, check_tversky),
    "lovasz": Term(lovasz),
    "lovasz_hinge": Term(lovasz_hinge),
    "cldice": Term(cldice, check_cldice),
}
"""By name in config.loss; the defaults of a term's keys stand in `defaults.PARTS`."""


def every_term(weight: Number = 1.0) -> None:
    """Has the key that every term has.

    Args:
        weight: Factor of the term in the sum, 0 or more.
    """


@dataclasses.dataclass(frozen=True)
class Loss:
    """A training loss of one head; see `make_loss`.

    Attributes:
        mean: Example -> scalar.
        task: What a label means.
        class_weights: See `cross_entropy`.
    """

    mean: Callable[[Example], jax.Array]
    task: Task
    class_weights: tuple[float, ...] = ()

    def __call__(self, logits: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
        """Computes the loss of a batch."""
        return self.mean(Example(logits, label, weight, self.task))

    def batch_weight(self, label: jax.Array, weight: jax.Array) -> jax.Array:
        """Returns the mean of a batch's pixel weights, which its cross-entropy was divided by.

        Not their sum, so that gradients times it are of the size of gradients.
        """
        return jnp.mean(self.task.weigh(label, weight, self.class_weights))


def check_loss(section: Mapping[str, Any], *, num_classes: int) -> dict[str, dict[str, Any]]:
    """Checks a config's loss section.

    Args:
        section: By term, its keys.
        num_classes: K.

    Returns:
        The terms as `make_loss` takes them, with a value for every key.

    Raises:
        UserError: There is no term, one is unknown, or a value does not fit.
    """
    functions = {name: term.function for name, term in TERMS.items()}
    terms = check_parts(functions, "config.loss", section, hidden=("example",), every=every_term)
    if not terms:
        raise UserError(f"config.loss has no term; name one or more of {', '.join(TERMS)}.")
    for name, values in terms.items():
        if not 0 <= values["weight"] <= MOST_WEIGHT:
            raise UserError(
                f"config.loss.{name}.weight={values['weight']} must be from 0 to {MOST_WEIGHT:g}."
            )
        TERMS[name].check(values, num_classes)
    return terms


def make_loss(terms: Mapping[str, Mapping[str, Any]], task: Task) -> Loss:
    """Makes a training loss.

    Args:
        terms: By name of `TERMS`, the arguments of the term, and "weight", by default 1, its factor
            in the sum.
        task: What a label means.

    Returns:
        loss(logits [B, *n, K], label [B, *n], weight [B, *n]) -> scalar.
    """
    weighted = []
    for name, section in terms.items():
        values = dict(section)
        weight = values.pop("weight", 1.0)
        weighted.append((weight, functools.partial(TERMS[name].function, **values)))

    def mean(example: Example) -> jax.Array:
        # How sums of gradients over terms round depends on the order in which terms are traced, and
        # on what follows them: the last term comes first, and a first weight of 1 is none.
        losses = [term(example) for _, term in reversed(weighted)][::-1]
        weights = [weight for weight, _ in weighted]
        is_plain = not is_traced(weights[0]) and weights[0] == 1.0
        first = losses[0] if is_plain else weights[0] * losses[0]
        others = [weight * loss for weight, loss in zip(weights[1:], losses[1:], strict=True)]
        return functools.reduce(jnp.add, others, first)

    class_weights = tuple(terms.get("cross_entropy", {}).get("class_weights", ()))
    return Loss(mean, task, class_weights)
