"""What values images have, and of what kind and size they are."""

import collections
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from unet_jax.data.sample import Spec, written
from unet_jax.doctor.faults.files import files_of, of_images
from unet_jax.doctor.finding import Finding, setting
from unet_jax.doctor.look import Look
from unet_jax.doctor.survey import Survey

ENOUGH = 8  # images, from which it can be told what is usual
NARROW = 4  # times the range of values that are there, from which bits are unused
FAINT = 8  # times smaller than usual
ALIKE, UNLIKE = 0.1, 0.25  # mean differences of quantiles, as shares of the range
CLIPPED, RARELY_CLIPPED = 0.6, 0.02  # shares of the pixels of an image; of most images
UNUSUAL = 0.05  # share of the images of a data set, up to which they are exceptions


def usual_looks(survey: Survey) -> list[Look]:
    """Returns the looks at images that could be read and are of the kind of most."""
    usual = usual_kind(survey)
    return [one for _, one in survey.all() if one.spec is not None and one.spec == usual]


def usual_kind(survey: Survey) -> Spec | None:
    """Returns the spec that most images have; None where none could be read."""
    counts = collections.Counter(one.spec for _, one in survey.all() if one.spec is not None)
    return counts.most_common(1)[0][0] if counts else None


def kinds(survey: Survey) -> Iterator[Finding]:
    """Names images that have other channels, or another type, than most."""
    usual = usual_kind(survey)
    others = [one for _, one in survey.all() if one.spec is not None and one.spec != usual]
    says = f"and {len(usual_looks(survey))} have {usual}"
    yield from of_images(
        survey,
        "kinds",
        "error",
        others,
        lambda found: f"{len(found)} images are of another kind, such as {found[0].spec}, {says}",
    )


def value_range(survey: Survey) -> Iterator[Finding]:
    """Names a range of values that is not that of the images."""
    looks, spec = usual_looks(survey), survey.spec
    if not looks or spec is None or looks[0].spec is None or looks[0].spec[:3] != spec[:3]:
        return
    black, white = spec.value_range
    low, high = min(one.low for one in looks), max(one.high for one in looks)
    outside = [one for one in looks if one.low < black or one.high > white]
    is_given = bool(survey.loading and survey.loading.value_range)
    narrow = not is_given and not outside and (white - black) >= NARROW * max(high - low, 1e-9)
    if spec.dtype.startswith("uint") and not is_given:
        narrow = (white + 1) >= NARROW * (high + 1) and high > low
    elif not np.issubdtype(spec.dtype, np.integer) and not outside:
        narrow = False
    if not outside and not narrow:
        return
    found = outside or looks
    what = "have values outside of" if outside else "use a small part of"
    yield Finding(
        "value_range",
        "warning",
        files_of(found),
        f"{len(found)} of {len(looks)} images {what} {black:g} to {white:g}, which become 0 and 1; "
        f"their values are {low:g} to {high:g}",
        setting("data.value_range", _range(low, high, spec.dtype)),
    )


def _range(low: float, high: float, dtype: str) -> tuple[Any, Any]:
    """Returns the range to give: of whole bits where there is no negative value."""
    if low >= 0 and high > 1:
        return 0, 2 ** math.ceil(math.log2(high + 1)) - 1
    if np.issubdtype(dtype, np.integer) or high - low > FAINT:
        return math.floor(low), math.ceil(high)
    return round(low - 5e-4, 3), round(high + 5e-4, 3)


def constant(survey: Survey) -> Iterator[Finding]:
    """Names images that hold one value."""
    found = [one for one in usual_looks(survey) if one.low == one.high]
    yield from of_images(
        survey,
        "constant",
        "warning",
        found,
        lambda looks: f"{len(looks)} images hold one value alone, {looks[0].low:g} in the first",
    )


def faint(survey: Survey) -> Iterator[Finding]:
    """Names images whose values span far less than those of most."""
    looks = [one for one in usual_looks(survey) if one.low < one.high]
    if len(looks) < ENOUGH:
        return
    spans = np.array([one.high - one.low for one in looks])
    usual = float(np.median(spans))
    found = [one for one, span in zip(looks, spans, strict=True) if span * FAINT < usual]
    if len(found) <= UNUSUAL * len(looks) + 1:
        yield from of_images(
            survey,
            "faint",
            "warning",
            found,
            lambda few: (
                f"the values of {len(few)} images span less than an {FAINT}th of the usual "
                f"{usual:g}: {few[0].low:g} to {few[0].high:g} in the first"
            ),
        )


def inverted(survey: Survey) -> Iterator[Finding]:
    """Names images that are dark where all others are bright."""
    looks = [one for one in usual_looks(survey) if one.low < one.high]
    if len(looks) < ENOUGH or survey.spec is None:
        return
    black, white = survey.spec.value_range
    found_at = np.stack([one.quantiles for one in looks])  # pyrefly: ignore
    found_at = (found_at - black) / (white - black)
    usual = np.median(found_at, axis=0)
    own = abs(found_at - usual).mean(axis=1)
    mirrored = abs(1 - found_at[:, ::-1] - usual).mean(axis=1)
    if np.median(own) > ALIKE or abs(1 - usual[::-1] - usual).mean() < UNLIKE:
        return  # images differ too much, or are as bright as they are dark
    found = [
        one
        for one, as_is, turned in zip(looks, own, mirrored, strict=True)
        if as_is > UNLIKE and turned < ALIKE
    ]
    yield from of_images(
        survey,
        "inverted",
        "warning",
        found,
        lambda few: f"{len(few)} images are as bright as all others are dark, as a negative is",
    )


def clipped(survey: Survey) -> Iterator[Finding]:
    """Names images of which many pixels are black or white, where few pixels of others are."""
    looks, spec = [one for one in usual_looks(survey) if one.low < one.high], survey.spec
    if len(looks) < ENOUGH or spec is None:
        return
    for end, name in enumerate(("black", "white")):
        limit = spec.value_range[end]
        shares = np.array(
            [one.clipped[end] if (one.low, one.high)[end] == limit else 0.0 for one in looks]
        )
        if (shares > RARELY_CLIPPED).sum() > 1 + UNUSUAL * len(shares):
            continue
        found = [one for one, share in zip(looks, shares, strict=True) if share > CLIPPED]
        yield from of_images(
            survey,
            "clipped",
            "warning",
            found,
            lambda few, name=name, shares=shares: (
                f"{len(few)} images are {name} in over {CLIPPED:.0%} of their pixels, up to "
                f"{shares.max():.0%}, and nearly no other is in {RARELY_CLIPPED:.0%}"
            ),
        )


def small(survey: Survey) -> Iterator[Finding]:
    """Names images that are smaller than the parts that are cut out of them."""
    looks, loading = usual_looks(survey), survey.loading
    if not looks or loading is None or loading.fit != "crop" or not survey.stride:
        return
    looks = [one for one in looks if len(one.shape) == len(loading.image_size)]
    less = [one for one in looks if any(np.less(one.shape, loading.image_size))]
    if len(less) * 2 <= len(looks):
        return
    middle = np.median([one.shape for one in looks], axis=0)
    sides = (max(1, int(n) // survey.stride) * survey.stride for n in middle)
    fitting = tuple(min(m, n) for m, n in zip(sides, loading.image_size, strict=True))
    yield Finding(
        "small",
        "warning",
        files_of(less),
        f"{len(less)} of {len(looks)} images are smaller than config.data.image_size="
        f"{loading.image_size}, such as {written(less[0].shape)}; they are filled up with pixels "
        "that count nowhere",
        setting("data.image_size", fitting),
    )


def squeezed(survey: Survey) -> Iterator[Finding]:
    """Names images that resizing squeezes to less than half along one axis."""
    looks, loading = usual_looks(survey), survey.loading
    if not looks or loading is None or loading.fit != "resize":
        return
    looks = [one for one in looks if len(one.shape) == len(loading.image_size)]
    scales = [np.divide(loading.image_size, one.shape) for one in looks]
    found = [o for o, s in zip(looks, scales, strict=True) if s.max() > 2 * s.min()]
    if len(found) * 2 <= len(looks):
        return
    middle = np.median([one.shape for one in looks], axis=0)
    factor = (math.prod(loading.image_size) / math.prod(middle)) ** (1 / len(middle))
    multiple = max(1, survey.stride)
    fitting = tuple(max(1, round(n * factor / multiple)) * multiple for n in middle.tolist())
    yield Finding(
        "squeezed",
        "warning",
        files_of(found),
        f"{len(found)} of {len(looks)} images, such as {written(found[0].shape)}, are squeezed to "
        f"config.data.image_size={loading.image_size} more than twice as much along one axis as "
        "along another",
        setting("data.image_size", fitting),
    )
