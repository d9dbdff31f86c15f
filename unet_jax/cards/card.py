"""A card: a JSON file with what was scored, by which rules, with which result, and the counts."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.cards.judge import Counted, judge
from unet_jax.cards.packing import SHAPE, pack, pack_names, unpack, unpack_names
from unet_jax.errors import UserError
from unet_jax.metrics import make as metrics
from unet_jax.metrics.views import View
from unet_jax.process import records

VERSION = 1
_BY_IMAGE = 2**10
"""Numbers of an image and count up to which a card has those of every image, else their sum."""
_SCORE = {
    "value": records.Number,
    **{name: records.Maybe(records.Number) for name in ("low", "high", "held")},
    "why": records.Maybe(str),
}
_VIEW = {
    "name": str,
    "truth": [int],
    "prediction": [records.Count],
    "class_names": [str],
}
_IMAGES = [[(str, records.Number)]]
_CARD = {
    "card": records.Count,
    "title": str,
    "data": {
        "images": records.Count,
        "groups": records.Count,
        "class_names": [str],
        "views": [_VIEW],
        str: object,
    },
    "run": {str: object},
    "rules": [str],
    "headline": str,
    "scores": {str: _SCORE},
    "images": {"worst": _IMAGES, "median": _IMAGES},
    "counts": {"ids": str, "groups": str, "arrays": {str: SHAPE}},
    "sha256": str,
}
_ADVICE = "put back the file that an evaluation wrote"


def make_card(
    counted: Counted,
    *,
    title: str,
    data: Mapping[str, Any],
    run: Mapping[str, Any],
    rules: list[str],
) -> dict[str, Any]:
    """Makes a card.

    Args:
        counted: What was counted.
        title: What was scored, in a line.
        data: What more is known of the data, such as their source and sizes.
        run: What ran, on what, for how long; {} of masks that no run of this package made.
        rules: How it was scored, in sentences.

    Returns:
        The card, as JSON holds it.
    """
    kept = counted._replace(counts=_kept(counted))
    names = list(counted.class_names)
    views = [
        {name: list(x) if isinstance(x, tuple) else x for name, x in view._asdict().items()}
        for view in counted.views
    ]
    card = {
        "card": VERSION,
        "title": title,
        "data": {
            "images": len(counted.ids),
            "groups": len(set(counted.groups)),
            "class_names": names,
            "views": views,
            **data,
        },
        "run": dict(run),
        "rules": rules,
        "headline": counted.headline,
        **judge(kept),
        "counts": {
            "ids": pack_names(counted.ids),
            "groups": pack_names(counted.groups),
            "arrays": {name: pack(array) for name, array in kept.counts.items()},
        },
    }
    card = json.loads(json.dumps(card))
    return card | {"sha256": digest(card)}


def _kept(counted: Counted) -> dict[str, np.ndarray]:
    """Returns the counts that a card holds: of large ones, such as histograms, their sums alone."""
    made = metrics.of_counts(counted.counts, counted.class_names, counted.views)
    kept = {}
    for key, metric in made.items():
        own = metrics.of_metric(counted.counts, key)
        is_small = max(array[0].size for array in own.values()) <= _BY_IMAGE
        by_image = is_small or counted.headline in metric.kinds()
        for name, array in own.items():
            kept[f"{key}/{name}"] = array if by_image else _total(array)
    return kept


def _total(array: np.ndarray) -> np.ndarray:
    """Adds up counts of all images as `Metric.scores` does."""
    is_whole = array.dtype.kind in "iu"
    return array.sum(axis=0, keepdims=True) if is_whole else np.cumsum(array, axis=0)[-1:]


def digest(card: Mapping[str, Any]) -> str:
    """Computes the fingerprint of all that a card says."""
    said = {name: value for name, value in card.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def write_card(card: Mapping[str, Any]) -> str:
    """Writes a card as the text of its file: a line for every array and score."""
    return json.dumps(card, indent=1) + "\n"


def read_card(file: Path) -> dict[str, Any]:
    """Reads a card.

    Args:
        file: Its JSON file.

    Returns:
        The card.

    Raises:
        UserError: There is none, or it is no card, or one of a later version.
    """
    if file.suffix != ".json" and (file.is_file() or file.suffix in (".md", ".html")):
        raise UserError(f"--card={file} must be the JSON file of a card, {file.stem}.json.")
    card = records.read_json(file, _CARD, "a card", _ADVICE)
    if card is None:
        raise UserError(f"--card={file} is not there; give the JSON file that --mode=eval wrote.")
    if card["card"] != VERSION:
        raise UserError(
            f"{file} is a card of version {card['card']}, and this package reads {VERSION}; use "
            "the package that wrote it, or evaluate again."
        )
    return card


def counted_of(card: Mapping[str, Any], file: Path) -> Counted:
    """Returns the counts that a card holds.

    Args:
        card: Of `read_card`.
        file: Where it was, for errors.

    Returns:
        The counts.

    Raises:
        UserError: They are damaged, or do not belong together.
    """
    data, packed = card["data"], card["counts"]
    try:
        counts = {name: unpack(one) for name, one in packed["arrays"].items()}
        ids, groups = unpack_names(packed["ids"]), unpack_names(packed["groups"])
        if len(ids) != data["images"] or len(groups) not in (0, len(ids)):
            raise ValueError(
                f"{len(ids)} names and {len(groups)} groups of {data['images']} images"
            )
        names = tuple(data["class_names"])
        for key in metrics.of_counts(counts, names):
            own = {n: x for n, x in counts.items() if n.startswith(f"{key}/")}
            images = len(next(iter(own.values())))
            if images not in (1, len(ids)):
                raise ValueError(f"counts of {key} of {images} images, and {len(ids)} names")
            metrics.check_counts(own, images)
        if not metrics.are_of(counts, len(names)):
            raise ValueError(f"counts of another number of classes than {len(names)}")
        views = [
            View(v["name"], *(tuple(v[x]) for x in ("truth", "prediction", "class_names")))
            for v in data["views"]
        ]
        if any(len(v.truth) != len(names) or len(v.prediction) != len(names) for v in views):
            raise ValueError("a view of another number of classes")
    except ValueError as error:
        raise UserError(f"{file} holds {error}; {_ADVICE}.") from None
    return Counted(ids, groups, counts, names, views, card["headline"])


def find_wrong(card: Mapping[str, Any], file: Path) -> list[str]:
    """Computes every number of a card from its counts, and compares.

    Args:
        card: Of `read_card`.
        file: Where it was, for errors.

    Returns:
        A line for everything that is otherwise; [] where nothing is.

    Raises:
        UserError: The counts are damaged.
    """
    again = json.loads(json.dumps(judge(counted_of(card, file))))
    said = {name: card[name] for name in ("scores", "images")}
    lines = list(_compare(said, again, ""))
    if not lines and digest(card) != card["sha256"]:
        lines.append("something else than scores and counts was changed: its sha256 is another")
    return lines


def _compare(said: Any, again: Any, where: str) -> Iterator[str]:
    """Yields a line for everything in which two JSON values differ."""
    if isinstance(said, dict) and isinstance(again, dict):
        for name in dict.fromkeys((*said, *again)):
            place = f"{where}.{name}" if where else name
            yield from _compare(said.get(name), again.get(name), place)
    elif isinstance(said, list) and isinstance(again, list) and len(said) == len(again):
        for index, pair in enumerate(zip(said, again, strict=True)):
            yield from _compare(*pair, f"{where}[{index}]")
    elif said != again:
        yield f"{where} is {said}, and the counts give {again}"
