"""What a label means: the only home of argmax, softmax, sigmoid and one-hot of logits, labels."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from unet_jax.config import choose
from unet_jax.errors import UserError
from unet_jax.traced import Switch, is_on

IGNORE = 255  # in labels: pixels that count neither in the loss nor in the scores
BACKGROUND = 0  # what a mask holds where no region is
CERTAIN = 1e30  # log odds of what cannot be otherwise


class Task(Protocol):
    """What a label means, and what a network's logits [..., K] say of it.

    A loss and an accuracy are means over *elements*: over pixels where a pixel has one class, over
    pixels and channels where each channel is a question of its own.

    Attributes:
        decides: What a decision is: class ids "ids" [...], or "masks" [..., K] of 0 and 1; so are
            the metrics that count it.
    """

    decides: ClassVar[Literal["ids", "masks"]]

    @property
    def names(self) -> tuple[str, ...]:
        """Returns K names, of what the channels of the logits stand for."""
        ...

    @property
    def channels(self) -> int:
        """Returns K."""
        ...

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Returns the shape of a pixel's label: () of a class id, (K,) of 0 and 1 by class."""
        ...

    def target(self, label: jax.Array) -> jax.Array:
        """Returns the probabilities float32 [..., K], each 0 or 1, that a label stands for."""
        ...

    def probability(self, logits: jax.Array) -> jax.Array:
        """Returns the probabilities [..., K], in [0, 1], that logits stand for."""
        ...

    def log_odds(self, logits: jax.Array) -> jax.Array:
        """Returns log p - log(1 - p) of the probabilities p [..., K] that logits stand for."""
        ...

    def decide(self, logits: jax.Array) -> jax.Array:
        """Decides what every element is."""
        ...

    def choose(self, probability: np.ndarray) -> np.ndarray:
        """Decides by probabilities [..., K], such as means of several, as `decide` by logits."""
        ...

    def entropy(self, probability: np.ndarray) -> np.ndarray:
        """Returns how uncertain probabilities [..., K] are, in nats, for every element."""
        ...

    def truth(self, label: jax.Array) -> jax.Array:
        """Returns the right decision, as `decide` would return it."""
        ...

    def mask(self, decision: jax.Array) -> jax.Array:
        """Returns the mask uint8 of a decision, as it is written: of the shape of a label."""
        ...

    def right_mask(self, label: np.ndarray) -> np.ndarray:
        """Returns the mask uint8 of the right decision; `IGNORE` in a label stays."""
        ...

    def cross_entropy(
        self, logits: jax.Array, label: jax.Array, label_smoothing: Switch = 0.0
    ) -> jax.Array:
        """Returns the cross-entropy of every element, 0 or more.

        Args:
            logits: float32 [..., K].
            label: Valid everywhere, also where the weight is 0.
            label_smoothing: a in [0, 1), by which the target is blurred.
        """
        ...

    def weigh(
        self, label: jax.Array, weight: jax.Array, class_weights: tuple[float, ...] = ()
    ) -> jax.Array:
        """Returns the weight of every element.

        Args:
            label: Of a batch.
            weight: Of the pixels, [...], 0 or more.
            class_weights: K factors; empty for 1 each.
        """
        ...


def _p_log_p(probability: np.ndarray) -> np.ndarray:
    """Returns p log p, 0 where p is 0."""
    return probability * np.log(np.where(probability > 0, probability, 1))


@dataclasses.dataclass(frozen=True)
class Exclusive:
    """Every pixel has one class: softmax over the classes; the elements are the pixels.

    Attributes:
        names: Of the K classes, whose ids a label [...] holds.
    """

    names: tuple[str, ...]
    decides: ClassVar[Literal["ids", "masks"]] = "ids"

    @property
    def channels(self) -> int:
        """Returns K; see `Task`."""
        return len(self.names)

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Returns (), since a label is a class id; see `Task`."""
        return ()

    def target(self, label: jax.Array) -> jax.Array:
        """Returns one-hot vectors; see `Task`."""
        return jax.nn.one_hot(label, self.channels)

    def probability(self, logits: jax.Array) -> jax.Array:
        """Returns the softmax; see `Task`."""
        return jax.nn.softmax(logits)

    def log_odds(self, logits: jax.Array) -> jax.Array:
        """Returns z_k - log sum_{j != k} exp z_j; `CERTAIN` of the only class. See `Task`."""
        is_largest = jax.nn.one_hot(jnp.argmax(logits, axis=-1), self.channels) > 0
        # The sum without its largest term is taken anew: of a difference nothing would be left.
        beside_largest = jax.nn.logsumexp(
            jnp.where(is_largest, -CERTAIN, logits), axis=-1, keepdims=True
        )
        largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
        terms = jnp.exp(logits - largest)
        others = jnp.where(is_largest, 1, jnp.sum(terms, axis=-1, keepdims=True) - terms)
        return logits - jnp.where(is_largest, beside_largest, largest + jnp.log(others))

    def decide(self, logits: jax.Array) -> jax.Array:
        """Returns the class int32 [...] of the largest logit, and so of the largest probability."""
        return jnp.argmax(logits, axis=-1)

    def choose(self, probability: np.ndarray) -> np.ndarray:
        """Returns the class of the largest probability, the first of equal ones; see `Task`."""
        return np.argmax(probability, axis=-1)

    def entropy(self, probability: np.ndarray) -> np.ndarray:
        """Returns -sum_k p_k log p_k of every pixel, 0 to log K; see `Task`."""
        return -_p_log_p(probability).sum(axis=-1)

    def truth(self, label: jax.Array) -> jax.Array:
        """Returns the label itself; see `Task`."""
        return label

    def mask(self, decision: jax.Array) -> jax.Array:
        """Returns the class ids; see `Task`."""
        return decision.astype(jnp.uint8)

    def right_mask(self, label: np.ndarray) -> np.ndarray:
        """Returns the label itself; see `Task`."""
        return label

    def cross_entropy(
        self, logits: jax.Array, label: jax.Array, label_smoothing: Switch = 0.0
    ) -> jax.Array:
        """Returns -sum_k y_k log p_k of every pixel; see `Task`.

        The target y is (1 - a) one-hot + a / K (Szegedy et al., 2016, section 7).
        """
        if is_on(label_smoothing):
            target = optax.smooth_labels(self.target(label), label_smoothing)
            return optax.softmax_cross_entropy(logits, target)
        return optax.softmax_cross_entropy_with_integer_labels(logits, label)

    def weigh(
        self, label: jax.Array, weight: jax.Array, class_weights: tuple[float, ...] = ()
    ) -> jax.Array:
        """Returns the weights of pixels, times those of their classes; see `Task`."""
        return weight * jnp.asarray(class_weights)[label] if class_weights else weight


@dataclasses.dataclass(frozen=True)
class _Independent(abc.ABC):
    """Every channel is a yes or no of its own: sigmoid; the elements are pixels and channels."""

    names: tuple[str, ...]
    decides: ClassVar[Literal["ids", "masks"]] = "masks"

    @property
    def channels(self) -> int:
        """Returns K; see `Task`."""
        return len(self.names)

    @abc.abstractmethod
    def target(self, label: jax.Array) -> jax.Array:
        """Returns 1 where a channel is on; see `Task`."""

    def probability(self, logits: jax.Array) -> jax.Array:
        """Returns the sigmoid; see `Task`."""
        return jax.nn.sigmoid(logits)

    def log_odds(self, logits: jax.Array) -> jax.Array:
        """Returns the logits themselves; see `Task`."""
        return logits

    def decide(self, logits: jax.Array) -> jax.Array:
        """Returns bool [..., K]: where the probability is above 1/2, and so the logit above 0."""
        return logits > 0

    def choose(self, probability: np.ndarray) -> np.ndarray:
        """Returns bool [..., K]: where the probability is above 1/2; see `Task`."""
        return probability > 0.5

    def entropy(self, probability: np.ndarray) -> np.ndarray:
        """Returns -p log p - (1 - p) log(1 - p) [..., K], 0 to log 2; see `Task`."""
        return -_p_log_p(probability) - _p_log_p(1 - probability)

    def truth(self, label: jax.Array) -> jax.Array:
        """Returns bool [..., K]: where a channel is on; see `Task`."""
        return self.target(label) > 0

    def cross_entropy(
        self, logits: jax.Array, label: jax.Array, label_smoothing: Switch = 0.0
    ) -> jax.Array:
        """Returns -y log p - (1 - y) log(1 - p) of every pixel and channel; see `Task`.

        The target y is (1 - a) truth + a / 2, as of two classes.
        """
        target = self.target(label)
        if is_on(label_smoothing):
            target = (1 - label_smoothing) * target + label_smoothing / 2
        return optax.sigmoid_binary_cross_entropy(logits, target)

    def weigh(
        self, label: jax.Array, weight: jax.Array, class_weights: tuple[float, ...] = ()
    ) -> jax.Array:
        """Returns the weights of pixels [..., K], times those of the channels; see `Task`."""
        weight = jnp.broadcast_to(weight[..., None], (*weight.shape, self.channels))
        if not class_weights:
            return weight
        return weight * jnp.broadcast_to(jnp.asarray(class_weights), weight.shape)


@dataclasses.dataclass(frozen=True)
class MultiLabel(_Independent):
    """A pixel may be of several classes, or of none.

    Attributes:
        names: Of the K classes; a label [..., K] is 1 where a class is.
    """

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Returns (K,); see `Task`."""
        return (self.channels,)

    def target(self, label: jax.Array) -> jax.Array:
        """Returns the label; see `Task`."""
        return label.astype(jnp.float32)

    def mask(self, decision: jax.Array) -> jax.Array:
        """Returns 0 and 1 by class, uint8 [..., K]; see `Task`."""
        return decision.astype(jnp.uint8)

    def right_mask(self, label: np.ndarray) -> np.ndarray:
        """Returns the label itself; see `Task`."""
        return label


@dataclasses.dataclass(frozen=True)
class Regions(_Independent):
    """A pixel has one class, and regions, which may overlap, are unions of classes.

    As in nnU-Net for brain tumours (Isensee et al., 2020) and its `regions_class_order`, a mask is
    written region by region, in their order: each one's id wherever it is on, over those before.

    Attributes:
        names: Of the K regions.
        ids: Of the classes of every region.
        written: The class id that stands for each region in a mask.
    """

    ids: tuple[tuple[int, ...], ...]
    written: tuple[int, ...]

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Returns (), since a label is a class id; see `Task`."""
        return ()

    def _members(self) -> np.ndarray:
        """Returns bool [256, K]: which regions a class is in."""
        return np.stack([np.isin(np.arange(256), ids) for ids in self.ids], axis=-1)

    def target(self, label: jax.Array) -> jax.Array:
        """Returns 1 for the regions that a pixel's class is in; see `Task`."""
        return jnp.asarray(self._members(), jnp.float32)[label]

    def mask(self, decision: jax.Array) -> jax.Array:
        """Returns class ids uint8 [...], `BACKGROUND` where no region is; see `Task`."""
        mask = jnp.full(decision.shape[:-1], BACKGROUND, jnp.uint8)
        for channel, written in enumerate(self.written):
            mask = jnp.where(decision[..., channel], jnp.uint8(written), mask)
        return mask

    def right_mask(self, label: np.ndarray) -> np.ndarray:
        """Returns the label with every class as the regions that it is in are written."""
        table = np.full(256, BACKGROUND, np.uint8)
        for members, written in zip(self._members().T, self.written, strict=True):
            table[members] = written
        table[IGNORE] = IGNORE
        return table[label]


KINDS: dict[str, Callable[..., Task]] = {
    "exclusive": Exclusive,
    "multilabel": MultiLabel,
    "regions": Regions,
}
"""By name in config.task.kind."""


def make_task(
    kind: str = "exclusive",
    regions: tuple[tuple[str, tuple[int, ...], int], ...] = (),
    *,
    class_names: tuple[str, ...],
) -> Task:
    """Makes the task of a config.

    Args:
        kind: "exclusive" where every pixel has one class, "multilabel" where it may have several or
            none, "regions" where the network learns unions of classes.
        regions: Of "regions": for each one its name, the ids of its classes, and the id that it has
            in a mask. They are written in this order, later ones over earlier ones.
        class_names: Of the labels.

    Returns:
        The task.

    Raises:
        UserError: A value does not fit.
    """
    make = choose(KINDS, "config.task.kind", kind)
    if (make is Regions) != bool(regions):
        raise UserError(
            f"config.task.regions={regions} does not fit config.task.kind={kind!r}: name regions "
            "with kind='regions', and with no other."
        )
    if make is not Regions:
        return make(class_names)
    for region in regions:
        _check_region(region, len(class_names))
    names, ids, written = zip(*regions, strict=True)
    if len(set(names)) < len(names):
        raise UserError(f"config.task.regions has a name twice: {', '.join(names)}.")
    return Regions(names, ids, written)


def _check_region(region: Any, num_classes: int) -> None:
    def is_id(value: Any) -> bool:
        return type(value) is int and 0 <= value < num_classes

    fits = isinstance(region, tuple) and len(region) == 3 and isinstance(region[0], str)
    if not (fits and isinstance(region[1], tuple) and region[1]) or not all(
        map(is_id, (*region[1], region[2]))
    ):
        raise UserError(
            f"config.task.regions has {region!r}; each entry must be (name, (class id, ...), class "
            f"id in a mask), such as ('tumour', (1, 2), 1), with ids from 0 to {num_classes - 1}."
        )
