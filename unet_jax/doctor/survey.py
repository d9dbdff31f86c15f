"""Looks at every image and mask of a config's data, each decoded once."""

import glob
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax.config import call, check_sections
from unet_jax.data import storage
from unet_jax.data.base import Dataset, PairSource
from unet_jax.data.exclude import UnpairedError
from unet_jax.data.layouts.base import OtherSourceError
from unet_jax.data.sample import Source, Spec
from unet_jax.data.sources import Loading, open_data, read_loading
from unet_jax.defaults import DEFAULTS, complete
from unet_jax.doctor.finding import Finding, excluding, setting
from unet_jax.doctor.look import Look, look
from unet_jax.errors import UserError
from unet_jax.models.unet import UNet
from unet_jax.process.console import follow

CLOSE = 40  # images of a split at most, of which objects and alignment are measured
UNNAMED = ("unnamed 0", "unnamed 1")
EASED: tuple[dict[str, Any], ...] = (
    {"split": DEFAULTS["data"]["split"], "folds": 0, "fold": 0},
    {"folder.lists": "", "folder.test_fraction": 0.0},
    {"folder.label_map": (), "folder.ignore_values": (), "folder.nearest": False},
    {"folder.class_names": UNNAMED},
    {
        key: DEFAULTS["data"][key]
        for key in ("image_size", "fit", "context", "crops", "value_range")
    },
)
"""What is changed in turn, until data open that do not as their config says."""
_BLOCK, _AHEAD = 8, 32  # images that a thread takes at once; blocks that wait for a thread
_POOL = 31 << 20  # bytes; a little less than the most that glibc learns from


class Survey(NamedTuple):
    """What a look at every image tells of a data set.

    Attributes:
        looks: By split; {} where the data do not open.
        class_names: K names; () where the config and the layout name none.
        values: Class id, or `IGNORE`, of every value of a mask; by class 0 or 1.
        by_class: Whether each class has a mask.
        spec: Of the first training image, black and white as the config says; None where there
            are no images.
        loading: How images are brought to a size; None where the config's numbers do not fit.
        stride: Pixels of an image that are one at the deepest level of the network; 0 where the
            model does not fit.
        levels: Of the network; 0 likewise.
        config: The whole config, changed where the data did not open with it as it was.
        opening: What opening the data found.
        split_by: How the splits were made, in words; see `Dataset`.
    """

    looks: Mapping[str, tuple[Look, ...]]
    class_names: tuple[str, ...]
    values: Mapping[int, int]
    by_class: bool
    spec: Spec | None
    loading: Loading | None
    stride: int
    levels: int
    config: ConfigDict
    opening: tuple[Finding, ...]
    split_by: str = ""

    def is_understood(self) -> bool:
        """Tells whether every value of every mask is a class, or counts nowhere."""
        return not any(one.unknown or one.colours for _, one in self.all())

    def all(self) -> Iterator[tuple[str, Look]]:
        """Yields the split and the look of every image."""
        for split, looks in self.looks.items():
            for one in looks:
                yield split, one


def survey(config: ConfigDict, threads: int | None = None) -> Survey:
    """Looks at every image and mask of a config's data.

    What cannot be read is told and passed over; where the data do not open as the config says,
    what can still be opened is looked at.

    Args:
        config: The whole config.
        threads: That decode; None for one a core.

    Returns:
        What was seen, in about 2 kB an image.

    Raises:
        UserError: The config is no config.
    """
    check_sections(config)
    config = complete(config)
    dataset, findings = _open(config)
    loading = _tried(read_loading, config.data)
    names: tuple[str, ...] = dataset.class_names if dataset else ()
    looks: dict[str, tuple[Look, ...]] = {}
    source, spec = None, None
    for split, images in dataset.splits.items() if dataset else ():
        looks[split] = look_at_all(images, split, len(names), threads or os.cpu_count() or 1)
        source = source or images
    if looks:
        spec = next((one.spec for one in itertools.chain(*looks.values()) if one.spec), None)
    if spec and loading and loading.value_range:
        black, white = loading.value_range
        spec = spec._replace(value_range=(black, white))
    model = _tried(call, UNet, "config.model", config.model, num_classes=max(1, len(names)))
    return Survey(
        looks=looks,
        class_names=() if names == UNNAMED else names,
        values=source.label_map if isinstance(source, PairSource) else {},
        by_class=bool(dataset and dataset.by_class),
        spec=spec,
        loading=loading,
        stride=_tried(lambda: model.multiple()) or 0,
        levels=len(model.features) if model else 0,
        config=config,
        opening=tuple(findings),
        split_by=dataset.split_by if dataset else "",
    )


def _tried(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns what a function does; None where the values do not fit, which training says."""
    try:
        return function(*args, **kwargs)
    except (UserError, ValueError, TypeError, AttributeError, IndexError):
        return None


def _open(config: ConfigDict) -> tuple[Dataset | None, list[Finding]]:
    """Opens the data as a config says, or else what can be opened; then changes the config."""
    findings: dict[str, Finding] = {}
    unnamed = _without_names(config)
    if unnamed is not None:  # which a fault of its own tells, when it is known what masks hold
        return unnamed, []
    eased = iter(EASED)
    while True:
        try:
            dataset, _ = call(open_data, "config.data", config.data.to_dict(), kept=None)
            return dataset, [*findings.values()]
        except UserError as error:
            says = str(error)
            if isinstance(error, UnpairedError) and says not in findings:
                findings[says] = _leave_out(config, error)
                continue
            if isinstance(error, OtherSourceError):
                mend = setting("data.source", error.source)
                findings[says] = Finding("opening", "error", (), says, mend)
                config.data.source = error.source
                continue
            findings.setdefault(
                says, Finding("opening", "error", (), says, "Change what the line names.")
            )
        changes = next(eased, None)
        if changes is None:
            return None, [*findings.values()]
        for key, value in changes.items():
            section, _, name = key.rpartition(".")
            part = config.data[section] if section else config.data
            part[name] = value


def _without_names(config: ConfigDict) -> Dataset | None:
    """Opens the data of a config that names no classes where that alone is in the way."""
    if config.data.source != "folder" or config.data.folder.class_names:
        return None
    as_it_is = _tried(open_data, **config.data.to_dict())
    changed = config.copy_and_resolve_references()
    changed.data.folder.class_names = UNNAMED
    opened = None if as_it_is else _tried(open_data, **changed.data.to_dict())
    if opened is None:
        return None
    config.data.folder.class_names = UNNAMED
    return opened[0]


def _leave_out(config: ConfigDict, error: UnpairedError) -> Finding:
    """Leaves files without a partner out of a config's data; says so."""
    names = [_below(name, config.data.path) for name in error.files]
    mend = excluding(config, names, "Add the files that are missing.")
    config.data.folder.exclude = (*config.data.folder.exclude, *map(glob.escape, names))
    return Finding("pairs", "error", error.files, str(error), mend)


def _below(file: str, root: str) -> str:
    """Returns the path of a file below a folder."""
    return file.removeprefix(f"{storage.as_path(root, 'config.data.path')}/")


def look_at_all(source: Source, split: str, num_classes: int, threads: int) -> tuple[Look, ...]:
    """Looks at all images of a split.

    Args:
        source: The split.
        split: Its name.
        num_classes: K.
        threads: That decode.

    Returns:
        What was seen, in their order.
    """
    every = max(1, -(-len(source) // CLOSE))
    np.empty(_POOL, np.uint8)  # the C library keeps what is freed for later, up to twice as much

    def look_at(indices: Sequence[int]) -> list[Look]:
        return look(source, indices, num_classes, lambda index: index % every == 0)

    blocks = [range(i, min(i + _BLOCK, len(source))) for i in range(0, len(source), _BLOCK)]
    with ThreadPoolExecutor(threads) as pool:
        found = (
            pool.map(look_at, blocks[start : start + _AHEAD])
            for start in range(0, len(blocks), _AHEAD)
        )
        seen = itertools.chain.from_iterable(itertools.chain.from_iterable(found))
        return tuple(follow(seen, f"looking at the {split} images", len(source)))
