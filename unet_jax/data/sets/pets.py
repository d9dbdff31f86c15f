"""Oxford-IIIT Pet (Parkhi et al., 2012): its classes, splits and scores, from files or TFDS."""

import functools
import io
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from unet_jax.data import storage
from unet_jax.data.base import Dataset, Encoded, Pairs, PairSource, pick
from unet_jax.data.files import FilePairs, read_list
from unet_jax.data.formats import find_format
from unet_jax.data.formats.base import Header
from unet_jax.data.sample import Source
from unet_jax.data.split_rules import NO_RULES, Rules
from unet_jax.data.splits import find_facts, groups_of, say_val, take_val
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError
from unet_jax.metrics.views import View
from unet_jax.process.regular import LARGEST

CLASS_NAMES = ("pet", "background", "border")
LABEL_MAP = {1: 0, 2: 1, 3: 2}
CURE = "These are no trimaps of Oxford-IIIT Pet; take the original ones."
# No proper JPEG files in the archives: TFDS encodes them anew, so their bytes there are others.
ENCODED_ANEW = frozenset(
    {
        "beagle_116",
        "chihuahua_121",
        *(f"Abyssinian_{number}" for number in (5, 34)),
        *(f"Egyptian_Mau_{number}" for number in (14, 139, 145, 156, 167, 177, 186, 191)),
    }
)
VIEWS = (
    View("border_as_pet", (0, 1, 0), (0, 1, 0), ("pet", "background")),
    View("border_ignored", (0, 1, -1), (0, 1, 0), ("pet", "background")),
)


class RecordPairs:
    """Images and trimaps in the records of the prepared TFDS data set."""

    def __init__(self, records: Any, split: str, path: str) -> None:
        """Takes a `tfds_pets.Records`, the name of its official list, and TFDS's directory."""
        self.ids, self._records, self._split = records.names, records, split
        self._path = path

    def names(self, index: int) -> tuple[str, ...]:
        """Names the record's image and mask; see `Pairs`."""
        name = f"oxford_iiit_pet/{self._split}/{self.ids[index]}"
        return f"{name}.jpg", f"{name}.png"

    def read(self, index: int) -> Encoded:
        """Reads one pair; see `Pairs`."""
        record, (image, mask) = self._records[index], self.names(index)
        return Encoded(record["image"], (record["mask"],), image, (mask,))

    def header(self, index: int) -> Header:
        """Reads the header of the record's image; see `Pairs`."""
        encoded = self.read(index)
        return _header(encoded.image, encoded.image_name)

    def shape(self, index: int) -> tuple[int, ...]:
        """Reads the pixels from the header of the record's mask; see `Pairs`."""
        encoded = self.read(index)
        return _header(encoded.masks[0], encoded.mask_names[0]).shape

    def stamp(self, index: int) -> str:
        """Names the record; see `Pairs`. A prepared data set never changes."""
        return f"{self.place}/{self.ids[index]}"

    @property
    def place(self) -> str:
        """Names the official list; see `Pairs`."""
        return f"{self._path}:oxford_iiit_pet:4.0.0/{self._split}"


def _header(data: bytes, name: str) -> Header:
    return find_format(name).header(io.BytesIO(data), name, 2)


def open_tfds(
    path: str,
    val_fraction: float,
    split_seed: int,
    *,
    verify_checksums: bool = True,
    kept: Mapping[str, Iterable[str]] | None = None,
    rules: Rules = NO_RULES,
) -> Dataset:
    """Opens the data set through TFDS, which prepares it on first use.

    Args:
        path: TFDS's data directory; "" for its default.
        val_fraction: Share of the official trainval list kept for validation.
        split_seed: Of that split.
        verify_checksums: Whether archives placed by hand must be the original ones.
        kept: Ids by split of a run that keeps its own splits; see `sources.open_data`.
        rules: Folds, groups and strata of the official trainval list, by default strata by breed.

    Returns:
        Its three splits.

    Raises:
        UserError: The path is remote, or the set can neither be opened nor prepared.
    """
    if "://" in path:
        raise UserError(
            f"config.data.path={path!r} is not a local path, which config.data.source='tfds' "
            "needs; change it, or unpack the official archives there and take "
            "config.data.source='pets'."
        )
    from unet_jax.data.sets import tfds_pets  # TFDS takes its time to import

    records = tfds_pets.open_pets(path, verify_checksums=verify_checksums)
    trainval, test = (RecordPairs(records[name], name, path) for name in ("trainval", "test"))
    return _dataset(trainval, test, val_fraction, split_seed, kept, rules, path)


def open_pets(
    path: str,
    val_fraction: float,
    split_seed: int,
    *,
    largest_file: int = LARGEST,
    kept: Mapping[str, Iterable[str]] | None = None,
    rules: Rules = NO_RULES,
) -> Dataset:
    """Opens the unpacked archives: images/, annotations/{trimaps/, trainval.txt, test.txt}.

    Args:
        path: The directory; it may be gs://BUCKET/FOLDER or s3://BUCKET/FOLDER.
        val_fraction: Share of the official trainval list kept for validation.
        split_seed: Of that split.
        largest_file: MiB of the largest file that is read.
        kept: Ids by split of a run that keeps its own splits; see `sources.open_data`.
        rules: Folds, groups and strata of the official trainval list, by default strata by breed.

    Returns:
        Its three splits.

    Raises:
        UserError: The directory, a list, or a file that a list names, is missing.
    """
    root = storage.as_path(path, "config.data.path")
    folder = root / "annotations"
    if not path or not storage.is_folder(folder / "trimaps"):
        raise UserError(
            f"config.data.path={path!r} holds no annotations/trimaps/; give the directory of the "
            "unpacked archives of Oxford-IIIT Pet. Images of your own are those of "
            "config.data.source='folder'."
        )
    lists = {n: read_list(folder / f"{n}.txt", first_word=True) for n in ("trainval", "test")}
    if kept is not None:  # whatever the lists say now
        ids = dict.fromkeys(itertools.chain(*kept.values(), *lists.values()))
        files = {i: _files(root, i) for i in ids}
        gone = set(storage.missing([file for pair in files.values() for file in pair]))
        files = {i: pair for i, pair in files.items() if not gone & set(pair)}
        pairs = FilePairs(tuple(files), tuple(files.values()), largest_file)
        return _dataset(pairs, pairs, val_fraction, split_seed, kept, rules, path)
    pairs = []
    for name, ids in lists.items():
        files = [_files(root, i) for i in ids]
        missing = storage.missing([file for pair in files for file in pair])
        if missing:
            raise UserError(
                f"{len(missing)} files that {folder}/{name}.txt names are missing, the "
                f"first is {missing[0]}; put them there or take their names out of the list."
            )
        pairs.append(FilePairs(ids, files, largest_file))
    return _dataset(pairs[0], pairs[1], val_fraction, split_seed, None, rules, path)


def _files(path: AnyPath, name: str) -> tuple[AnyPath, AnyPath]:
    return path / "images" / f"{name}.jpg", path / "annotations" / "trimaps" / f"{name}.png"


def _dataset(
    trainval: Pairs,
    test: Pairs,
    val_fraction: float,
    split_seed: int,
    kept: Mapping[str, Iterable[str]] | None,
    rules: Rules,
    path: str,
) -> Dataset:
    """Orders images by name, so that files and records give the same batches."""
    lists = {"train": trainval, "val": trainval, "test": test}
    split_by = ""
    if kept is None:
        breeds = [name.rsplit("_", 1)[0] for name in trainval.ids]
        position = {
            text: [index]
            for index, name in enumerate(trainval.ids)
            for text in (name, f"{name}.jpg")
        }
        every = range(len(trainval.ids))
        images = PairSource(trainval, every, LABEL_MAP, CURE)
        facts = find_facts(rules, images, position, path, trainval.ids, breeds, "breed")
        train, val = take_val(facts, every, val_fraction, split_seed)
        split_by = f"official test, {say_val(rules, val_fraction)}{facts.says}, seed {split_seed}"
        kept = {
            "train": sorted(trainval.ids[i] for i in train),
            "val": sorted(trainval.ids[i] for i in val),
            "test": sorted(test.ids),
        }
    splits = {
        split: PairSource(lists[split], pick(lists[split].ids, names), LABEL_MAP, CURE)
        for split, names in kept.items()
    }
    grouping = functools.partial(_groups, rules)
    return Dataset(splits, CLASS_NAMES, VIEWS, split_by=split_by, grouping=grouping)


def _groups(rules: Rules, source: Source) -> list[str]:
    """Returns the groups of a split's images, where their names tell; no table has the test's."""
    assert isinstance(source, PairSource)
    if rules.group_column:
        return []
    return groups_of(rules, source, {}, "", source.pairs.ids)
