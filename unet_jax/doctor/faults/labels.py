"""What masks hold: values that are no class, colours, palettes, masks of nothing."""

import collections
from collections.abc import Iterator, Mapping

import numpy as np

from unet_jax.data.base import IGNORE
from unet_jax.doctor.faults.files import files_of, of_images
from unet_jax.doctor.finding import Finding, setting
from unet_jax.doctor.look import Look
from unet_jax.doctor.survey import Survey

NEARLY_ALL, CLOSE_TO = 0.75, 16  # share of pixels; by which soft edges change a value
MANY = 8  # more values than classes, above which they are soft edges
RARELY = 0.2  # of the masks of a split that are of one class, above which that is how data are
_SHOWN = 12


def unnamed(survey: Survey) -> Iterator[Finding]:
    """Names the classes of masks of which the config and the layout name none."""
    counts = _count(survey)
    if survey.class_names or survey.by_class or not counts or survey.opening:
        return
    there = sorted(counts)
    # Between two classes soft edges have all values; the two most frequent ones are meant.
    is_soft = len(there) > MANY and {0, IGNORE} <= {*sorted(there, key=lambda v: -counts[v])[:2]}
    are_numbered = len(there) > 2 and there[:-1] == list(range(len(there) - 1))
    ignored = (IGNORE,) if IGNORE in there and are_numbered else ()
    meant = [0, IGNORE] if is_soft else [value for value in there if value not in ignored]
    count = max(2, len(meant))
    names = ("background", "object") if count == 2 else tuple(f"class_{k}" for k in range(count))
    lines = [setting("data.folder.class_names", names)]
    if meant != list(range(len(meant))):
        lines.append(_mapping(meant))
    if ignored:
        lines.append(setting("data.folder.ignore_values", ignored))
    if is_soft:
        lines.append(setting("data.folder.nearest", True))
    says = f"config.data.folder.class_names=() names no classes; masks hold {_some(there)}"
    yield Finding("unnamed", "error", (), says, "\n".join(lines))


def values(survey: Survey) -> Iterator[Finding]:
    """Names mask values that are no class, with how often each is there."""
    found = [one for _, one in survey.all() if one.unknown]
    if not found or not survey.class_names:
        return
    counts = _count(survey)
    wrong = sorted(value for value in counts if value not in survey.values)
    total = sum(counts.values())
    shown = sorted(counts, key=lambda value: -counts[value])[:_SHOWN]
    listed = ", ".join(f"{value} ({counts[value] / total:.2%})" for value in sorted(shown))
    yield Finding(
        "values",
        "error",
        files_of(found),
        f"{len(found)} masks hold values that are no class: {_some(wrong)}; found are (share of "
        f"pixels): {listed}{', ...' if len(counts) > _SHOWN else ''}",
        _map_values(survey, counts, wrong),
    )


def _count(survey: Survey) -> dict[int, int]:
    counts: collections.Counter[int] = collections.Counter()
    for _, one in survey.all():
        for mask in one.masks:
            counts.update(mask.counts)
    return dict(counts)


def _some(numbers: list[int]) -> str:
    return f"{', '.join(map(str, numbers[:_SHOWN]))}{', ...' if len(numbers) > _SHOWN else ''}"


def _map_values(survey: Survey, counts: Mapping[int, int], wrong: list[int]) -> str:
    """Writes the lines of a config with which the masks can be read."""
    count, total = len(survey.class_names), sum(counts.values())
    kept = {value: own for value, own in survey.values.items() if own != IGNORE}
    ignored = {value for value, own in survey.values.items() if own == IGNORE} & {*counts}
    is_default = all(value == own for value, own in kept.items())
    there = sorted({*counts} - ignored)
    named = [value for value in there if value != IGNORE]
    often = sorted(sorted(there, key=lambda value: -counts[value])[:count])
    ignoring = setting("data.folder.ignore_values", tuple(sorted({*ignored, *wrong})))
    if survey.by_class:
        return ignoring
    if len(wrong) > MANY:
        near = {v for v in counts if any(abs(v - one) <= CLOSE_TO for one in often)}
        if sum(counts[value] for value in near) < NEARLY_ALL * total:
            return "Save the masks anew, with the number of its class for every pixel."
        return f"{_mapping(often)}\n{setting('data.folder.nearest', True)}"
    if wrong == [IGNORE] and count > 1 and {*named} <= {*kept} and len(named) > 1:
        return ignoring
    if is_default and len(there) == count:
        return _mapping(there)
    if is_default and len(named) == count:
        left_out = setting("data.folder.ignore_values", tuple(sorted({*ignored, IGNORE})))
        return f"{_mapping(named)}\n{left_out}"
    if is_default and named == list(range(len(named))) and len(named) > count:
        names = (*survey.class_names, *(f"class_{k}" for k in range(count, len(named))))
        more = setting("data.folder.class_names", names)
        left = {*ignored, IGNORE} if IGNORE in there else ignored
        return (
            f"{more}\n{setting('data.folder.ignore_values', tuple(sorted(left)))}" if left else more
        )
    return ignoring


def _mapping(ordered: list[int]) -> str:
    return setting("data.folder.label_map", tuple((v, k) for k, v in enumerate(ordered)))


def colours(survey: Survey) -> Iterator[Finding]:
    """Names masks that hold colours, or were saved with loss, instead of class ids."""
    found = [one for _, one in survey.all() if one.failed == "mask" and one.colours]
    if not found:
        return
    counts: collections.Counter[tuple[int, int, int]] = collections.Counter()
    for one in found:
        counts.update(dict(one.colours))
    listed = ", ".join(f"{c} at {n} pixels" for c, n in counts.most_common(_SHOWN))
    yield Finding(
        "colours",
        "error",
        files_of(found),
        f"{len(found)} masks hold no class ids but colours, or values that compression changed: "
        f"{listed}{', ...' if len(counts) > _SHOWN else ''}; the first: {found[0].error[:200]}",
        _map_colours(survey, counts),
    )


def _map_colours(survey: Survey, counts: collections.Counter[tuple[int, int, int]]) -> str:
    count, total = len(survey.class_names), sum(counts.values())
    often = [colour for colour, _ in counts.most_common(count)]
    ordered = sorted(often, key=lambda colour: (sum(colour), colour))  # black, mostly no object
    if len(often) < 2 or sum(counts[colour] for colour in often) < NEARLY_ALL * total:
        return "Save the masks as grey PNG files of class ids, or name the class of every colour."
    is_grey = all(colour[0] == colour[1] == colour[2] for colour in counts)
    keys = [colour[0] for colour in ordered] if is_grey else ordered
    mapped = setting("data.folder.label_map", tuple((key, k) for k, key in enumerate(keys)))
    if len(counts) > count or is_grey:
        return f"{mapped}\n{setting('data.folder.nearest', True)}"
    return mapped


def palettes(survey: Survey) -> Iterator[Finding]:
    """Names masks whose palettes give an index a colour that it has not in other masks."""
    votes: dict[tuple[int, ...], collections.Counter[int]] = {}
    by_index: dict[int, collections.Counter[tuple[int, ...]]] = {}
    indexed = [one for _, one in survey.all() if one.masks and one.masks[0].is_indexed]
    for one in indexed if not survey.by_class else ():
        for entry in _entries(one):
            by_index.setdefault(entry[0], collections.Counter())[entry[1:]] += 1
            own = survey.values.get(entry[0])
            if own is not None:
                votes.setdefault(entry[1:], collections.Counter())[own] += 1
    twofold = {index: colours for index, colours in by_index.items() if len(colours) > 1}
    if not twofold:
        return
    usual = {index: colours.most_common(1)[0][0] for index, colours in by_index.items()}
    found = [one for one in indexed if any(usual[e[0]] != e[1:] for e in _entries(one))]
    index, colours_of = next(iter(twofold.items()))
    best = {colour: counts.most_common(1)[0][0] for colour, counts in votes.items()}
    mapped = tuple(sorted((c, own) for c, own in best.items() if own != IGNORE))
    left_out = tuple(sorted(colour for colour, own in best.items() if own == IGNORE))
    mend = setting("data.folder.label_map", mapped)
    ignoring = f"\n{setting('data.folder.ignore_values', left_out)}" if left_out else ""
    yield Finding(
        "palettes",
        "error",
        files_of(found),
        f"{len(found)} of {len(indexed)} indexed masks have another palette than the others; index "
        f"{index} is {' and '.join(f'{c} in {n}' for c, n in colours_of.most_common(3))}",
        f"{mend}{ignoring}",
    )


def _entries(look: Look) -> Iterator[tuple[int, ...]]:
    packed = look.masks[0].colours
    return (tuple(packed[i : i + 4]) for i in range(0, len(packed), 4))


def one_class(survey: Survey) -> Iterator[Finding]:
    """Names masks of one class where most have more, and training with nothing to tell apart."""
    for split, looks in survey.looks.items() if survey.is_understood() else ():
        least = 0 if survey.by_class else 1
        held = [
            (one, {*np.flatnonzero(one.classes[:-1])})
            for one in looks
            if one.classes is not None and (survey.by_class or one.classes[:-1].any())
        ]
        read = [one for one, _ in held]
        empty = [one for one, classes in held if len(classes) <= least]
        if split == "train" and held and len(set().union(*(c for _, c in held))) <= least:
            yield Finding(
                "one_class",
                "error",
                files_of(read),
                f"all {len(read)} training masks hold one class alone, so nothing can be learnt",
                "Check what the masks hold, and set config.data.folder.label_map.",
            )
        elif empty and len(empty) <= RARELY * len(looks):
            yield from of_images(
                survey,
                "one_class",
                "warning",
                empty,
                lambda found, split=split, looks=looks: (
                    f"{len(found)} of the {len(looks)} masks of the {split} split hold "
                    f"{'no class' if survey.by_class else 'one class alone'}, and the others more"
                ),
            )


def all_ignored(survey: Survey) -> Iterator[Finding]:
    """Names masks of which no pixel counts."""
    if survey.by_class or not survey.is_understood():
        return
    found = [
        one
        for _, one in survey.all()
        if one.classes is not None and one.classes[-1] and not one.classes[:-1].any()
    ]
    yield from of_images(
        survey,
        "all_ignored",
        "warning",
        found,
        lambda looks: f"{len(looks)} masks have no pixel that counts, so they only cost time",
    )
