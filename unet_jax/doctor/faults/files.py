"""Files that cannot be read, or not together."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from unet_jax.doctor.finding import Finding, Level, excluding
from unet_jax.doctor.look import Look
from unet_jax.doctor.survey import Survey

GAIN = 0.1  # of edges under a mask's borders, by the mean of the image
_AS_TURN = {2: 1, 3: 3, 4: 2, 5: 4, 6: 6, 7: 7, 8: 5}  # of an orientation, in alignment.TURNS
KEPT_OUT = "Take them out of the lists of names, or mend the files."


def opening(survey: Survey) -> Iterator[Finding]:
    """Names why the data do not open as the config says."""
    yield from (one for one in survey.opening if one.fault == "opening")


def pairs(survey: Survey) -> Iterator[Finding]:
    """Names images without a mask, masks without an image, and names in lists without one."""
    yield from (one for one in survey.opening if one.fault == "pairs")


def unreadable(survey: Survey) -> Iterator[Finding]:
    """Names files that are truncated, damaged or of no kind that is read."""
    kinds = ("files", "image", "weight")
    found = [one for _, one in survey.all() if one.failed in kinds]
    # A mask of colours has a fault of its own.
    found += [one for _, one in survey.all() if one.failed == "mask" and not one.colours]
    yield from of_images(survey, "unreadable", "error", found, _first_error("cannot be read"))


def not_finite(survey: Survey) -> Iterator[Finding]:
    """Names images with NaN or infinite values."""
    found = [one for _, one in survey.all() if one.failed == "finite"]
    yield from of_images(survey, "not_finite", "error", found, _first_error("are not finite"))


def sizes(survey: Survey) -> Iterator[Finding]:
    """Names images whose mask has another size, for another reason than how the file is turned."""
    found = [one for _, one in survey.all() if one.failed == "sizes" and not _is_turned(one)]
    says = _first_error("have a mask of another size")
    yield from of_images(survey, "sizes", "error", found, says)


def orientation(survey: Survey) -> Iterator[Finding]:
    """Names images that viewers turn, whose mask was drawn on the image as it is stored."""
    found = [one for _, one in survey.all() if one.failed == "sizes" and _is_turned(one)]
    if found:
        yield _orientation("error", found, "so that they are as high as their masks are wide")
    # Where sizes tell nothing, edges may: of the mask turned as its image is, and as it is.
    fitting = [(one, _gain(one)) for _, one in survey.all() if _gain(one) is not None]
    better = [one for one, gain in fitting if gain and gain > GAIN]
    if better and np.mean([gain for _, gain in fitting if gain is not None]) > GAIN:
        says = "and these would lie better on the images as they are stored"
        yield _orientation("warning", better, says)


def _gain(look: Look) -> float | None:
    """Returns how much better a mask lies if it is turned as its image is; None where it is."""
    if look.alignment is None or look.mask_orientation != 1 or look.orientation == 1:
        return None
    turns = look.alignment.turns
    return float((turns[:, _AS_TURN[look.orientation]] - turns[:, 0]).min())


def _orientation(level: Level, found: Sequence[Look], effect: str) -> Finding:
    first = found[0]
    return Finding(
        "orientation",
        level,
        files_of(found),
        f"{len(found)} images are shown turned by their EXIF orientation ({first.orientation} of "
        f"{first.files[0]}) otherwise than their masks ({first.mask_orientation}), {effect}",
        "Write the pixels of these images as they are shown and remove the orientation, then draw "
        "the masks on that; or save the images without EXIF where the masks fit the stored pixels.",
    )


def _is_turned(look: Look) -> bool:
    """Tells whether an image would fit its mask if one were turned by 90 degrees as stored."""
    differs = (look.orientation > 4) != (look.mask_orientation > 4)
    return differs and look.shape[:-2] + look.shape[:-3:-1] == look.mask_shape


def of_images(
    survey: Survey,
    fault: str,
    level: Level,
    looks: Sequence[Look],
    say: Callable[[Sequence[Look]], str],
) -> Iterator[Finding]:
    """Yields a finding of some images, which can be left out; nothing where there are none.

    Args:
        survey: What was seen.
        fault: Its name.
        level: How bad it is.
        looks: Those of the images.
        say: Writes what is wrong with them.

    Yields:
        The finding.
    """
    if looks:
        mend = excluding(survey.config, [one.id for one in looks], KEPT_OUT)
        yield Finding(fault, level, files_of(looks), say(looks), mend)


def files_of(looks: Sequence[Look]) -> tuple[str, ...]:
    """Returns the image files; ids where images are in none."""
    return tuple(one.files[0] if one.files else one.id for one in looks)


def _first_error(what: str) -> Callable[[Sequence[Look]], str]:
    return lambda looks: f"{len(looks)} images {what}; the first: {looks[0].error.rstrip('.')}"
