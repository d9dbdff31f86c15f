"""The rules of post-processing that val chose, which the counts of its evaluation tell."""

from collections.abc import Sequence
from pathlib import Path

from unet_jax.errors import BrokenFileError, UserError
from unet_jax.metrics.base import Counts
from unet_jax.metrics.choices import Chosen
from unet_jax.metrics.cleaned import KEY, Choice, check_cleaning, choose_rules, to_rules
from unet_jax.metrics.cleaning import AS_IT_IS
from unet_jax.metrics.make import of_metric
from unet_jax.runs import layout
from unet_jax.runs.intact import read_counts

METRIC = "cleaning"


def find_rules(workdir: Path, step: int, class_names: Sequence[str]) -> dict[int, Choice] | None:
    """Finds what an evaluation of val with the weights of a step chose.

    Args:
        workdir: The run's directory.
        step: Of the checkpoint.
        class_names: K names.

    Returns:
        By class id; None where val was not evaluated with `config.eval.metrics.cleaning`.

    Raises:
        BrokenFileError: The counts of that evaluation cannot be read.
    """
    for name in (layout.ENTRIES["val"], f"{layout.ENTRIES['val']}_latest"):
        file = workdir / layout.EVALUATIONS / f"{name}_{step:08d}.npz"
        if file.exists():
            try:
                counts = of_metric(read_counts(file)[1], METRIC)
            except ValueError as error:
                raise BrokenFileError(f"{file} is broken: {error}; evaluate val again.") from None
            if counts:
                return choose_rules(counts, class_names)
    return None


def settle_rules(
    asked: Chosen, workdir: Path, step: int, checkpoint: str, class_names: Sequence[str]
) -> tuple[str, ...]:
    """Returns the rule of each class: that of the config, or what val chose.

    Args:
        asked: The metrics of a config.
        workdir: The run's directory.
        step: Of the checkpoint.
        checkpoint: "best" or "latest".
        class_names: K names.

    Returns:
        Names of `cleaning.RULES`, one for each class; () where the config asks for no cleaning.

    Raises:
        UserError: Val was not evaluated so, or a rule that the config gives is none.
    """
    if METRIC not in asked:
        return ()
    check_cleaning(asked[METRIC], len(class_names))
    if rules := asked[METRIC]["rules"]:
        return tuple(rules)
    found = find_rules(workdir, step, class_names)
    if found is None:
        raise UserError(
            f"{KEY}.rules=() stands for what is chosen on val, where this run was not evaluated "
            f"with it at step {step}: first run --mode=eval --split=val "
            f"--checkpoint={checkpoint} --{KEY}.rules='()', or give a rule for each class."
        )
    return tuple(found[k].rule if k in found else AS_IT_IS for k in range(len(class_names)))


def describe(counts: Counts, class_names: Sequence[str], rules: Sequence[str]) -> list[str]:
    """Says what cleaning did to the pixels of a split, or on val what was chosen.

    Args:
        counts: Of the split, by "METRIC/COUNT".
        class_names: K names.
        rules: Of the classes, K; () on val.

    Returns:
        A line for each class that has a rule, with its counts before and after.
    """
    own = of_metric(counts, METRIC)
    if not own:
        return []
    if not rules:
        return [_choices(choose_rules(own, class_names), class_names)]
    sums, lines = {name: array.sum(axis=0) for name, array in own.items()}, []
    for k in to_rules(rules):
        true = sums["true"][k]
        said = []
        for hit, guessed in (
            (sums["hit"][k, 0], sums["guessed"][k, 0]),
            (sums["cleaned_hit"][k], sums["cleaned_guessed"][k]),
        ):
            either = true + guessed - hit
            score = f"{hit / either:.4f}" if either else "absent"
            said.append(f"IoU {score} ({hit:,} pixels right, {guessed - hit:,} too many)")
        lines.append(
            f"post-processing of {class_names[k]}, {rules[k]}: {said[0]} before, {said[1]} after, "
            f"of {true:,} pixels"
        )
    return lines or ["post-processing: val chose none"]


def _choices(found: dict[int, Choice], class_names: Sequence[str]) -> str:
    """Says in one line what val chose."""
    said = [
        f"{class_names[k]} {one.rule} (IoU {one.before:.4f} to {one.after:.4f})"
        for k, one in found.items()
        if one.rule != AS_IT_IS
    ]
    return f"post-processing chosen on val: {', '.join(said) or 'none, as none surely helps'}"
