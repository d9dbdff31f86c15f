"""Verification: every number of a card computed again, from its counts, or from what was scored."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from unet_jax.cards.card import counted_of, find_wrong, read_card
from unet_jax.cards.judge import Counted
from unet_jax.cards.pages import headline
from unet_jax.config import check_sections
from unet_jax.defaults import complete
from unet_jax.errors import UserError
from unet_jax.evaluate import score_run
from unet_jax.process.console import console
from unet_jax.process.runtime import cores
from unet_jax.runs import workdir as run_dir
from unet_jax.runs.provenance import versions
from unet_jax.sharding import describe_devices

_MOST = 20  # lines that are printed


def verify_card(file: Path, config: ConfigDict, workdir: Path | None) -> None:
    """Computes every number of a card again.

    Args:
        file: The card's JSON file.
        config: Of the run in `workdir`.
        workdir: Of the run that the card is of, whose checkpoint is evaluated again; None to
            compute from the counts alone.

    Raises:
        UserError: A number is another, or the run cannot be evaluated.
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
    if workdir is not None:
        _verify_run(card, counted_of(card, file), config, workdir)


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
    differ = {
        name: _images_that_differ(array, found.counts.get(name))
        for name, array in counted.counts.items()
        if len(array) == len(counted.ids)
    }
    if not any(differ.values()):
        console.print(f"{workdir}: evaluated again, every count of every image is the same.")
        return
    others = _other_machine(said)
    first = next(name for name, number in differ.items() if number)
    text = (
        f"{differ[first]} of {len(counted.ids)} images have other counts of {first}"
        f"{_pixels(counted.counts, found.counts)}"
    )
    if not others:
        raise UserError(
            f"--workdir={workdir}: evaluated again, {text}; device, cores and versions are the "
            "card's, so the checkpoint or the data are not."
        )
    console.print(
        f"{workdir}: evaluated again, {text}; sums may round otherwise, since {'; '.join(others)}.",
        markup=False,
    )


def _images_that_differ(one: np.ndarray, other: np.ndarray | None) -> int:
    if other is None or one.shape != other.shape:
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
