"""Stacks whose pages are in several splits."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unet_jax.doctor.faults.files import files_of
from unet_jax.doctor.faults.splits import ALIKE, without_split
from unet_jax.doctor.finding import Finding, setting
from unet_jax.doctor.look import Look
from unet_jax.doctor.survey import Survey

PATTERN = r"^(.*)/\d+$"  # of the id of a page, whose stack is before its number


class _Page(NamedTuple):
    number: int
    split: str
    look: Look


def pages(survey: Survey) -> Iterator[Finding]:
    """Names stacks whose neighbouring pages look alike and are dealt to splits one by one."""
    stacks: dict[str, list[_Page]] = {}
    for split, one in survey.all():
        if one.stack and one.means is not None:
            stacks.setdefault(one.stack, []).append(_Page(one.page, split, one))
    ordered = [sorted(of, key=lambda page: page.number) for of in stacks.values()]
    folds = survey.config.data.folds
    dealt = [of for of in ordered if _is_dealt([page.split for page in of], folds)]
    beside = [
        (one, other)
        for of in dealt
        for one, other in itertools.pairwise(of)
        if one.number + 1 == other.number and one.split != other.split
    ]
    if not beside:
        return
    differ = np.median([(one.look.phash ^ other.look.phash).bit_count() for one, other in beside])
    if differ > ALIKE:
        return  # as in a file of images that have nothing to do with each other
    held = [page.look for of in dealt for page in of if page.split != "train"]
    leaking = {id(page.look) for pair in beside for page in pair}
    found = [one for one in held if id(one) in leaking]
    yield Finding(
        "pages",
        "warning",
        files_of(found),
        f"{len(found)} of the {len(held)} pages for validation and test in {len(dealt)} of "
        f"{len(stacks)} stacks, such as {found[0].stack}, lie beside pages of another split, and "
        f"neighbours look alike ({differ:g} of 64 bits differ), so that scores are too good",
        _keep_stacks(survey, len(stacks)),
    )


def _is_dealt(splits: Sequence[str], folds: int) -> bool:
    """Tells whether pages of a stack are in several splits, and no split has a block of them.

    Folds have no blocks: what of a fold lies together does so by chance.
    """
    if folds:
        return len({*splits}) > 1
    runs = [split for split, _ in itertools.groupby(splits) if split != "train"]
    return len(runs) > len({*runs})


def _keep_stacks(survey: Survey, count: int) -> str:
    """Writes the lines that keep stacks whole; or what to do where they cannot be."""
    data = survey.config.data
    if not data.folds:
        return "List pages that follow each other for each split, or keep stacks whole."
    if count < 2:
        return (
            "Pages are dealt to folds one by one, and one stack cannot be dealt otherwise: with "
            "config.data.folds=0 the last fifth of its pages is for validation, and only the pages "
            "at one border have neighbours in training."
        )
    names = [without_split(one.id) for _, one in survey.all()]
    is_free = not any(data.split[f"group_{key}"] for key in ("pattern", "folders", "column"))
    if not is_free or not all("/" in name for name in names):
        return "Choose groups that keep each stack whole, by the keys of config.data.split."
    lines = [setting("data.split.group_pattern", PATTERN)]
    if data.folds > count:
        lines += [setting("data.folds", count), setting("data.fold", data.fold % count)]
    return "\n".join(lines)
