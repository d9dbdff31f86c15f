"""Post-processing of what is predicted, and what it changes."""

from collections.abc import Sequence

import numpy as np

from unet_jax.metrics.cleaned import to_rules
from unet_jax.metrics.cleaning import clean
from unet_jax.process.console import console
from unet_jax.task import Task


class Cleaner:
    """Cleans labels by the rules of their classes, and counts what changes."""

    def __init__(self, class_names: Sequence[str], rules: Sequence[str], axes: int) -> None:
        """Takes the names of the classes and of their rules, () for none, and axes of pixels."""
        self._said = [f"{name} {rule}" for name, rule in zip(class_names, rules, strict=False)]
        self._rules, self._axes = to_rules(rules), axes
        self._said = [self._said[k] for k in self._rules]
        self._images = self._changed_images = self._pixels = self._changed = 0

    def __bool__(self) -> bool:
        """Tells whether there are rules."""
        return bool(self._rules)

    def clean(self, label: np.ndarray) -> np.ndarray:
        """Returns a label cleaned; see `cleaning.clean`."""
        if not self._rules:
            return label
        cleaned = clean(label, self._rules, self._axes)
        changed = int(np.count_nonzero(cleaned != label))
        self._images += 1
        self._changed_images += changed > 0
        self._pixels += label.size
        self._changed += changed
        return cleaned

    def line(self) -> str:
        """Says in one line what changed; "" where there are no rules."""
        if not self._rules:
            return ""
        share = self._changed / max(1, self._pixels)
        return (
            f"post-processing ({', '.join(self._said)}) changed {share:.3%} of the pixels, in "
            f"{self._changed_images} of {self._images} images"
        )


def make_cleaner(task: Task, rules: Sequence[str], axes: int) -> Cleaner:
    """Makes what cleans the masks of a task; those of regions, which hold each other, stay."""
    if to_rules(rules) and task.decides == "masks" and not task.label_shape:
        console.print("post-processing is not applied to masks of regions, which hold each other")
        rules = ()
    return Cleaner(task.names, rules, axes)
