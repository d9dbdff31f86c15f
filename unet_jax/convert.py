"""Configs of older versions: the one place that knows what they looked like; imports no jax."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from unet_jax.defaults import DEFAULTS, fill
from unet_jax.errors import UserError

RENAMED = {
    "augment.flip_lr": "augment.flip.left_right",
    "augment.flip_ud": "augment.flip.up_down",
    "augment.zoom": "augment.zoom.scale",
    "augment.aspect": "augment.zoom.aspect",
    "augment.brightness": "augment.colour.brightness",
    "augment.contrast": "augment.colour.contrast",
    "augment.saturation": "augment.colour.saturation",
    "augment.hue": "augment.colour.hue",
    "loss.name": "loss.TERM.weight for each term, such as loss.dice.weight",
    "loss.class_weights": "loss.cross_entropy.class_weights",
    "loss.label_smoothing": "loss.cross_entropy.label_smoothing",
    "loss.dice_weight": "loss.dice.weight",
    "eval.pictures": "eval.shown",
}
"""Today's name of keys that an older version called otherwise."""
_ALWAYS = {"data", "augment", "model", "loss", "optim", "train", "eval"}
_NO_STEP = {
    "flip": {"left_right": False, "up_down": False},
    "zoom": {"scale": (1.0, 1.0), "aspect": 1.0},
    "colour": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
}
"""What an older version's augmentation did where none of a step's keys said otherwise."""
_TERMS = {"cross_entropy": ("cross_entropy",), "cross_entropy+dice": ("cross_entropy", "dice")}
"""The terms of an older version's loss, by its name."""


def refuse_renamed(config: Mapping[str, Any] | ConfigDict) -> None:
    """Refuses keys of a page that have another name now.

    Args:
        config: By section.

    Raises:
        UserError: There is one; the new name is told.
    """
    for key in RENAMED:
        section, _, name = key.partition(".")
        if _is_old(config.get(section), name):
            refuse_key(key)


def refuse_key(key: str) -> None:
    """Refuses a key that has another name now.

    Args:
        key: Such as "loss.dice_weight", as the command line has it.

    Raises:
        UserError: It has; the new name is told.
    """
    if key in RENAMED:
        raise UserError(f"config.{key} has another name now: config.{RENAMED[key]}.")


def convert(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turns the config of a run of any version into one of this version.

    A key, or section, that the older version lacked gets the default, with which this version does
    what the older one did; a key that has another name now gets it.

    Args:
        values: By section, as config.json has them, with tuples for lists.

    Returns:
        The values; where they are no config of a run, as they are.

    Raises:
        UserError: A value of a key of an older version has no equal in this one.
    """
    added = {name: {} for name in DEFAULTS if name not in values and set(values) >= _ALWAYS}
    converted = {**values, **added}
    for section, make in (("augment", _steps), ("loss", _terms), ("eval", _shown)):
        given = values.get(section) or {}
        keys = [key.partition(".")[2] for key in RENAMED if key.startswith(f"{section}.")]
        if old := {key: given[key] for key in keys if _is_old(given, key)}:
            rest = {key: value for key, value in given.items() if key not in old}
            converted[section] = {**make(old), **rest}
    filled = fill(converted)
    if _is_pets(values.get("data")):
        filled["data"] = {**filled["data"], "source": "pets"}
    return filled


def _is_pets(data: Any) -> bool:
    """Tells whether a folder is that of the pets, which alone an older version read without names.

    It was known by the layout of its directory, and had no name of its own.
    """
    is_folder = isinstance(data, Mapping) and data.get("source") == "folder"
    section = data.get("folder", {}) if is_folder else None
    if not isinstance(section, Mapping):
        return False
    # Since layouts have a key, a folder without names is one whose layout has them.
    return "layout" not in section and not section.get("class_names")


def _is_old(section: Any, name: str) -> bool:
    """Tells whether a section has an older version's key, which held a value, not a section."""
    is_section = isinstance(section, Mapping | ConfigDict)
    return is_section and name in section and not isinstance(section[name], Mapping | ConfigDict)


def _steps(old: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the steps that an older version's keys stand for, but those that do nothing."""
    steps = {name: dict(keys) for name, keys in _NO_STEP.items()}
    for key, value in old.items():
        _, step, name = RENAMED[f"augment.{key}"].split(".")
        steps[step][name] = value
    return {name: keys for name, keys in steps.items() if keys != _NO_STEP[name]}


def _terms(old: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the terms that an older version's keys stand for."""
    name = old.get("name", "cross_entropy")
    if name not in _TERMS:
        allowed = ", ".join(_TERMS)
        raise UserError(f"config.loss.name={name!r} is of no version; older ones had {allowed}.")
    terms: dict[str, dict[str, Any]] = {term: {"weight": 1.0} for term in _TERMS[name]}
    for key in ("class_weights", "label_smoothing"):
        if key in old:
            terms["cross_entropy"][key] = old[key]
    if "dice" in terms:
        terms["dice"]["weight"] = old.get("dice_weight", 1.0)
    return terms


def _shown(old: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the key that an older version's stands for."""
    return {"shown": old["pictures"]}
