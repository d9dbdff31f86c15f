"""Images that are there twice, and splits that are not alike."""

import collections
import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np

from unet_jax.data.layouts.base import SPLIT_WORDS
from unet_jax.defaults import DEFAULTS
from unet_jax.doctor.faults.files import KEPT_OUT, files_of
from unet_jax.doctor.faults.intensities import ENOUGH, usual_kind
from unet_jax.doctor.finding import Finding, excluding, setting
from unet_jax.doctor.look import Look
from unet_jax.doctor.measures import THUMBNAIL
from unet_jax.doctor.survey import Survey

NEAR, DIFFERENT = 6, 14.0  # bits of 64; mean difference of thumbnails, of 255
RANK = {"test": 0, "val": 1, "train": 2}  # of two copies, that of the larger one goes
FOLLOW = 3  # places between frames of a video, in the order of names
OFTEN = 0.2  # of all images, above which images that are nearly the same are how data are
ALIKE = 24  # bits: the median of unlike images is 32 of 64
SHIFTED = 1.0  # standard deviations between the means of two splits
_ROWS, _MOST = 512, 100_000  # hashes compared at once; pairs that are told
_NUMBER = re.compile(r"^(.*?)[^A-Za-z0-9]*\d+[^/\d]*$")
_Pair = tuple[int, int]


def twice(survey: Survey) -> Iterator[Finding]:
    """Names images that are there twice, pixel by pixel."""
    groups: dict[tuple[int, ...], list[tuple[str, Look]]] = {}
    for split, one in survey.all():
        if one.means is not None and one.low < one.high:
            key = (one.digest, one.phash, *one.shape)
            groups.setdefault(key, []).append((split, one))
    for across in (True, False):
        found = [
            g for g in groups.values() if len(g) > 1 and (len({s for s, _ in g}) > 1) == across
        ]
        if not found:
            continue
        ranked = [sorted(g, key=lambda one: RANK[one[0]]) for g in found]
        copies = [one for g in ranked for _, one in g[1:]]
        first = ranked[0]
        says = (
            f"{len(copies)} images are copies of others"
            f"{' in another split, so that scores are too good' if across else ''}, such as "
            f"{first[1][1].id} ({first[1][0]}) of {first[0][1].id} ({first[0][0]})"
        )
        differ = [g for g in ranked if any(not _same_labels(g[0][1], one) for _, one in g[1:])]
        if differ:
            says += f"; the masks of {len(differ)} of them differ"
        mend = excluding(survey.config, [one.id for one in copies], KEPT_OUT)
        level = "error" if across else "warning"
        yield Finding("twice", level, files_of(copies), says, mend)


def _same_labels(one: Look, other: Look) -> bool:
    if one.classes is None or other.classes is None:
        return one.classes is other.classes
    return np.array_equal(one.classes, other.classes)


def near(survey: Survey) -> Iterator[Finding]:
    """Names images that are nearly the same as another, as after compression or cropping."""
    known = [(s, o) for s, o in survey.all() if o.means is not None and o.low < o.high]
    looks, splits = [one for _, one in known], [split for split, _ in known]
    pairs = [(i, j) for i, j in near_pairs(looks) if looks[i].digest != looks[j].digest]
    for across in (True, False):
        found = [(i, j) for i, j in pairs if (splits[i] != splits[j]) == across]
        are_frames = _are_frames(survey, [(looks[i].id, looks[j].id) for i, j in found])
        is_usual = are_frames or len({*sum(found, ())}) > OFTEN * len(looks)
        if not found or (is_usual and not across):
            continue  # within a split, the frames of a video are no fault
        first, second = found[0]
        files = [f for pair in found for index in pair for f in looks[index].files[:1]]
        counts = collections.Counter(tuple(sorted((splits[i], splits[j]))) for i, j in found)
        listed = ", ".join(f"{n} of {' and '.join(sorted({*of}))}" for of, n in counts.items())
        # What the test and validation hold stays, so that scores stay comparable.
        out = {max(pair, key=lambda index: (RANK[splits[index]], index)) for pair in found}
        yield Finding(
            "near",
            "warning",
            tuple(dict.fromkeys(files)),
            f"{len(found)} pairs of images are nearly the same"
            f"{' in two splits, so that scores may be too good' if across else ''}: {listed}, such "
            f"as {looks[first].id} and {looks[second].id}, which differ in "
            f"{(looks[first].phash ^ looks[second].phash).bit_count()} of 64 bits",
            (_keep_videos(survey) if are_frames else "")
            or excluding(survey.config, [looks[i].id for i in sorted(out)], KEPT_OUT),
        )


def _are_frames(survey: Survey, pairs: Sequence[tuple[str, str]]) -> bool:
    """Tells whether most pairs are frames that follow each other in a video.

    Such are called alike but for their last number, and come after each other by their names.
    """
    names = sorted(without_split(one.id) for _, one in survey.all())
    place = {name: index for index, name in enumerate(names)}
    follow = 0
    for pair in pairs:
        one, other = map(without_split, pair)
        follow += abs(place[one] - place[other]) <= FOLLOW and _number(one) == _number(other) != ""
    return follow * 2 > len(pairs)


def _keep_videos(survey: Survey) -> str:
    """Writes the line that keeps videos whole; "" where splits are given, or names do not tell."""
    groups = {_number(without_split(one.id)) for _, one in survey.all()}
    is_free = survey.config.data.split.to_dict() == DEFAULTS["data"]["split"]
    if len(groups) < 2 or "" in groups or not is_free or "as given" in survey.split_by:
        return ""
    return setting("data.split.group_pattern", _NUMBER.pattern)


def near_pairs(looks: Sequence[Look]) -> list[_Pair]:
    """Finds the images that are nearly the same.

    Args:
        looks: At N images.

    Returns:
        Pairs of indices whose fingerprints differ in `NEAR` bits at most, and whose thumbnails
        differ by `DIFFERENT` on average; the first `_MOST` whose fingerprints do.
    """
    hashes = np.array([one.phash for one in looks], np.uint64)
    small = np.frombuffer(b"".join(one.thumbnail for one in looks), np.uint8)
    small = small.reshape(-1, THUMBNAIL)
    found: list[_Pair] = []
    for start in range(0, len(hashes), _ROWS):
        rows = hashes[start : start + _ROWS, None]
        bits = np.bitwise_count(rows ^ hashes[None, start:])
        above, right = np.nonzero(np.triu(bits <= NEAR, k=1))
        for i, j in zip(above[:_MOST] + start, right[:_MOST] + start, strict=True):
            if abs(small[i].astype(int) - small[j]).mean() <= DIFFERENT:
                found.append((int(i), int(j)))
        if len(found) > _MOST:
            break
    return found


def groups(survey: Survey) -> Iterator[Finding]:
    """Names groups of images, by their names, that are divided between splits and look alike."""
    if any(survey.config.data.split[key] for key in ("group_pattern", "group_folders")):
        return
    if survey.config.data.split.group_column or "://" in survey.config.data.path:
        return
    for key, find in (("folder", _folder), ("number", _number)):
        members: dict[str, list[tuple[str, Look]]] = {}
        for split, one in survey.all():
            name = find(without_split(one.id))
            if name and not one.stack and one.means is not None and one.low < one.high:
                members.setdefault(name, []).append((split, one))
        divided = {n: of for n, of in members.items() if len({s for s, _ in of}) > 1}
        if len(members) < 2 or not divided:
            continue
        own = [
            (one.phash ^ other.phash).bit_count()
            for of in itertools.islice(divided.values(), 200)
            for (a, one), (b, other) in itertools.islice(itertools.combinations(of, 2), 500)
            if a != b
        ]
        firsts = [of[0][1].phash for of in itertools.islice(members.values(), 200)]
        others = [(a ^ b).bit_count() for a, b in itertools.combinations(firsts, 2)]
        if np.median(own) > ALIKE or np.median(own) > 0.75 * np.median(others):
            continue
        name = next(iter(divided))
        split = {"folder": ("group_folders", 1), "number": ("group_pattern", _NUMBER.pattern)}[key]
        drawn = "as given" not in survey.split_by
        yield Finding(
            "groups",
            "warning",
            files_of([one for own in divided.values() for _, one in own]),
            f"{len(divided)} of {len(members)} groups of images by their {key}, such as {name!r}, "
            f"are in more than one split, and their images look alike ({np.median(own):g} of 64 "
            f"bits differ, {np.median(others):g} between groups), so that scores may be too good",
            setting(f"data.split.{split[0]}", split[1])
            if drawn
            else "Put all images of a group into one split.",
        )
        return


def _folder(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _number(name: str) -> str:
    found = _NUMBER.match(name)
    return found[1] if found else ""


def without_split(name: str) -> str:
    """Returns the name of an image without the folder that says its split."""
    first, _, rest = name.partition("/")
    return rest if rest and first.lower() in SPLIT_WORDS else name


def shift(survey: Survey) -> Iterator[Finding]:
    """Names a split whose images have other colours than those for training."""
    usual, means = usual_kind(survey), {}
    for split, looks in survey.looks.items():
        alike = [one.means for one in looks if one.means is not None]
        alike = [mean for mean in alike if usual and len(mean) == usual.channels]
        if len(alike) >= ENOUGH:
            means[split] = np.stack(alike)
    train = means.pop("train", None)
    for split, own in means.items():
        if train is None:
            continue
        spread = np.sqrt((train.var(axis=0) + own.var(axis=0)) / 2)
        apart = (own.mean(axis=0) - train.mean(axis=0)) / np.maximum(spread, 1e-6)
        channel = int(abs(apart).argmax())
        if abs(apart[channel]) < SHIFTED:
            continue
        yield Finding(
            "shift",
            "warning",
            (),
            f"the images of the {split} split have a mean of {own.mean(axis=0)[channel]:.4g} in "
            f"channel {channel} and those for training {train.mean(axis=0)[channel]:.4g}, "
            f"{abs(apart[channel]):.2f} standard deviations apart: scores on one say little of the "
            "other",
            "Draw the splits anew from all images, or add colour changes to the augmentation: "
            "config.augment.colour.brightness=0.2 and config.augment.colour.contrast=0.2.",
        )
