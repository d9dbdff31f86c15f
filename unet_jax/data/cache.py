"""Images kept after decoding: in memory up to a number of bytes, and in a file between runs.

What is kept is what a batch is made of, so that batches are the same bytes with it and without.
"""

import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from unet_jax.data.base import PairSource
from unet_jax.data.images import read_sizes
from unet_jax.data.normalise import RANGE
from unet_jax.data.resize import resize_image, resize_label
from unet_jax.data.sample import Sample, Source, Spec, Window, reduced
from unet_jax.data.sources import Loading
from unet_jax.errors import UserError
from unet_jax.process.capacity import write_bytes
from unet_jax.process.console import console, follow
from unet_jax.process.whole import temporary_folder

KEY, MEBIBYTE = "config.data.cache", 2**20
_RULES = 1  # the number of this layout, and of what is done to an image before it is kept
_ALIGNED = 64  # bytes


def prepare(sample: Sample, loading: Loading) -> Sample:
    """Does to a training image what is the same each time: its values, and with "resize" its size.

    What is left to do is that of the loading with `normalise.RANGE`, without `reduced_jpeg`.
    """
    sample = sample._replace(image=loading.normalise.prepare(sample.image))
    if loading.fit != "resize":
        return sample
    label, objects = resize_label(sample.truth(), loading.image_size), sample.objects
    if objects is not None:
        objects = resize_label(objects, loading.image_size)
    image = resize_image(sample.image, loading.image_size)
    return sample._replace(image=image, label=label, objects=objects)


class Before:
    """A source before another one, whose whole images it keeps somehow; windows it passes on."""

    _source: Source

    def load(self, index: int) -> Sample:
        """Returns one image whole."""
        raise NotImplementedError

    @property
    def spec(self) -> Spec:
        """Returns what all images have in common."""
        return self._source.spec

    @property
    def ids(self) -> Sequence[str]:
        """Returns one name per image."""
        return self._source.ids

    def __len__(self) -> int:
        return len(self._source)

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the pixels of the label as it was along each axis, without decoding."""
        return self._source.shape(index)

    def read(self, index: int, window: Window | None = None) -> Sample:
        """Returns one image whole, or reads a window of it; see `Source`."""
        return self.load(int(index)) if window is None else self._source.read(index, window)


class Cached(Before):
    """A source that decodes images once, as long as they fit into some bytes.

    The first that come stay; none is put out for another, since each epoch asks for all once.
    """

    def __init__(self, source: Source, loading: Loading) -> None:
        """Wraps a training split; opens or makes the file where the config names a folder for it.

        Args:
            source: The images.
            loading: How training brings them to a size, and what is kept.

        Raises:
            UserError: The folder cannot be made, or an image cannot be read.
        """
        source = reduced(source, loading.reduced_size)
        self._source, self._loading = source, loading
        self._left, self._lock = loading.cache * MEBIBYTE, Lock()
        self._kept: dict[int, Sample] = {}
        if loading.cache_dir and isinstance(source, PairSource):
            if source.instances:
                console.print(f"{KEY}_dir holds no numbers of objects, so it is not used.")
                return
            self._kept = dict(enumerate(_samples(source, loading)))

    def load(self, index: int) -> Sample:
        """Returns one image whole, as it is kept."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        sample = prepare(self._source.read(index), self._loading)
        size = sample.image.nbytes + sample.truth().nbytes
        size += 0 if sample.objects is None else sample.objects.nbytes
        with self._lock:
            if index not in self._kept and size <= self._left:
                self._left -= size
                self._kept[index] = sample
        return sample


def keep(source: Source, loading: Loading) -> tuple[Source, Loading]:
    """Keeps the images of a training split, where the config keeps any.

    Args:
        source: The split.
        loading: How training brings its images to a size.

    Returns:
        The split to read from, and what is left to do to its images.
    """
    if not loading.cache:
        return source, loading
    return Cached(source, loading), loading._replace(normalise=RANGE, reduced_jpeg=False)


def _samples(source: PairSource, loading: Loading) -> list[Sample]:
    """Returns all images from the file, which is made where it is not there; [] where too large."""
    key = _fingerprint(source, loading)
    file = Path(loading.cache_dir).expanduser() / f"{key}.images"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{KEY}_dir={loading.cache_dir!r} cannot be made: {error.strerror}; choose another."
        ) from None
    found = _open(file, key, source, loading)
    if found is None:
        needs = _bytes(source, loading)
        if needs > loading.cache * MEBIBYTE:
            console.print(
                f"{KEY}={loading.cache} MiB is less than the {write_bytes(needs)} of the training "
                f"images, so {KEY}_dir is not used."
            )
            return []
        if file.exists():
            console.print(f"{file} is damaged, or no cache of these images; it is made anew.")
        try:
            _write(file, key, source, loading)
        except OSError as error:
            console.print(f"{file} cannot be written ({error.strerror}); training goes on without.")
            return []
        found = _open(file, key, source, loading)
    return found or []


def _bytes(source: PairSource, loading: Loading) -> int:
    """Returns how many bytes all images take, from the first and the headers of the others."""
    first = prepare(source.read(0), loading)
    axes = first.image.ndim - 1
    labels = first.truth().shape[axes:]
    pixel = first.image.shape[-1] * first.image.itemsize + math.prod(labels)
    if loading.fit == "resize":
        return len(source) * math.prod(loading.image_size) * pixel
    return sum(map(math.prod, read_sizes(source, loading.workers))) * pixel


def _fingerprint(source: PairSource, loading: Loading) -> str:
    """Names everything that the bytes of the images follow from."""
    with ThreadPoolExecutor(loading.workers) as pool:
        stamps = list(pool.map(source.pairs.stamp, source.indices))
    size = loading.image_size if loading.fit == "resize" else ()
    meaning = sorted(source.label_map.items()), source.by_class
    versions = _RULES, np.__version__, importlib.metadata.version("pillow")
    values = tuple(source.spec), tuple(loading.normalise), loading.reduced_jpeg
    text = repr((stamps, list(source.ids), size, meaning, values, versions))
    return hashlib.sha256(text.encode()).hexdigest()


def _write(file: Path, key: str, source: PairSource, loading: Loading) -> None:
    """Writes the file, whole or not at all: a line of what it holds, then the bytes of all images.

    The line follows the bytes, and its place and sum end the file.
    """

    def load(index: int) -> Sample:
        return prepare(source.read(index), loading)

    with temporary_folder(file.parent, ".cache_") as folder:
        part = folder / file.name
        with part.open("wb") as stream, ThreadPoolExecutor(loading.workers) as pool:

            def entries() -> Iterator[list[Any]]:
                for group in _groups(range(len(source)), 4 * loading.workers):
                    for sample in pool.map(load, group):
                        yield [
                            *(_append(stream, a) for a in (sample.image, sample.truth())),
                            list(sample.spacing),
                        ]

            said = follow(entries(), "decoding the training images", len(source))
            line = json.dumps({"key": key, "samples": said}).encode()
            place = stream.tell()
            stream.write(line + f"\n{place} {zlib.crc32(line)}".encode().rjust(64))
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)


def _append(stream: Any, array: np.ndarray) -> list[Any]:
    """Appends an array's bytes; returns its place, shape, type and sum."""
    stream.write(bytes(-stream.tell() % _ALIGNED))
    data = np.ascontiguousarray(array)
    place = stream.tell()
    stream.write(data.data)
    return [place, list(data.shape), data.dtype.str, zlib.crc32(data.data)]


def _groups(items: Iterable[int], most: int) -> Iterator[list[int]]:
    rest = iter(items)
    while group := list(itertools.islice(rest, most)):
        yield group


def _open(file: Path, key: str, source: PairSource, loading: Loading) -> list[Sample] | None:
    """Maps the file's images into memory; None where it is not there, or not what was written."""
    try:
        whole = np.memmap(file, np.uint8, "r")
        place, total = map(int, whole[-64:].tobytes().split())
        line = whole[place:-64].tobytes()
        known = json.loads(line) if zlib.crc32(line) == total else {}
        if known.get("key") != key or len(known["samples"]) != len(source):
            return None

        def take(entry: tuple[str, list[Any]]) -> Sample:
            name, (image, label, spacing) = entry
            arrays = [_map(whole, *said) for said in (image, label)]
            return Sample(arrays[0], arrays[1], name, tuple(spacing))

        with ThreadPoolExecutor(loading.workers) as pool:
            named = zip(source.ids, known["samples"], strict=True)
            return list(pool.map(take, named))
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _map(whole: np.memmap, place: int, shape: list[int], kind: str, total: int) -> np.ndarray:
    """Returns an array of the file, which cannot be written to.

    Raises:
        ValueError: Its bytes are not those that were written.
    """
    array = np.ndarray(tuple(shape), np.dtype(kind), whole, place)
    if zlib.crc32(array.data) != total:
        raise ValueError("other bytes")
    return array
