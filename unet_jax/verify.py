"""Verification: every number of a card computed again, from its counts, or from what was scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax.cards.card import counted_of, find_wrong, read_card
from unet_jax.cards.judge import Counted
from unet_jax.cards.pages import headline
from unet_jax.config import check_sections
from unet_jax.data.sources import read_loading
from unet_jax.defaults import complete
from unet_jax.errors import UserError
from unet_jax.evaluate import score_run
from unet_jax.metrics.choices import check_metrics
from unet_jax.process.console import console
from unet_jax.process.runtime import cores
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.provenance import versions
from unet_jax.scoring.count import count_masks
from unet_jax.scoring.meaning import find_meaning, read_meaning
from unet_jax.scoring.pairs import find_pairs
from unet_jax.sharding import describe_devices

_MOST = 20  # lines that are printed


class Masks(NamedTuple):
    """Folders of masks from which a card's counts are to come again.

    Attributes:
        predictions: Of the predicted ones, or a pattern; see `scoring.pairs.find_pairs`.
        truth: Of the true ones, likewise.
        predictions_are: What the predicted ones hold; see `scoring.meaning.read_meaning`.
        names_classes: Whether the config says what masks mean; else their values are class ids.
    """

    predictions: str
    truth: str
    predictions_are: str | None = None
    names_classes: bool = True


def verify_card(
    file: Path, config: ConfigDict, workdir: Path | None = None, masks: Masks | None = None
) -> None:
    """Computes every number of a card again.

    Args:
        file: The card's JSON file.
        config: Of the run in `workdir`, or what says what masks mean.
        workdir: Of the run that the card is of, whose checkpoint is evaluated again; None to
            compute from the counts alone.
        masks: From which the counts are to come, instead of from the checkpoint; None for none.

    Raises:
        UserError: A number is another, or what it is to come from cannot be read or evaluated.
    """
    card = read_card(file)
    wrong = find_wrong(card, file)
    for line in wrong[:_MOST]:
        console.print(line, markup=False)
    if wrong:
        raise UserError(
            f"--card={file}: {len(wrong)} things are not what its counts give; the first: "
            f"{wrong[0]}. Take the card that the evaluation wrote, or evaluate again."
        )
    numbers = sum(
        len([x for x in one.values() if x is not None]) for one in card["scores"].values()
    )
    console.print(
        f"{file}: {numbers} numbers of {len(card['scores'])} scores come again, to the digit, from "
        f"the counts of {card['data']['images']} images: {headline(card)}",
        markup=False,
    )
    if masks is not None:
        _verify_masks(card, counted_of(card, file), config, masks)
    elif workdir is not None:
        _verify_run(card, counted_of(card, file), config, workdir)


def _verify_masks(
    card: Mapping[str, Any], counted: Counted, config: ConfigDict, masks: Masks
) -> None:
    """Counts stored masks, and compares."""
    given = masks.predictions, masks.truth
    check_sections(config)
    config = complete(config)
    loading = read_loading(config.data)
    reads = {"workers": loading.workers, "largest": loading.largest_file}
    if masks.names_classes:
        meaning = read_meaning(config, masks.predictions_are)
        own = {"suffix": meaning.suffix, "layers": meaning.layers}
        pairs = find_pairs(*given, **own, names=counted.ids)
    else:
        pairs = find_pairs(*given, names=counted.ids)
        meaning = find_meaning(pairs, **reads)
    classes = len(meaning.task.names)
    if classes != len(counted.class_names):
        raise UserError(
            f"the card is of the {len(counted.class_names)} classes "
            f"{', '.join(counted.class_names)}, and the masks have {classes}; say what they "
            "hold by --config, or --workdir, of the run that the card is of."
        )
    chosen = check_metrics(config.eval.metrics)
    found = count_masks(pairs, meaning, chosen=chosen, **reads)
    order = {name: place for place, name in enumerate(found.ids)}
    rows = [order[name] for name in counted.ids]
    counts = {name: array[rows] for name, array in found.counts.items()}
    differ = _differences(counted, {n: x for n, x in counts.items() if n in counted.counts})
    where = f"{masks.predictions} against {masks.truth}"
    if not differ:
        names = sorted({name.partition("/")[0] for name in counts if name in counted.counts})
        console.print(
            f"{where}: every count of every image of {', '.join(names)} is the same.", markup=False
        )
        return
    raise UserError(
        f"{where}: {_say(differ, counted, counts)}; these are not the masks of --card, or mean "
        "something else."
    )


def _differences(counted: Counted, found: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Returns how many images have other counts, by the names of those that some have."""
    differ = {
        name: _images_that_differ(counted.counts[name], array)
        for name, array in found.items()
        if len(counted.counts[name]) == len(counted.ids)
    }
    return {name: number for name, number in differ.items() if number}


def _say(differ: Mapping[str, int], counted: Counted, found: Mapping[str, np.ndarray]) -> str:
    """Says how many images have other counts, and how many pixels are predicted otherwise."""
    first = next(iter(differ))
    return (
        f"{differ[first]} of {len(counted.ids)} images have other counts of {first}"
        f"{_pixels(counted.counts, found)}"
    )


def _verify_run(card: dict[str, Any], counted: Counted, config: ConfigDict, workdir: Path) -> None:
    """Evaluates the checkpoint again, and compares the counts."""
    said = card["run"]
    if "checkpoint" not in said:
        raise UserError(f"the card is of no run, and --workdir={workdir} is one: leave it out.")
    run_dir.check_same(workdir, config)
    check_sections(config)
    config = complete(config)
    split, checkpoint = card["data"]["split"], said["checkpoint"]
    found = score_run(config, workdir, split=split, checkpoint=checkpoint).evaluated
    if found.step != said["step"]:
        raise UserError(
            f"the card is of step {said['step']}, and the {checkpoint} checkpoint of --workdir="
            f"{workdir} of step {found.step}; give the run that the card is of."
        )
    if tuple(found.source.ids) != tuple(counted.ids):
        raise UserError(
            f"the card is of {len(counted.ids)} images, and the {split} split of the run in "
            f"--workdir={workdir} of {len(found.source.ids)}, of other names; give the card's run."
        )
    lacks = [name for name in counted.counts if name not in found.counts]
    if lacks:
        raise UserError(
            f"the card has counts of {', '.join(lacks)}, which config.eval.metrics of --workdir="
            f"{workdir} does not count: set it as the card's rules say."
        )
    differ = _differences(counted, {name: found.counts[name] for name in counted.counts})
    if not differ:
        console.print(f"{workdir}: evaluated again, every count of every image is the same.")
        return
    others = _other_machine(said)
    text = _say(differ, counted, found.counts)
    if not others:
        raise UserError(
            f"--workdir={workdir}: evaluated again, {text}; device, cores and versions are the "
            "card's, so the checkpoint or the data are not."
        )
    console.print(
        f"{workdir}: evaluated again, {text}; sums may round otherwise, since {'; '.join(others)}.",
        markup=False,
    )


def _images_that_differ(one: np.ndarray, other: np.ndarray) -> int:
    if one.shape != other.shape:
        return len(one)
    return int(np.any((one != other).reshape(len(one), -1), axis=1).sum())


def _pixels(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> str:
    """Says how many pixels are predicted otherwise, at least, where classes exclude each other."""
    name = "overlap/confusion"
    if name not in one or name not in other or one[name].shape != other[name].shape:
        return ""
    moved = int(np.abs(one[name] - other[name]).sum()) // 2
    return f", {moved} of {int(one[name].sum())} pixels are predicted otherwise"


def _other_machine(said: dict[str, Any]) -> list[str]:
    """Says what is other than where the evaluation of a card ran."""
    now = {"devices": describe_devices(), "cores": cores(), "versions": versions()}
    return [
        f"{name} were {said['evaluated_on'].get(name)} and are {value}"
        for name, value in now.items()
        if said.get("evaluated_on", {}).get(name) != value
    ]
