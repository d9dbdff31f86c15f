"""Every key of every section of a config, with its default; imports no jax.

A page says what differs: `page(optim={"learning_rate": 3e-3})`. A default here is that of the
function whose keyword arguments a section is; `tests/test_defaults.py` holds the two together.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from unet_jax.errors import UserError
from unet_jax.models.options import Options
from unet_jax.parts import PARTS

__all__ = [
    "DEFAULTS",
    "HEADLINE",
    "PARTS",
    "ConfigDict",
    "add_part",
    "complete",
    "fill",
    "page",
    "to_config",
]

Values = Mapping[str, Any] | ConfigDict

HEADLINE = "mIoU"
"""The score that decides the best checkpoint, searches and reports where a page names none."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "data": {
        "source": "synthetic",
        "path": "",
        "image_size": (128, 128),
        "fit": "resize",
        "val_fraction": 0.1,
        "split_seed": 0,
        "fold": 0,
        "folds": 0,
        "workers": 4,
        "context": 0,
        "crops": 1,
        "largest_file": 1024,
        "value_range": (),
        "normalise": {"kind": "range", "of": "train", "percentiles": (0.5, 99.5)},
        "foreground": 0.0,
        "foreground_classes": (),
        "cache": 0,
        "cache_dir": "",
        "reduced_jpeg": False,
        "split": {
            "group_pattern": "",
            "group_folders": 0,
            "group_column": "",
            "stratify_classes": False,
            "stratify_column": "",
            "table": "",
            "name_column": "",
        },
        "folder": {
            "images": "images",
            "masks": "masks",
            "mask_suffix": "",
            "by_class": False,
            "class_names": (),
            "label_map": (),
            "ignore_values": (),
            "nearest": False,
            "instances": False,
            "weight": "",
            "layout": "",
            "test_fraction": 0.0,
            "lists": "",
            "exclude": (),
            "ignore_masks": "",
        },
        "tfds": {"verify_checksums": True},
        "synthetic": {
            "train": 2000,
            "val": 200,
            "test": 200,
            "size": 64,
            "shapes": 3,
            "seed": 0,
            "axes": 2,
            "by_class": False,
        },
    },
    "augment": {},  # no step of `PARTS`
    "model": {
        field.name: field.default
        for field in dataclasses.fields(Options)
        if field.default is not dataclasses.MISSING
    },
    "pretrained": {"file": "", "keep_head": False},
    "task": {"kind": "exclusive", "regions": ()},
    "loss": {"cross_entropy": PARTS["loss"]["cross_entropy"]},
    "optim": {
        "name": "adamw",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": "5%",
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "clip_norm": 1.0,
        "accumulate": 1,
        "ema_decay": 0.0,
        "swa_from": "",
        "rates": (),
        "horizon": "",
    },
    "train": {
        "duration": "30 epochs",
        "batch_size": 32,
        "seed": 0,
        "eval_every": "10%",
        "checkpoint_every": "10%",
        "log_every": "20 steps",
        "patience": "",
        "trackers": ("tensorboard",),
    },
    "eval": {
        "batch_size": 32,
        "shown": 6,
        "headline": HEADLINE,
        "figures": True,
        "metrics": {},  # none of `PARTS`
        "tiles": {
            "size": (),
            "whole": 2**22,
            "mode": "exact",
            "overlap": 0.5,
            "window": "gaussian",
        },
    },
    "mesh": {"data": -1, "fsdp": 1, "space": 1},
}


def page(**sections: Mapping[str, Any]) -> ConfigDict:
    """Makes the config of a page.

    Args:
        **sections: By name of a section, the keys that differ from their defaults; of "augment",
            "loss" and "metrics" the steps, terms and metrics that there are.

    Returns:
        The whole config: every key of every section.

    Raises:
        UserError: There is no such section or key.
    """
    known = _with_parts(DEFAULTS, PARTS)
    for name, values in sections.items():
        _check_names(f"config.{name}", values, known.get(name))
    return to_config(fill({name: sections.get(name, {}) for name in DEFAULTS}))


def _check_names(key: str, values: Any, defaults: Any) -> None:
    if defaults is None:
        allowed = ", ".join(DEFAULTS)
        raise UserError(f"{key} is no section of a config; allowed are {allowed}.")
    if not isinstance(values, Mapping | ConfigDict):
        raise UserError(f"{key}={values!r} must be a section of keys.")
    for name, value in values.items():
        if name not in defaults:
            allowed = ", ".join(defaults)
            raise UserError(f"{key}.{name} is not a config key; allowed are {allowed}.")
        if isinstance(defaults[name], dict):
            _check_names(f"{key}.{name}", value, defaults[name])


def fill(values: Values) -> dict[str, Any]:
    """Fills the sections of a config with the defaults of the keys that they lack.

    Args:
        values: By section. What is no section, or no known one, stays as it is.

    Returns:
        The values, those of a section in the order of `DEFAULTS`, but steps and terms in their own;
        no section is added. A text where a tuple is meant is the tuple of it.
    """
    given = _items(values)
    named = {}
    for place, parts in PARTS.items():
        own = find_section(given, place)
        if own:  # the parts that it names, in its order
            named[place] = {name: parts[name] for name in own if name in parts}
    defaults = _with_parts(DEFAULTS, named)
    return _fill(given, {name: defaults[name] for name in DEFAULTS if name in given})


def _with_parts(
    defaults: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Puts other sections in the places of some, such as "eval.metrics"."""
    found = dict(defaults)
    for place, own in parts.items():
        section, _, below = place.partition(".")
        found[section] = _with_parts(found[section], {below: own}) if below else own
    return found


def find_section(values: Values, place: str) -> Values | None:
    """Returns the section of a place such as "eval.metrics"; None where there is none."""
    section: Any = values
    for name in place.split("."):
        section = section.get(name) if isinstance(section, Mapping | ConfigDict) else None
    return section if isinstance(section, Mapping | ConfigDict) else None


def _fill(values: Values, defaults: Mapping[str, Any]) -> dict[str, Any]:
    given, filled = _items(values), {}
    for name in (*defaults, *(name for name in given if name not in defaults)):
        value, default = given.get(name, defaults.get(name)), defaults.get(name)
        if isinstance(value, str) and isinstance(default, tuple):
            value = (value,)  # as the command line reads it
        are_sections = isinstance(value, Mapping | ConfigDict) and isinstance(default, Mapping)
        filled[name] = _fill(value, default) if are_sections else value
    return filled


def add_part(config: ConfigDict, key: str) -> None:
    """Adds the step or the term of a key to a config that does not name it.

    Args:
        config: The whole config.
        key: Such as "loss.dice.weight"; any other key adds nothing.
    """
    place, part, name = (*key.rsplit(".", 2), "", "")[:3]
    defaults, named = PARTS.get(place, {}).get(part, {}), find_section(config, place)
    if name in defaults and isinstance(named, ConfigDict) and part not in named:
        named[part] = to_config(defaults)


def complete(config: ConfigDict) -> ConfigDict:
    """Returns a config with the defaults of the keys that its sections lack; see `fill`."""
    return to_config(fill(config))


def to_config(values: Values) -> ConfigDict:
    """Makes a config that keeps the order of its keys, which a plain ConfigDict sorts."""
    config = ConfigDict(sort_keys=False)
    for key, value in _items(values).items():  # one by one: its own constructor copies sections
        config[key] = to_config(value) if isinstance(value, Mapping | ConfigDict) else value
    return config


def _items(values: Values) -> dict[Any, Any]:
    """Returns the items; references of one key to another, which a page may have, stay."""
    is_config = isinstance(values, ConfigDict)
    return dict(values.items(preserve_field_references=True) if is_config else values.items())
