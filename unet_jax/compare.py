"""In what two configs differ, and whether that changes the results of a run."""

from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from unet_jax.config import SECTIONS, tuples
from unet_jax.convert import convert
from unet_jax.defaults import fill

# Keys, or sections, that say where a run's data lie and how it is computed, not what: they may
# change when it goes on, is evaluated or predicts, and results stay the same up to rounding. That
# the data are the same is checked by their contents; see runs/splits.py.
MAY_DIFFER = (
    "data.source",
    "data.path",
    "data.workers",
    "data.largest_file",
    "data.cache",
    "data.cache_dir",
    "data.split.table",
    "data.folder.images",
    "data.folder.masks",
    "data.folder.mask_suffix",
    "data.folder.lists",
    "data.folder.weight",
    "data.tfds.verify_checksums",
    "eval.batch_size",
    "eval.shown",
    "eval.figures",
    "eval.metrics",
    "eval.tiles",
    "train.trackers",
    "mesh",
)
_LENGTH = ("train.duration", "optim.horizon")


def differences(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Names the keys in which two configs differ.

    Args:
        old: One config.
        new: The other.

    Returns:
        Lines such as "config.train.seed: 0 -> 1", sorted by key.
    """
    pairs = _different(old, new)
    return [f"config.{key}: {one!r} -> {other!r}" for key, (one, other) in pairs.items()]


def other_results(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Names the keys in which two configs differ and that are not in `MAY_DIFFER`.

    Args:
        old: One config.
        new: The other.

    Returns:
        Lines as those of `differences`.
    """
    pairs = _different(old, new)
    return [
        f"config.{key}: {one!r} -> {other!r}"
        for key, (one, other) in pairs.items()
        if not may_differ(key)
    ]


def may_differ(key: str) -> bool:
    """Tells whether a key such as "data.path" is one of `MAY_DIFFER`, or below one."""
    return any(key == name or key.startswith(f"{name}.") for name in MAY_DIFFER)


def _different(old: ConfigDict, new: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Returns the values of two configs by the keys in which they differ, sorted.

    A key that one of them lacks is its default.
    """
    one, other = fill(old), fill(new)
    found = _different_flat(dict(flatten(one)), dict(flatten(other)))
    orders = [tuple(values.get("augment") or ()) for values in (one, other)]
    if orders[0] != orders[1] and set(orders[0]) == set(orders[1]):
        found["augment"] = orders[0], orders[1]  # the order of its steps
    return found


def _different_flat(
    flat_old: Mapping[str, Any], flat_new: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    found = {}
    for key in sorted({*flat_old, *flat_new}):
        one, other = flat_old.get(key, "(absent)"), flat_new.get(key, "(absent)")
        if one != other:
            found[key] = one, other
    return found


def identity(config: ConfigDict) -> dict[str, Any]:
    """Returns the values that tell a run from others, by key: those its results depend on.

    Args:
        config: The whole config.

    Returns:
        The values, but for those of `MAY_DIFFER` and those that change when a run is made longer.
    """
    return _identity(fill(config))


def _identity(values: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(flatten(values))
    return {key: value for key, value in flat.items() if not may_differ(key) and key not in _LENGTH}


def other_identity(old: Mapping[str, Any], config: ConfigDict) -> list[str]:
    """Names the keys in which a config differs from that of a run.

    Args:
        old: What `identity` returned, also as JSON gives it back.
        config: The whole config.

    Returns:
        Lines as those of `differences`; what an older version wrote is converted.
    """
    nested: dict[str, Any] = {name: {} for name in SECTIONS}
    for key, value in old.items():
        *path, name = key.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})
        section[name] = tuples(value)
    pairs = _different_flat(_identity(convert(nested)), identity(config))
    return [f"config.{key}: {one!r} -> {other!r}" for key, (one, other) in pairs.items()]


def flatten(section: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yields the values of sections within sections, by keys such as "optim.learning_rate"."""
    for key, value in section.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", tuples(value)
