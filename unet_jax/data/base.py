"""Data sets, and the source that decodes pairs of an image and a mask."""

import copy
import functools
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, Protocol

import numpy as np

from unet_jax.data import storage
from unet_jax.data.formats import FOLDERS, find_format, read_image
from unet_jax.data.formats.base import MOST_VALUE, Header, Mask
from unet_jax.data.sample import Sample, Source, Spec, Window, written
from unet_jax.errors import UserError
from unet_jax.metrics.views import View
from unet_jax.task import BACKGROUND, IGNORE

_WEIGHT_CURE = "Change config.data.folder.weight, or config.data.folder.ignore_masks."


def each_alone(source: Source) -> Sequence[str]:
    """Returns no groups: every image stands for itself; see `Dataset`."""
    del source
    return ()


class Dataset(NamedTuple):
    """The splits of a data set: "train", "val" and, where there is one, "test".

    Attributes:
        splits: Sources by name.
        class_names: K names.
        views: Other ways to count the same predictions.
        by_class: Whether a label has an axis of classes, which may overlap; see `Task`.
        split_by: How the splits were made, in words; "" where there is nothing to say.
        grouping: Returns the group of every image of a split, such as its patient or its stack, or
            () where each stands for itself. A table may be read for it.
    """

    splits: Mapping[str, Source]
    class_names: tuple[str, ...]
    views: tuple[View, ...] = ()
    by_class: bool = False
    split_by: str = ""
    grouping: Callable[[Source], Sequence[str]] = each_alone


class MaskReader(Protocol):
    """How the encoded masks of an image become values of its pixels."""

    def __call__(
        self, masks: Sequence[bytes], names: Sequence[str], window: Window | None
    ) -> list[Mask]:
        """Decodes the masks, or the window of each.

        Args:
            masks: What is encoded.
            names: Of the files it came from.
            window: The part to decode; None for all.

        Returns:
            One mask, or one for each class where classes may overlap.
        """
        ...


def read_each(masks: Sequence[bytes], names: Sequence[str], window: Window | None) -> list[Mask]:
    """Decodes every mask as it is; see `MaskReader`."""
    return [
        find_format(name).read_mask(io.BytesIO(mask), name, window)
        for name, mask in zip(names, masks, strict=True)
    ]


def decode_counts(
    data: bytes, name: str, shape: tuple[int, ...], window: Window | None, mask: str, cure: str
) -> np.ndarray:
    """Decodes an image that is black where the pixels of a mask do not count.

    Args:
        data: What is encoded.
        name: Of the file it came from.
        shape: Of the mask, or of the window of it.
        window: The part to decode; None for all.
        mask: The mask's file, for the error.
        cure: What to change, for the error.

    Returns:
        bool [*n], whether a pixel counts.

    Raises:
        UserError: It cannot be read, has another shape, or more than two values.
    """
    read = find_format(name).read(io.BytesIO(data), name, len(shape), window)
    if read.shape[:-1] != shape:
        raise UserError(
            f"{name} is {written(read.shape[:-1])} but the mask of its image {mask} is "
            f"{written(shape)}; they must have one size. {cure}"
        )
    brightest = read.max(axis=-1)
    counts = brightest != 0
    if (brightest[counts] != brightest.max()).any():
        raise UserError(
            f"{name} holds more than black, which does not count, and one other value, which "
            "does; save it without loss and without soft edges."
        )
    return counts


class Encoded(NamedTuple):
    """An encoded image with its encoded mask, and the files (or records) they came from.

    There are several masks where each class, or each object, has one. Of a folder that is an image
    nothing is read yet; its name leads to it.

    Attributes:
        image: Of the image.
        masks: Of the masks.
        image_name: Where the image came from.
        mask_names: Likewise of the masks.
        reader: How the masks become values.
        weights: Of images that are black where pixels do not count; () where all do.
        weight_names: Where these came from.
    """

    image: bytes
    masks: tuple[bytes, ...]
    image_name: str
    mask_names: tuple[str, ...]
    reader: MaskReader = read_each
    weights: tuple[bytes, ...] = ()
    weight_names: tuple[str, ...] = ()

    def decode_image(
        self, axes: int, window: Window | None = None, size: tuple[int, ...] | None = None
    ) -> np.ndarray:
        """Decodes the image [*n, C], or the window of it; see `formats.read_image`."""
        return read_image(io.BytesIO(self.image), self.image_name, axes, window, size)

    def decode_masks(self, window: Window | None = None) -> list[Mask]:
        """Decodes the mask, or all of them, or the window of each."""
        return self.reader(self.masks, self.mask_names, window)

    def decode_weight(self, shape: tuple[int, ...], window: Window | None = None) -> np.ndarray:
        """Tells which pixels of a mask of some shape count: bool [*n].

        Raises:
            UserError: What says so cannot be read, or has another shape.
        """
        counts = np.ones(shape, bool)
        for weight, name in zip(self.weights, self.weight_names, strict=True):
            counts &= decode_counts(weight, name, shape, window, self.mask_names[0], _WEIGHT_CURE)
        return counts

    def contents(self) -> tuple[bytes, bytes]:
        """Returns all bytes of the image, and of its masks and weight; of folders their files'."""
        names = (self.image_name, *self.mask_names)
        encoded = zip(names, (self.image, *self.masks), strict=True)
        image, *masks = (
            storage.digest_folder(Path(name)) if find_format(name).is_folder else data
            for name, data in encoded
        )
        return image, b"".join((*masks, *self.weights))


class Pairs(Protocol):
    """Encoded images and masks by index, from files or records."""

    @property
    def ids(self) -> Sequence[str]:
        """Returns one name per pair."""
        ...

    def names(self, index: int) -> tuple[str, ...]:
        """Returns the names of a pair's files (or records): the image's, then the masks'."""
        ...

    def read(self, index: int) -> Encoded:
        """Reads one pair, not decoded."""
        ...

    def header(self, index: int) -> Header:
        """Reads the header of an image, not decoded."""
        ...

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels [*n] of the mask along each axis, without decoding."""
        ...

    def stamp(self, index: int) -> str:
        """Returns a text that changes when the pair changes, without reading it."""
        ...

    @property
    def place(self) -> str:
        """Returns where they lie, the same text for all splits of a data set."""
        ...


class PairSource:
    """A source that decodes the pairs of one split.

    Attributes:
        pairs: All pairs.
        indices: Those of the split, in its order.
        label_map: Class id, or `IGNORE`, of every value that a mask may hold; by class 0 or 1.
        cure: What to do where a mask holds another value; "" where `label_map` is the user's.
        used: Names of the pairs that are in any split of the data set.
        by_class: Whether each class has a mask; see `Dataset`.
        instances: Whether each value of a mask that is a class other than the background is one
            object; see `Sample`.
    """

    def __init__(
        self,
        pairs: Pairs,
        indices: Sequence[int],
        label_map: Mapping[int, int],
        cure: str = "",
        used: Collection[str] | None = None,
        *,
        by_class: bool = False,
        instances: bool = False,
    ) -> None:
        """Describes the split; nothing is read. Where `used` is None, all pairs are."""
        self.by_class, self.instances = by_class, instances
        self.pairs, self.indices, self.label_map = pairs, tuple(indices), dict(label_map)
        self.cure, self.used = cure, pairs.ids if used is None else used
        self._size: tuple[int, ...] | None = None
        self._table = np.full(MOST_VALUE + 1, IGNORE, np.uint8)
        for value, class_id in label_map.items():
            self._table[value] = class_id

    @property
    def ids(self) -> Sequence[str]:
        """Returns one name per image."""
        return [self.pairs.ids[position] for position in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    @functools.cached_property
    def spec(self) -> Spec:
        """Returns the spec of the first image, which all others must have too; see `Source`."""
        return self.pairs.header(self.indices[0]).spec()

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels of a label along each axis, without decoding; see `Source`."""
        return self.pairs.shape(self.indices[int(index)])

    def reduced(self, size: tuple[int, ...]) -> "PairSource":
        """Returns the source that decodes JPEG files at a reduced scale; see `Reducible`."""
        other = copy.copy(self)
        other._size = size
        return other

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Reads and decodes one pair; see `Source`."""
        position = self.indices[int(index)]
        encoded = self.pairs.read(position)
        masks = encoded.decode_masks(window)
        labels = self._labels(encoded, masks, window)
        axes = labels[0].ndim
        image = encoded.decode_image(axes, window, self._size)
        label = np.stack(labels, axis=-1) if self.by_class else labels[0]
        objects = None
        if self.instances:
            is_none = (labels[0] == BACKGROUND) | (labels[0] == IGNORE)
            objects = np.where(is_none, 0, masks[0].ids.astype(np.int32) + 1)
        is_folder = PurePath(self.pairs.names(position)[0]).suffix.lower() in FOLDERS
        # Of files no format tells it, so that reading their headers once more is spared.
        spacing = self.pairs.header(position).spacing if is_folder else (1.0,) * axes
        return Sample(image, label, self.pairs.ids[position], spacing, objects)

    def read_label(self, index: int) -> np.ndarray:
        """Returns the label of an image, as in its sample; decodes no image."""
        encoded = self.pairs.read(self.indices[int(index)])
        labels = self._labels(encoded, encoded.decode_masks())
        return np.stack(labels, axis=-1) if self.by_class else labels[0]

    def held_classes(self, index: int) -> list[int]:
        """Returns the classes that the label of an image holds, sorted; decodes no image."""
        label = self.read_label(index)
        if self.by_class:
            return [k for k in range(label.shape[-1]) if np.any(label[..., k] == 1)]
        return [int(k) for k in np.unique(label) if k != IGNORE]

    def _labels(
        self, encoded: Encoded, masks: Sequence[Mask], window: Window | None = None
    ) -> list[np.ndarray]:
        """Returns the label, or that of each class; `IGNORE` where pixels do not count."""
        labels = [self._table[mask.ids] for mask in masks]
        if encoded.weights:
            ignored = ~encoded.decode_weight(labels[0].shape, window)
            for label in labels:
                label[ignored] = IGNORE
        return labels


def pick(ids: Sequence[str], names: Iterable[str]) -> list[int]:
    """Finds the indices of some names, in their order; names that are not there are left out.

    Args:
        ids: N different names.
        names: Those to find.

    Returns:
        Indices into `ids`.
    """
    position = {name: index for index, name in enumerate(ids)}
    return [position[name] for name in names if name in position]
