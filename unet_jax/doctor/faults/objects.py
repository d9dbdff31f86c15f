"""Objects that are too small for the network."""

from collections.abc import Iterator

import numpy as np

from unet_jax.doctor.finding import Finding, setting
from unet_jax.doctor.objects import AREA, CLASS, LONGEST
from unet_jax.doctor.survey import Survey

ENOUGH = 20  # objects of a class


def small_objects(survey: Survey) -> Iterator[Finding]:
    """Names classes most of whose pixels are in objects below one pixel of the deepest level."""
    sides, areas = sizes(survey)
    if not survey.stride or survey.loading is None or not survey.is_understood():
        return
    small = {}
    for own, name in enumerate(survey.class_names):
        if len(sides.get(own, ())) < ENOUGH:
            continue
        middle = middle_by_area(sides[own], areas[own])
        if middle < survey.stride:
            small[name] = middle
    if not small:
        return
    least = min(small.values())
    levels, stride = survey.levels, survey.stride
    while levels > 2 and stride > least:
        levels, stride = levels - 1, stride // 2
    features = survey.config.model.features
    listed = ", ".join(f"{name} ({side:.0f} pixels)" for name, side in small.items())
    is_plain = survey.config.model.encoder == "blocks" and len(features) == survey.levels
    yield Finding(
        "small_objects",
        "warning",
        (),
        f"half of the pixels of {listed} are in objects whose longest side, as the network reads "
        f"them, is below the {survey.stride} pixels that are one at its deepest level; at "
        f"{levels} levels one is {stride}",
        setting("model.features", tuple(features[:levels]))
        if is_plain
        else "Make config.data.image_size larger, or take a network of fewer levels.",
    )


def sizes(survey: Survey) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Returns by class the longest sides and areas of objects, in pixels as the network reads."""
    sides: dict[int, list[float]] = {}
    areas: dict[int, list[float]] = {}
    for _, one in survey.all():
        if one.objects is None or survey.loading is None or not one.shape:
            continue
        if len(survey.loading.image_size) != len(one.shape):
            continue  # of volumes, with a config for images
        scale = 1.0
        if survey.loading.fit == "resize":
            ratios = np.divide(survey.loading.image_size, one.shape)
            scale = float(np.exp(np.log(ratios).mean()))
        for row in one.objects:
            sides.setdefault(int(row[CLASS]), []).append(row[LONGEST] * scale)
            areas.setdefault(int(row[CLASS]), []).append(row[AREA] * scale**2)
    return (
        {own: np.array(found) for own, found in sides.items()},
        {own: np.array(found) for own, found in areas.items()},
    )


def middle_by_area(sides: np.ndarray, areas: np.ndarray) -> float:
    """Returns the side up to which objects hold half of all pixels."""
    order = np.argsort(sides)
    total = np.cumsum(areas[order])
    return float(sides[order][np.searchsorted(total, total[-1] / 2)])
