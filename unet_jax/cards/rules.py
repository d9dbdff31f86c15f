"""By which rules the scores of a card are computed, in sentences."""

import inspect

from unet_jax.cards.judge import Counted
from unet_jax.metrics import make as metrics
from unet_jax.metrics.choices import Chosen
from unet_jax.metrics.views import View

VOID = "Pixels that are ignored in the label count neither as truth nor as prediction."
INTERVALS = "An interval is of images drawn anew, 95%, a studentised bootstrap of 10,000 draws."


def say_rules(counted: Counted, chosen: Chosen) -> list[str]:
    """Says what each view counts as what, how each metric is defined, and what it was told.

    Args:
        counted: What was counted.
        chosen: Of config.eval.metrics; said is what was told to metrics that were counted.

    Returns:
        A sentence, or several, for each.
    """
    names = tuple(counted.class_names)
    made = metrics.of_counts(counted.counts, names, counted.views)
    rules = [_say_view(view, names) for view in counted.views]
    rules += [f"{key}: {_definition(metric)}" for key, metric in made.items()]
    told = {key: dict(values) for key, values in chosen.items() if values and key in made}
    return rules + [f"config.eval.metrics.{key}: {values}" for key, values in told.items()]


def _say_view(view: View, names: tuple[str, ...]) -> str:
    """Says what a view counts as what."""
    own = view.class_names
    truth = [f"{n} counts as {own[k]}" for n, k in zip(names, view.truth, strict=True) if k >= 0]
    left_out = [f"{n} is left out" for n, k in zip(names, view.truth, strict=True) if k < 0]
    guess = [f"{n} as {own[k]}" for n, k in zip(names, view.prediction, strict=True)]
    return f"{view.name}: in truth {', '.join(truth + left_out)}; predicted {', '.join(guess)}."


def _definition(metric: metrics.Metric) -> str:
    """Returns what a metric's documentation says of its scores."""
    text = inspect.getdoc(type(metric)) or ""
    return " ".join(text.partition("\nAttributes:")[0].split())
