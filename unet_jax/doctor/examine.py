"""Looks at a data set, applies what would make its masks readable, and looks again."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax.doctor.faults import FAULTS, find
from unet_jax.doctor.finding import Finding
from unet_jax.doctor.mends import apply, settings
from unet_jax.doctor.recommend import Value, as_values, recommend
from unet_jax.doctor.survey import Survey, survey

MOST_LOOKS = 3
READING = ("class_names", "label_map", "ignore_values", "nearest")
"""Keys of config.data.folder that change what masks mean, so that more can be seen after."""


class Examination(NamedTuple):
    """What the doctor found.

    Attributes:
        surveys: The first look at the data, and those after the masks could be read.
        mended: By key of a config, what was changed for the last look.
        findings: Of all looks, errors first.
        recommended: Values for the page.
        config: The whole config with these values.
    """

    surveys: tuple[Survey, ...]
    mended: Mapping[str, Any]
    findings: tuple[Finding, ...]
    recommended: tuple[Value, ...]
    config: ConfigDict

    @property
    def survey(self) -> Survey:
        """Returns the last look."""
        return self.surveys[-1]

    def count(self, level: str) -> int:
        """Returns the number of errors, or of warnings."""
        return sum(one.level == level for one in self.findings)

    def left(self) -> list[Finding]:
        """Returns the errors that the recommended values do not mend."""
        return [one for one in self.findings if one.level == "error" and not one.is_config()]


def examine(config: ConfigDict, threads: int | None = None, devices: int = 1) -> Examination:
    """Looks at every image and mask of a config's data, and says what is wrong.

    Where masks cannot be read as the config says and a finding says how they can, the data are
    looked at again with that, so that what depends on classes is seen too.

    Args:
        config: The whole config.
        threads: That decode; None for one a core.
        devices: Over which the images of a batch are split in training.

    Returns:
        What was found.

    Raises:
        UserError: The config is no config.
    """
    surveys, findings, mended = [], [], {}
    while True:
        seen = survey(config, threads)
        found = find(seen)
        known = {one.fault for one in findings}
        findings += [one for one in found if one.fault not in known]
        surveys.append(seen)
        errors = settings(one for one in found if one.level == "error")
        values = {key: value for key, (value, _) in errors.items()}
        if not any(f"data.folder.{key}" in values for key in READING):
            break
        if len(surveys) == MOST_LOOKS:
            break
        config, mended = apply(seen.config, values), mended | values
    order = [*FAULTS]
    findings.sort(key=lambda one: (one.level != "error", order.index(one.fault)))
    recommended = recommend(surveys[-1], findings, devices)
    whole = apply(surveys[-1].config, as_values(recommended))
    return Examination(tuple(surveys), mended, tuple(findings), tuple(recommended), whole)


class ClassShare(NamedTuple):
    """How often a class is.

    Attributes:
        name: Of the class; "" for pixels that count nowhere.
        pixels: How many.
        share: Of all pixels that count; of one class each where classes overlap.
        images: That hold it.
    """

    name: str
    pixels: int
    share: float
    images: int


def class_shares(survey: Survey) -> list[ClassShare]:
    """Counts the classes of all masks of a survey, and at the end what counts nowhere."""
    counts = [one.classes for _, one in survey.all() if one.classes is not None]
    if not counts:
        return []
    by_image = np.stack(counts)
    names = survey.class_names or tuple(f"class {k}" for k in range(by_image.shape[1] - 1))
    pixels, images = by_image.sum(axis=0), (by_image > 0).sum(axis=0)
    total = pixels[:-1].sum()
    if survey.by_class:
        masks = [one for _, one in survey.all() if one.classes is not None]
        total = sum(int(np.prod(one.mask_shape)) for one in masks)
    shares = [
        ClassShare(name, int(pixels[k]), float(pixels[k] / max(1, total)), int(images[k]))
        for k, name in enumerate(names)
    ]
    every = max(1, int(pixels.sum()))
    return [*shares, ClassShare("", int(pixels[-1]), float(pixels[-1] / every), int(images[-1]))]
