"""Values of a config that fit a data set, each with a sentence that says why."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from unet_jax.data.sample import written
from unet_jax.defaults import PARTS
from unet_jax.doctor.faults.intensities import usual_kind, usual_looks
from unet_jax.doctor.faults.objects import ENOUGH, middle_by_area
from unet_jax.doctor.finding import Finding
from unet_jax.doctor.mends import EXCLUDE, settings
from unet_jax.doctor.objects import AREA, CLASS, LONGEST
from unet_jax.doctor.survey import UNNAMED, Survey

SIZES, ASPECTS = 2.0, 1.25  # ratio of the largest side to the smallest, and of aspects
MOST = (0.05, 0.95)  # of the images, ordered
DEEPEST = 16  # pixels of an image that are one at the deepest level, where the model does not fit
MOST_CROPS = 16
STEPS = 4  # of an epoch at least
COPIES = ("twice", "near")  # warnings whose images are left out
FEW, FRACTION = 8, 0.25  # images for validation, below which this share is
_VOXELS = 64  # of a volume's side where the config is for images


class Value(NamedTuple):
    """A value of a config that fits a data set.

    Attributes:
        key: Such as "data.image_size".
        value: The value.
        why: A sentence.
    """

    key: str
    value: Any
    why: str


class Size(NamedTuple):
    """How images come to a size; see `Loading`."""

    image_size: tuple[int, ...]
    fit: str
    crops: int
    why: str


def recommend(survey: Survey, findings: Iterable[Finding], devices: int = 1) -> list[Value]:
    """Recommends values for the data of a survey.

    Args:
        survey: What was seen.
        findings: What is wrong, errors first; their mends are among the values.
        devices: Over which the images of a batch are split.

    Returns:
        One value a key: what the mends set, then what the images' sizes, numbers and channels say.
    """
    own = [*_names(survey), *_kind(survey)]
    size = choose_size(survey)
    if size is not None:
        own += [
            Value("data.image_size", size.image_size, size.why),
            Value("data.fit", size.fit, size.why),
        ]
        if size.crops > 1:
            why = f"About so many parts of {written(size.image_size)} pixels cover an image."
            own.append(Value("data.crops", size.crops, why))
    own += [*_validation(survey), *_batch(survey, size, devices)]
    chosen = {one.key: one for one in own}
    mends = {
        key: Value(key, value, sentence(finding.says))
        for key, (value, finding) in settings(filter(_is_sure, findings)).items()
        if key not in chosen and not _is_moot(key, finding, survey, size)
    }
    return [*mends.values(), *own]


def _is_sure(finding: Finding) -> bool:
    """Tells whether images should be left out, which is the user's choice where they are odd."""
    is_needed = finding.level == "error" or finding.fault in COPIES
    return is_needed or not finding.mend.startswith(f"config.{EXCLUDE}=")


def sentence(says: str) -> str:
    """Writes what a finding says as a sentence."""
    return f"{says[:1].upper()}{says[1:].rstrip('.')}."


def _is_moot(key: str, finding: Finding, survey: Survey, size: Size | None) -> bool:
    """Tells whether another way to bring images to a size mends the finding as well."""
    is_other = size is not None and survey.loading is not None and size.fit != survey.loading.fit
    return is_other and finding.fault == "small_objects" and key == "model.features"


def _names(survey: Survey) -> list[Value]:
    if survey.config.data.source != "folder" or survey.class_names or not survey.looks:
        return []
    names = ("background", "object")
    assert len(names) == len(UNNAMED)
    return [Value("data.folder.class_names", names, "The config names no classes.")]


def _kind(survey: Survey) -> list[Value]:
    """Recommends what images of other axes or channels than three colours need."""
    usual, values = usual_kind(survey), []
    if usual is None:
        return []
    augment = survey.config.augment
    if usual.channels != 3:
        values += [
            Value(
                f"augment.colour.{key}", 0.0, f"Images of {usual.channels} channels have no {key}."
            )
            for key in ("saturation", "hue")
            if "colour" in augment and augment.colour[key]
        ]
    if usual.axes == 3:
        if survey.config.model.dimensions != 3:
            values.append(Value("model.dimensions", 3, "The images are volumes."))
        if "zoom" in augment:
            values += [
                Value(f"augment.zoom.{key}", value, "Volumes are not zoomed.")
                for key, value in PARTS["augment"]["zoom"].items()
                if augment.zoom[key] != value
            ]
    return values


def choose_size(survey: Survey) -> Size | None:
    """Chooses how images come to a size, of about as many pixels as the config's.

    Args:
        survey: What was seen.

    Returns:
        "resize" where sizes and aspects agree and objects stay as large as one pixel of the
        deepest level, else "crop"; sides are multiples of such a pixel. None where no image could
        be read, or convolutions are valid, which take other sizes.
    """
    looks = usual_looks(survey)
    usual, loading = usual_kind(survey), survey.loading
    if usual is None or loading is None or survey.config.model.padding == "valid":
        return None
    shapes = np.array([one.shape for one in looks if len(one.shape) == usual.axes], float)
    fits = len(loading.image_size) == usual.axes
    budget = math.prod(loading.image_size) if fits else _VOXELS**usual.axes
    multiple = survey.stride or DEEPEST
    middle = np.median(shapes, axis=0)
    scale = min(1.0, (budget / math.prod(middle)) ** (1 / usual.axes))
    whole = tuple(max(1, round(n * scale / multiple)) * multiple for n in middle.tolist())
    least, own = _smallest(survey), written([round(n) for n in middle])
    if not _agree(shapes):
        reason = f"Images are {_extent(shapes)} pixels, so that one size would distort or blur them"
    elif scale < 1 and least < multiple / scale:
        reason = (
            f"Half of the pixels of a class are in objects of at most {least:.0f} pixels, which "
            f"would be below {multiple}, one at the deepest level, if whole images of {own} were "
            "resized"
        )
    else:
        how = f"all are about {own} pixels" if len(looks) > 1 else f"the image is {own} pixels"
        smaller = f" at {scale:.0%} of their sides" if scale < 1 else ""
        why = f"Whole images{smaller}, since {how}; sides are multiples of {multiple}."
        return Size(whole, "resize", 1, why)
    side = budget ** (1 / usual.axes)
    part = tuple(max(1, int(min(n, side) / multiple)) * multiple for n in middle.tolist())
    crops = round(math.prod(middle) / math.prod(part))
    why = f"{reason}: random parts of {written(part)} are cut out, in multiples of {multiple}."
    return Size(part, "crop", min(MOST_CROPS, max(1, crops)), why)


def _agree(shapes: np.ndarray) -> bool:
    """Tells whether nine of ten images [N, axes] are about as large, and of one aspect."""
    low, high = np.quantile(shapes, MOST, axis=0)
    narrow, wide = np.quantile(shapes[:, 1:] / shapes[:, :1], MOST, axis=0)
    return bool((high <= SIZES * low).all() and (wide <= ASPECTS * narrow).all())


def _extent(shapes: np.ndarray) -> str:
    low, high = shapes.min(axis=0).astype(int), shapes.max(axis=0).astype(int)
    return f"{written(low.tolist())} to {written(high.tolist())}"


def _smallest(survey: Survey) -> float:
    """Returns the side up to which objects hold half of the pixels of the class of smallest ones.

    Of the masks' pixels; infinity where no class has enough objects.
    """
    rows = [one.objects for _, one in survey.all() if one.objects is not None and len(one.objects)]
    found = np.concatenate(rows) if rows else np.zeros((0, 4))
    sides = [math.inf]
    for own in np.unique(found[:, CLASS]):
        of_class = found[found[:, CLASS] == own]
        if len(of_class) >= ENOUGH:
            sides.append(middle_by_area(of_class[:, LONGEST], of_class[:, AREA]))
    return min(sides)


def _validation(survey: Survey) -> list[Value]:
    """Recommends a larger share for validation where so few images are drawn for it."""
    count = {split: len(looks) for split, looks in survey.looks.items()}
    data = survey.config.data
    if not count or "as given" in survey.split_by or data.folds or data.source != "folder":
        return []
    if count.get("val", 0) >= FEW or data.val_fraction >= FRACTION:
        return []
    why = (
        f"{count.get('val', 0)} images for validation are few, and a score of so few is rough; "
        "images for validation are drawn anew."
    )
    return [Value("data.val_fraction", FRACTION, why)]


def _batch(survey: Survey, size: Size | None, devices: int) -> list[Value]:
    """Recommends a batch of at most as many pixels as the config's, and some steps an epoch.

    So it takes no more memory than that of the config. What a step takes only its compiled program
    tells; the parameters and a batch, which are known without, are a small part of it.
    """
    loading, config = survey.loading, survey.config
    if loading is None or not survey.looks:
        return []
    count = len(survey.looks["train"])
    if any(one.key == "data.val_fraction" for one in _validation(survey)):
        both = count + len(survey.looks.get("val", ()))
        count = both - round(FRACTION * both)
    pixels = math.prod(size.image_size if size else loading.image_size)
    by_memory = config.train.batch_size * math.prod(loading.image_size) // pixels
    by_steps = count * (size.crops if size else loading.crops) // STEPS
    most = max(1, min(config.train.batch_size, by_memory, by_steps))
    batch = max(devices, 2 ** int(math.log2(most)) // devices * devices)
    steps = count * (size.crops if size else loading.crops) / batch
    says = (
        f"{count} images for training make {math.ceil(steps)} steps an epoch, and a batch holds no "
        f"more pixels than {config.train.batch_size} images of {written(loading.image_size)}; "
        "--mode=plan tells what memory it needs."
    )
    if devices > 1:
        says += f" The {devices} devices divide it."
    evaluated = max(devices, min(config.eval.batch_size, batch) // devices * devices)
    why = "It is no larger than in training."
    return [Value("train.batch_size", batch, says), Value("eval.batch_size", evaluated, why)]


def as_values(recommended: Sequence[Value]) -> dict[str, Any]:
    """Returns the values by key."""
    return {one.key: one.value for one in recommended}
