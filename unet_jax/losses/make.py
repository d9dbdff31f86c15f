"""The training loss of a config: the weighted sum of the terms that its section names."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.config import check_parts
from unet_jax.data.maps import Border, Distance, Map
from unet_jax.errors import UserError
from unet_jax.losses.boundary import boundary
from unet_jax.losses.example import Example
from unet_jax.losses.lovasz import lovasz, lovasz_hinge
from unet_jax.losses.overlap import (
    check_class_mean,
    check_tversky,
    generalised_dice,
    soft_dice,
    tversky,
)
from unet_jax.losses.pixel import (
    MOST_WEIGHT,
    binary_cross_entropy,
    check_cross_entropy,
    check_focal,
    cross_entropy,
    divide_by_sum,
    focal,
    weigh_cross_entropy,
)
from unet_jax.losses.tubes import check_cldice, cldice
from unet_jax.task import Task
from unet_jax.traced import Number, is_on, is_traced


class Term(NamedTuple):
    """A term that a loss can have.

    Attributes:
        function: (Example, **its section but for the weight) -> scalar.
        check: (values by key, number of classes) -> None; raises a UserError where they do not fit.
        is_mean: (values by key) -> whether it is a mean over pixels, so that the loss of several
            batches is the mean of theirs; see `Part`.
        by_class: Its key of factors by class, for which a config may name a rule; "" for none.
        of_rule: Makes these factors of the weights that the rule finds.
    """

    function: Callable[..., jax.Array]
    check: Callable[[Mapping[str, Any], int], None] = lambda values, num_classes: None
    is_mean: Callable[[Mapping[str, Any]], bool] = lambda values: False
    by_class: str = ""
    of_rule: Callable[[tuple[float, ...]], tuple[float, ...]] = lambda weights: weights


def _always(values: Mapping[str, Any]) -> bool:
    return True


def _without_top_k(values: Mapping[str, Any]) -> bool:
    return not is_on(values.get("top_k", 0.0))


_WEIGHTS = "class_weights"
TERMS: dict[str, Term] = {
    "cross_entropy": Term(cross_entropy, check_cross_entropy, _without_top_k, _WEIGHTS),
    "dice": Term(soft_dice, check_class_mean("dice"), by_class=_WEIGHTS),
    "binary_cross_entropy": Term(binary_cross_entropy, is_mean=_always),
    "focal": Term(focal, check_focal, _always, "alpha", divide_by_sum),
    "generalised_dice": Term(generalised_dice),
    "tversky": Term(tversky, check_tversky, by_class=_WEIGHTS),
    "lovasz": Term(lovasz, check_class_mean("lovasz"), by_class=_WEIGHTS),
    "lovasz_hinge": Term(lovasz_hinge, check_class_mean("lovasz_hinge"), by_class=_WEIGHTS),
    "boundary": Term(boundary, is_mean=_always),
    "cldice": Term(cldice, check_cldice),
}
"""By name in config.loss; the defaults of a term's keys stand in `parts.PARTS`."""


def every_term(weight: Number = 1.0, ramp: tuple[Number, ...] = ()) -> None:
    """Has the keys that every term has.

    Args:
        weight: Factor of the term in the sum, 0 or more.
        ramp: What the weight is multiplied by at the first and at the last update of the horizon,
            each from 0 to 1, and linearly between them; () for 1 all the time.
    """


Weighted = tuple[Number, Callable[[Example], jax.Array]]
"""A term and its factor in the sum."""


class Part(NamedTuple):
    """Terms of a loss that are means over pixels by the same weights, which add up over batches.

    The loss of several batches together is the mean of theirs by `batch_weight`.

    Attributes:
        mean: Example -> the weighted sum of the terms.
        weigh: Example -> the weights of the elements, by whose sum the terms divide.
    """

    mean: Callable[[Example], jax.Array]
    weigh: Callable[[Example], jax.Array]

    def batch_weight(self, example: Example) -> jax.Array:
        """Returns the mean of a batch's weights, whose sum the terms were divided by.

        Not their sum, so that gradients times it are of the size of gradients.
        """
        return jnp.mean(self.weigh(example))


@dataclasses.dataclass(frozen=True)
class Loss:
    """A training loss of one head; see `make_loss`.

    Attributes:
        mean: Example -> scalar.
        task: What a label means.
        parts: Whose sum `mean` is. Terms that are no means over pixels are in the first.
        moves: Share of the horizon -> the loss at that time; None where it is always this one, else
            this is the one at the beginning.
    """

    mean: Callable[[Example], jax.Array]
    task: Task
    parts: tuple[Part, ...]
    moves: Callable[[Number | jax.Array], "Loss"] | None = None

    def __call__(
        self,
        logits: jax.Array,
        label: jax.Array,
        weight: jax.Array,
        extras: Mapping[str, jax.Array] = MappingProxyType({}),
    ) -> jax.Array:
        """Computes the loss of a batch; see `Example`."""
        return self.mean(self.example(logits, label, weight, extras))

    def example(
        self,
        logits: jax.Array,
        label: jax.Array,
        weight: jax.Array,
        extras: Mapping[str, jax.Array],
    ) -> Example:
        """Puts a batch together for `mean` and the parts."""
        return Example(logits, label, weight, self.task, extras)


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
        ramp = values["ramp"]
        if len(ramp) not in (0, 2) or not all(0 <= factor <= 1 for factor in ramp):
            raise UserError(
                f"config.loss.{name}.ramp={ramp} must be two factors of the weight from 0 to 1, at "
                "the first and at the last update, or () for none."
            )
        TERMS[name].check(values, num_classes)
    return terms


def make_loss(terms: Mapping[str, Mapping[str, Any]], task: Task) -> Loss:
    """Makes a training loss.

    Args:
        terms: By name of `TERMS`, the arguments of the term, and those of `every_term`.
        task: What a label means.

    Returns:
        loss(logits [B, *n, K], label [B, *n], weight [B, *n]) -> scalar.
    """

    def at(share: Number | jax.Array) -> Loss:
        weighted: dict[str, Weighted] = {}
        for name, section in terms.items():
            values = dict(section)
            weight, ramp = values.pop("weight", 1.0), values.pop("ramp", ())
            if ramp:
                weight *= ramp[0] + (ramp[1] - ramp[0]) * share
            weighted[name] = weight, functools.partial(TERMS[name].function, **values)
        return Loss(_add([*weighted.values()]), task, _split(terms, weighted))

    moves = any(section.get("ramp") for section in terms.values())
    return dataclasses.replace(at(0.0), moves=at if moves else None)


def _split(
    terms: Mapping[str, Mapping[str, Any]], weighted: Mapping[str, Weighted]
) -> tuple[Part, ...]:
    """Splits a loss into parts; other means are apart where cross-entropy has weights of its own.

    Of the first part are the terms that are no means as well, each batch's weighted like those.
    """
    entropy, apart = terms.get("cross_entropy", {}), []
    weigh: Callable[[Example], jax.Array] = _weigh
    if entropy.get("class_weights") or is_on(entropy.get("border_weight", 0.0)):
        weigh = functools.partial(weigh_cross_entropy, **entropy)
        others = [name for name in terms if name != "cross_entropy"]
        apart = [name for name in others if TERMS[name].is_mean(terms[name])]
    first = Part(_add([weighted[name] for name in terms if name not in apart]), weigh)
    return (first, Part(_add([weighted[name] for name in apart]), _weigh)) if apart else (first,)


def _weigh(example: Example) -> jax.Array:
    return example.task.weigh(example.label, example.weight)


def _add(weighted: Sequence[Weighted]) -> Callable[[Example], jax.Array]:
    """Makes the weighted sum of terms, Example -> scalar."""

    def mean(example: Example) -> jax.Array:
        # How sums of gradients over terms round depends on the order in which terms are traced, and
        # on what follows them: the last term comes first, and a first weight of 1 is none.
        losses = [term(example) for _, term in reversed(weighted)][::-1]
        weights = [weight for weight, _ in weighted]
        is_plain = not is_traced(weights[0]) and weights[0] == 1.0
        first = losses[0] if is_plain else weights[0] * losses[0]
        others = [weight * loss for weight, loss in zip(weights[1:], losses[1:], strict=True)]
        return functools.reduce(jnp.add, others, first)

    return mean


def find_maps(
    terms: Mapping[str, Mapping[str, Any]], task: Task, num_classes: int
) -> tuple[Map, ...]:
    """Finds what the terms of a loss need beside the label.

    Args:
        terms: From `check_loss`.
        task: What a label means.
        num_classes: Of the labels.

    Returns:
        The maps, which a batch then has as extras; see `data.pipeline.train_batches`.
    """
    needs = (
        NEEDS[name](values, task, num_classes) for name, values in terms.items() if name in NEEDS
    )
    return tuple(each for each in needs if each)


def _need_border(values: Mapping[str, Any], task: Task, num_classes: int) -> Map | None:
    return Border(values["border_sigma"]) if is_on(values["border_weight"]) else None


def _need_distance(values: Mapping[str, Any], task: Task, num_classes: int) -> Map | None:
    ids: tuple[tuple[int, ...], ...] = ()
    if not task.label_shape:
        classes = np.arange(num_classes)
        members = np.asarray(task.target(classes.astype(np.uint8))) > 0  # pyrefly: ignore
        ids = tuple(tuple(map(int, classes[own])) for own in members.T)
    return Distance(ids, task.channels)


NEEDS: dict[str, Callable[[Mapping[str, Any], Task, int], Map | None]] = {
    "cross_entropy": _need_border,
    "boundary": _need_distance,
}
"""By term that needs a map: (its section, the task, classes of the labels) -> the map, or None."""


def find_ratios(terms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Finds the terms that are no means over pixels; see `Term`.

    Args:
        terms: By name, the arguments of the term.

    Returns:
        Their names. Several batches that make one update differ in them from one large batch.
    """
    return [name for name, values in terms.items() if not TERMS[name].is_mean(values)]
