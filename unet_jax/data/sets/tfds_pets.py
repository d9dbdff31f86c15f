"""Oxford-IIIT Pet (`oxford_iiit_pet` 4.0.0) through tensorflow-datasets, without TensorFlow.

The stock builder extracts archives and repairs images with TensorFlow. The builder below does
both with `tarfile` and Pillow and leaves the rest alone: name, version, features, keys and so the
order of the records are the stock ones, and plain `tfds.builder("oxford_iiit_pet", data_dir=...)`
opens what is prepared here. This module and `pets_archives` alone import tensorflow_datasets;
import them only where they are used, so that other data sets do without.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import shutil
import socket
import sys
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.core.download.resource import get_dl_fname
from tensorflow_datasets.core.utils import tqdm_utils
from tensorflow_datasets.datasets.oxford_iiit_pet import (
    oxford_iiit_pet_dataset_builder as stock,
)

from unet_jax.data import retry
from unet_jax.data.retry import one_line
from unet_jax.data.sets import pets_archives
from unet_jax.errors import UserError

_SPLITS = {"trainval": "train", "test": "test"}  # the official names -> tfds' names
_FORMAT = "array_record"  # the one format of tfds with random access and no extra dependency
_PROBE_SECONDS = 5


class Records:
    """Random access to the records of one split, images and masks still encoded.

    Attributes:
        names: The image names without suffix ("Abyssinian_100"), in the order of the records.
    """

    def __init__(self, source: Sequence[dict[str, Any]], names: tuple[str, ...]) -> None:
        """Wraps an opened split.

        Args:
            source: The records as tfds reads them, with their images undecoded.
            names: The name of each record.
        """
        self._source = source
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> dict[str, Any]:
        """Reads one record; safe to call from several threads.

        Args:
            i: Which record; negative numbers count from the end.

        Returns:
            name: the image's name, image: the bytes of a JPEG file, mask: those of a PNG file.

        Raises:
            IndexError: There is no such record.
        """
        record = self._source[range(len(self))[i]]
        return {
            "name": _stem(record),
            "image": record["image"],
            "mask": record["segmentation_mask"],
        }

    def __repr__(self) -> str:
        # Grain compares the repr of a data source when it restores an iterator: no address in it.
        return f"Records({stock.Builder.name}, {len(self)} records)"


def open_pets(path: str, *, verify_checksums: bool = True) -> dict[str, Records]:
    """Opens the data set, preparing it first (once) where it is not.

    It is prepared from images.tar.gz and annotations.tar.gz, each looked for in
    `<path>/downloads/manual`, in `<path>` and among tfds' earlier downloads, else downloaded.
    Preparing shows progress bars on a terminal and logs its steps elsewhere. An interrupted
    preparation leaves nothing that counts as prepared; a killed process leaves the folders
    `unet_jax_extract_*` and `oxford_iiit_pet/incomplete.*` in `<path>`, which may be deleted. Two
    processes must not prepare into one `path` at once: both would do all the work and the later
    one fails at the end; prepare in one process first.

    Args:
        path: tfds' data_dir; "" is tfds' default, TFDS_DATA_DIR or ~/tensorflow_datasets.
        verify_checksums: Whether archives found on disk must have the size and the sha256 that
            tfds has recorded. Fresh downloads are always verified.

    Returns:
        The records of the official splits, by name: "trainval" and "test".

    Raises:
        UserError: The set can neither be opened nor prepared; the message says what to do.
    """
    # Absolute: the record files are opened late, maybe after a change of the working directory.
    builder = _Builder(data_dir=os.path.abspath(os.path.expanduser(path)) if path else None)
    if not builder.data_path.exists():
        _prepare(builder, verify_checksums)
    elif not builder.is_prepared():
        raise UserError(
            f"{builder.data_dir} exists but holds no prepared data set (dataset_info.json and "
            "features.json): move it away, the set is then prepared again."
        )
    _check_readable(builder)
    return {split: _open_split(builder, split) for split in _SPLITS}


def _check_readable(builder: _Builder) -> None:
    formats = sorted(f.value for f in builder.info.available_file_formats())
    if _FORMAT not in formats:
        raise UserError(
            f"{builder.data_dir} is prepared as {', '.join(formats)}, but only {_FORMAT} can be "
            "read without TensorFlow: move that folder away, the set is then prepared again, or "
            "give another data folder."
        )


class _Persistent(Sequence):
    """The records of one split as tfds reads them; what fails for a moment is read again."""

    def __init__(self, builder: _Builder, split: str) -> None:
        self._builder, self._split = builder, split
        self._source = retry.again(self._open, f"{builder.data_dir} ({split})")

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: Any) -> dict[str, Any]:  # pyrefly: ignore[bad-override]
        name = f"record {i} of {self._split} in {self._builder.data_dir}"
        return retry.again(lambda: self._read(i), name, (OSError, RuntimeError))

    def _read(self, i: int) -> dict[str, Any]:
        try:
            return self._source[i]
        except (OSError, RuntimeError):
            # array_record keeps a file that it failed to open as it is: it would fail for good.
            self._source = self._open()
            raise

    def _open(self) -> Sequence[dict[str, Any]]:
        for file in self._builder.info.splits[_SPLITS[self._split]].filepaths:
            _check_file(file, self._builder)
        skip = tfds.decode.SkipDecoding()
        return self._builder.as_data_source(
            _SPLITS[self._split],
            decoders={"image": skip, "segmentation_mask": skip},
            file_format=_FORMAT,
        )


def _check_file(file: epath.Path, builder: _Builder) -> None:
    """Tells what cannot get better, since array_record has one kind of error for all."""
    try:
        file.open("rb").close()
    except FileNotFoundError:
        raise UserError(
            f"{file} is missing: move {builder.data_dir} away, the set is then prepared again."
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(f"{file} cannot be read: {retry.reason(error)}.") from None


def _open_split(builder: _Builder, split: str) -> Records:
    source = _Persistent(builder, split)
    return Records(source, _load_names(Path(builder.data_dir), split, source))


def _stem(record: dict[str, Any]) -> str:
    return record["file_name"].decode().removesuffix(".jpg")


def _load_names(folder: Path, split: str, source: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Names of all records, from a file next to them, else from the records and then kept there.

    The file is written after tfds has moved the finished set into place, so that no interrupted
    preparation leaves one; a set prepared by plain tfds gets it when it is first opened.
    """
    file = folder / f"unet_jax_names_{split}.json"
    try:
        names = tuple(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none yet, half-written or damaged
        names = ()
    # The ends tell whether the file belongs to these records, at the price of two reads.
    last = len(source) - 1
    if len(names) == len(source) and all(names[i] == _stem(source[i]) for i in (0, last)):
        return names
    logging.info("Reading the names of the %d %s records, once", len(source), split)
    names = tuple(_stem(source[i]) for i in range(len(source)))
    with contextlib.suppress(OSError):  # a read-only folder only costs this time at each start
        file.write_text(json.dumps(names), encoding="utf-8")
    return names


def _prepare(builder: _Builder, verify_checksums: bool) -> None:
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # in a log file a bar is one endless line
    root = Path(builder.data_dir_root)
    archives = _get_archives(builder, root, verify_checksums)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unet_jax_extract_", dir=root) as extracted:
            for archive in archives:
                _extract(archive, Path(extracted))
            builder.extracted = Path(extracted)
            builder.download_and_prepare(file_format=_FORMAT)
    except OSError as error:  # no space, no right to write
        raise UserError(
            f"cannot prepare {builder.data_dir}: {one_line(error)}; free some space there or "
            "give a data folder that can be written."
        ) from error


def _get_archives(builder: _Builder, root: Path, verify_checksums: bool) -> list[Path]:
    """Finds or downloads the two archives."""
    infos = builder.url_infos
    found: dict[str, Path] = {}
    missing = []
    for name in pets_archives.ARCHIVES:
        url = f"{stock._BASE_URL}/{name}"
        downloads = root / "downloads"
        cached = downloads / builder.name / get_dl_fname(url, infos[url].checksum)
        places = (downloads / "manual" / name, root / name, cached)
        if file := next((place for place in places if place.is_file()), None):
            found[url] = file
        else:
            missing.append(url)
    if missing:
        _probe(missing, root)  # before minutes of hashing
    if verify_checksums:
        for url, file in found.items():
            _verify(file, url, infos[url])
    return [*found.values(), *(_download(builder, missing, root) if missing else ())]


def _by_hand(urls: Sequence[str], root: Path, problem: str) -> UserError:
    return UserError(
        f"oxford_iiit_pet is not prepared in {root} and {problem}: download {' and '.join(urls)} "
        f"elsewhere, put {' and '.join(url.rpartition('/')[2] for url in urls)} into "
        f"{root / 'downloads' / 'manual'} and start again."
    )


def _probe(urls: Sequence[str], root: Path) -> None:
    """Fails within seconds where tfds would retry an unreachable host for minutes."""
    target = urlsplit(urls[0])
    proxy = urllib.request.getproxies().get(target.scheme)
    if proxy and not urllib.request.proxy_bypass(target.hostname or ""):
        target = urlsplit(proxy)
    port = target.port or {"https": 443}.get(target.scheme, 80)
    try:
        socket.create_connection((target.hostname or "", port), _PROBE_SECONDS).close()
    except OSError as error:
        raise _by_hand(
            urls, root, f"{target.hostname} cannot be reached ({one_line(error)})"
        ) from error


def _download(builder: _Builder, urls: list[str], root: Path) -> list[Path]:
    logging.info("Downloading %s", " and ".join(urls))
    try:
        manager = tfds.download.DownloadManager(
            download_dir=root / "downloads",
            dataset_name=builder.name,
            url_infos=builder.url_infos,
        )
        files: Any = manager.download(urls)
        return [Path(file) for file in files]
    except Exception as error:  # requests, urllib3 and tfds raise many kinds
        raise _by_hand(urls, root, f"the download failed ({one_line(error)})") from error


def _verify(file: Path, url: str, expected: UrlInfo) -> None:
    logging.info("Verifying the checksum of %s", file)
    with file.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        wanted, found = f"{int(expected.size)} bytes", f"{size} bytes"
        if size == expected.size:  # no need to hash the wrong size
            found = f"sha256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"
            wanted = f"sha256 {expected.checksum}"
    if found != wanted:
        raise UserError(
            f"{file} is not the original archive: expected {wanted}, found {found}; download "
            f"{url} again or pass --config.data.tfds.verify_checksums=False."
        )


def _extract(archive: Path, folder: Path) -> None:
    logging.info("Extracting %s", archive)
    try:
        # "r:*": the official archives have been gzipped or plain tar files under one name.
        with tarfile.open(archive, "r:*") as tar:
            bar = tqdm_utils.tqdm(
                tar, desc=f"Extracting {archive.name}...", unit=" files", leave=False
            )
            for member in bar:
                # "._*" are leftovers of macOS: not images, though they are named like them.
                if member.isfile() and not os.path.basename(member.name).startswith("._"):
                    _extract_member(tar, member, folder)
            # tarfile takes a damaged header for the end and stops before gzip's own checksum.
            while tar.fileobj and tar.fileobj.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{archive} cannot be extracted ({one_line(error)}): download it again."
        ) from error


def _extract_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Extracts a file; one that would lie outside the folder is an error.

    `TarFile.extract` would do the same with a filter, which Python has from 3.11.4 on.
    """
    file = (folder / member.name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise tarfile.ExtractError(f"{member.name} would lie outside the folder")
    file.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    assert source, "only called for files"
    with source, file.open("wb") as target:
        shutil.copyfileobj(source, target)


class _Builder(stock.Builder, skip_registration=True):
    """The stock builder, except that it starts from the extracted archives.

    It stays unregistered, so that `tfds.builder("oxford_iiit_pet")` is the stock one everywhere.
    """

    name = stock.Builder.name
    # tfds looks for a data set's description and checksums next to the builder's source.
    pkg_dir_path = epath.Path(stock.__file__).parent
    url_infos: ClassVar[dict[str, UrlInfo]] = stock.Builder.url_infos
    extracted: Path

    def _split_generators(  # pyrefly: ignore[bad-override]
        self, dl_manager: Any
    ) -> dict[str, Iterator[tuple[str, dict]]]:
        # Both lists are read before the first record is written: mistakes show at once.
        lists = {split: pets_archives.read_list(self.extracted, split) for split in _SPLITS}
        return {_SPLITS[split]: self._generate_examples(lists[split]) for split in _SPLITS}

    def _generate_examples(  # pyrefly: ignore[bad-override]
        self, entries: list[tuple[str, int, int]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, (name, label, species) in enumerate(entries):
            if number % 1000 == 0:
                logging.info("Preparing image %d of %d", number + 1, len(entries))
            mask = (self.extracted / pets_archives.mask_of(name)).read_bytes()
            pets_archives.decode(mask, pets_archives.mask_of(name))
            yield (
                f"{name}.jpg",
                {
                    "image": pets_archives.read_image(self.extracted, name),
                    "label": label,
                    "species": species,
                    "file_name": f"{name}.jpg",
                    "segmentation_mask": mask,
                    "head_bbox": pets_archives.read_head_box(self.extracted, name),
                },
            )
