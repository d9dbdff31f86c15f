"""What was chosen on val, such as a temperature, for the evaluations of other splits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unet_jax import config as configs
from unet_jax.errors import UserError
from unet_jax.metrics.choices import CHOICES, Chosen, check_metrics
from unet_jax.runs import layout, looks
from unet_jax.runs.cleaned import METRIC, settle_rules

Scores = Mapping[str, float | None]


class Told(NamedTuple):
    """What the metrics of an evaluation are told.

    Attributes:
        metrics: As `make_metrics` takes them.
        said: Of values that can be chosen on val, what results.json says: "KEY_from_val" or
            "KEY_given", such as "temperature_from_val".
    """

    metrics: Chosen
    said: dict[str, float]


def settle(asked: Chosen, workdir: Path, split: str, checkpoint: str, trained: Any) -> Told:
    """Puts what was chosen on val, with the same weights, in the place of what is not given.

    Args:
        asked: The metrics of a config.
        workdir: The run's directory.
        split: That is evaluated; val takes nothing.
        checkpoint: "best" or "latest".
        trained: What is evaluated: its step, its network, and its scores on val in training.

    Returns:
        What the metrics are told.

    Raises:
        UserError: No evaluation of val says it.
    """
    metrics, said = {name: dict(values) for name, values in asked.items()}, {}
    for name, values in asked.items():
        for key, score in CHOICES[name].of_val.items():
            if values[key]:
                said[f"{key}_given"] = values[key]
            elif split != "val":
                found = _find(workdir, name, values, key, score, trained)
                if found is None:
                    raise UserError(
                        f"config.eval.metrics.{name}.{key}=0.0 stands for what is chosen on val, "
                        f"where this run was not evaluated with it at step {trained.step}: "
                        f"first run --mode=eval --split=val --checkpoint={checkpoint} with the "
                        "same config.eval.metrics, or give a number."
                    )
                metrics[name][key] = said[f"{key}_from_val"] = found
    if METRIC in metrics and split != "val":
        names = trained.network.task.names
        metrics[METRIC]["rules"] = settle_rules(asked, workdir, trained.step, checkpoint, names)
    return Told(metrics, said)


def choose(metrics: Chosen, scores: Scores) -> dict[str, float | None]:
    """Returns what an evaluation of val chose, by "METRIC.KEY".

    Args:
        metrics: That it had.
        scores: That it found.
    """
    keys = {name: CHOICES[name].of_val.items() for name in metrics}
    return {f"{name}.{key}": scores[score] for name in keys for key, score in keys[name]}


def _find(
    workdir: Path, name: str, values: Mapping[str, Any], key: str, score: str, trained: Any
) -> float | None:
    """Finds a value in the last evaluation of val that counted alike, or in that of training."""

    def counts_alike(metrics: Mapping[str, Any]) -> bool:
        others = {**configs.tuples(metrics.get(name, {})), key: 0.0}
        return others == {**values, key: 0.0}

    for line in reversed(looks.read(workdir)):
        is_of_val = (line.get("split"), line.get("step")) == ("val", trained.step)
        if is_of_val and counts_alike(line.get("metrics", {})):
            return line.get("of_val", {}).get(f"{name}.{key}")
    own = check_metrics(configs.load(workdir / layout.CONFIG).eval.get("metrics", {}))
    return trained.scores.get(score) if counts_alike(own) else None
