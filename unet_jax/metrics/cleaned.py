"""What each rule of post-processing would make of the overlap, and which one a class gets."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from unet_jax.errors import UserError
from unet_jax.metrics.base import SHARE, Counts, K, Kind, Outcome, Ratio
from unet_jax.metrics.cleaning import AS_IT_IS, RULES, Rule, clean, fill, keep_parts
from unet_jax.metrics.regions import OverImages, components, object_classes
from unet_jax.metrics.resampling import bootstrap, by_image

KEY = "config.eval.metrics.cleaning"
_R, _RESAMPLES = len(RULES), 2000


@dataclasses.dataclass(frozen=True)
class Cleaning(OverImages):
    """The IoU of cleaned predictions, from sums over images, as that of the overlap.

    "cleaned_IoU@RULE/NAME" is that of a class which alone is cleaned, by a rule of
    `cleaning.RULES`; "cleaned_IoU/NAME" that after all classes were, each by its own of `rules`,
    and "cleaned_IoU" its mean over the classes but the one that is called background.

    Attributes:
        rules: The name of each class's rule, K; () for those that were chosen on val, and on val
            for none.
    """

    rules: tuple[str, ...] = ()
    axes: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "true": (K,),
        "hit": (K, _R),
        "guessed": (K, _R),
        "cleaned_hit": (K,),
        "cleaned_guessed": (K,),
    }

    def kinds(self) -> dict[str, Kind]:
        """Returns the names of the scores; see `Metric`."""
        names = [self.class_names[k] for k in object_classes(self.class_names)]
        own = [f"cleaned_IoU/{name}" for name in names]
        by_rule = [f"cleaned_IoU@{rule}/{name}" for rule in RULES for name in names]
        return dict.fromkeys(["cleaned_IoU", *own, *by_rule], SHARE)

    def count(self, outcome: Outcome) -> dict[str, Any]:
        """Counts the pixels of one image, [1, K, ...]; see `Metric`."""
        classes, axes = len(self.class_names), len(outcome.spacing)
        found = {
            name: np.zeros((1, *(axis or classes for axis in lengths)), np.int64)
            for name, lengths in self.axes.items()
        }
        decision, label, weight = (np.asarray(x[0]) for x in outcome[2:5])
        by_class = decision.ndim > axes
        cleaned = clean(decision, to_rules(self.rules), axes)
        for k in object_classes(self.class_names):
            guess, truth, after = (
                x[..., k] > 0 if by_class else x == k for x in (decision, label, cleaned)
            )
            counts = (weight[..., k] if weight.ndim > axes else weight) > 0
            truth = truth & counts
            found["true"][0, k] = np.count_nonzero(truth)
            found["cleaned_hit"][0, k] = np.count_nonzero(after & truth)
            found["cleaned_guessed"][0, k] = np.count_nonzero(after & counts)
            for place, mask in enumerate(_by_rule(guess)):
                found["hit"][0, k, place] = np.count_nonzero(mask & truth)
                found["guessed"][0, k, place] = np.count_nonzero(mask & counts)
        return found

    def ratio(self, name: str, counts: Counts) -> Ratio:
        """Returns what a score is computed from; see `Metric`."""
        measured, _, class_name = name.partition("/")
        _, _, rule = measured.partition("@")
        if rule:
            place = [*RULES].index(rule)
            hit, guessed = counts["hit"][..., place], counts["guessed"][..., place]
        else:
            hit, guessed = counts["cleaned_hit"], counts["cleaned_guessed"]
        either = counts["true"] + guessed - hit
        return self.of_class(Ratio(hit, either, either), class_name)


def _by_rule(guess: np.ndarray) -> list[np.ndarray]:
    """Cleans the mask of a class by each rule."""
    numbers, kept = components(guess, "sides"), {}
    for rule in RULES.values():
        removal = rule._replace(holes=False)
        if removal not in kept:
            kept[removal] = keep_parts(numbers, removal)
    return [
        fill(kept[rule._replace(holes=False)]) if rule.holes else kept[rule]
        for rule in RULES.values()
    ]


def to_rules(names: Sequence[str]) -> dict[int, Rule]:
    """Returns the rules by class id, but those that change nothing, of one name for each class."""
    return {k: RULES[name] for k, name in enumerate(names) if name != AS_IT_IS}


class Choice(NamedTuple):
    """The rule of a class.

    Attributes:
        rule: Its name in `RULES`.
        before: IoU without it; None where the class is absent.
        after: IoU with it, of a class that alone is cleaned.
        low: Lower end of the interval of the difference.
    """

    rule: str
    before: float | None
    after: float | None
    low: float


def choose_rules(counts: Counts, class_names: Sequence[str]) -> dict[int, Choice]:
    """Chooses the rule of each class.

    It is the one of the highest IoU, the first of equal ones, where the interval of what it adds
    (95%, over images; see `resampling.bootstrap`) is above 0; else, and of less than ten images
    with the class, none.

    Args:
        counts: Those of `Cleaning`, by their own names, of val.
        class_names: K names.

    Returns:
        By class id, but of the background.
    """
    metric, found = Cleaning(tuple(class_names)), {}
    for k in object_classes(class_names):
        name = class_names[k]
        of_rules = [by_image(metric, f"cleaned_IoU@{rule}/{name}", counts) for rule in RULES]
        if not any((one.present > 0).any() for one in of_rules):
            found[k] = Choice(AS_IT_IS, None, None, 0.0)
            continue
        values = np.nan_to_num([one.whole() for one in of_rules])
        best, before = int(np.argmax(values)), float(values[0])
        pair = [[of_rules[0]], [of_rules[best]]]
        ends = bootstrap(pair, base=0, resamples=_RESAMPLES).differences[1] if best else ""
        low = ends[0] if isinstance(ends, tuple) else 0.0
        rule, after = ([*RULES][best], float(values[best])) if low > 0 else (AS_IT_IS, before)
        found[k] = Choice(rule, before, after, low)
    return found


def check_cleaning(values: Mapping[str, Any], num_classes: int) -> None:
    """Checks the arguments of `Cleaning`, by name.

    Raises:
        UserError: One does not fit.
    """
    rules = values["rules"]
    if rules and (len(rules) != num_classes or not set(rules) <= set(RULES)):
        raise UserError(
            f"{KEY}.rules={rules} must be one rule for each of {num_classes} classes, of "
            f"{', '.join(RULES)}; or () for those that were chosen on val."
        )
