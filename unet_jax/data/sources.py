"""From a config's data section to the splits of a data set."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from unet_jax.config import MOST_FLOAT, call, check_range, choose
from unet_jax.data.base import Dataset
from unet_jax.data.folder import open_folder
from unet_jax.data.maps import Map
from unet_jax.data.normalise import RANGE, Normalise, make_normalise
from unet_jax.data.sets.pets import open_pets, open_tfds
from unet_jax.data.split_rules import make_rules
from unet_jax.data.synthetic import open_synthetic
from unet_jax.durations import MOST_SEED
from unet_jax.errors import UserError
from unet_jax.process.regular import LARGEST
from unet_jax.task import IGNORE

MOST_WORKERS, MOST_PIXELS = 256, 2**15  # threads; pixels along an axis
MOST_MEBIBYTES = 2**20  # of a file: 1 TiB
FITS = ("resize", "crop")
MOST_CONTEXT, MOST_CROPS = 2**12, 10**4  # pixels on each side; parts of an image


class Loading(NamedTuple):
    """How images are brought to a size and loaded.

    Attributes:
        image_size: (height, width) of training images, (depth, height, width) of volumes.
        fit: "resize" squeezes whole images to that size, in training and evaluation; "crop" cuts
            a random part in training (a smaller image is filled up by repeating its edge, without
            labels there), and evaluates whole images at their own size, padded; see `fits.Crop`.
        workers: Threads that decode.
        context: Pixels mirrored around every image before a part is cut out, without labels:
            what valid convolutions see beyond their output.
        crops: Random parts of every image in an epoch.
        largest_file: MiB of the largest file that is read.
        value_range: The images' values of black and of white; () for those of `Spec`.
        normalise: What becomes of values.
        foreground: Share of the crops that are put on a pixel of a chosen class.
        foreground_classes: Ids of these; see `foreground.choose_classes`.
        cache: MiB of decoded training images that are kept; see `data.cache`.
        cache_dir: Folder of the file that keeps them between runs; "" for none.
        reduced_jpeg: Whether JPEG files that are shrunk are decoded at a reduced scale.
        maps: What the loss needs beside the label; no key of the data section.
    """

    image_size: tuple[int, ...]
    fit: str
    workers: int
    context: int = 0
    crops: int = 1
    largest_file: int = LARGEST
    value_range: tuple[float, ...] = ()
    normalise: Normalise = RANGE
    foreground: float = 0.0
    foreground_classes: tuple[int, ...] = ()
    cache: int = 0
    cache_dir: str = ""
    reduced_jpeg: bool = False
    maps: tuple[Map, ...] = ()

    @property
    def reduced_size(self) -> tuple[int, ...] | None:
        """Returns the size for which JPEG files are decoded; None where they come as they are."""
        return self.image_size if self.reduced_jpeg else None


def make_loading(
    image_size: tuple[int, ...] = (128, 128),
    fit: str = "resize",
    workers: int = 4,
    context: int = 0,
    crops: int = 1,
    largest_file: int = LARGEST,
    value_range: tuple[float, ...] = (),
    normalise: Mapping[str, Any] | None = None,
    foreground: float = 0.0,
    foreground_classes: tuple[int, ...] = (),
    cache: int = 0,
    cache_dir: str = "",
    reduced_jpeg: bool = False,
) -> Loading:
    """Checks the values of a config's data section that say how images are loaded.

    Args:
        image_size: (height, width), or (side,); (depth, height, width) for volumes.
        fit: "resize" or "crop".
        workers: Threads.
        context: See `Loading`; needs `fit` "crop"; `MOST_CONTEXT` at most.
        crops: Random parts of an image in an epoch; `MOST_CROPS` at most.
        largest_file: MiB.
        value_range: (black, white), or ().
        normalise: Arguments of `normalise.make_normalise`.
        foreground: See `Loading`; above 0 it needs `fit` "crop".
        foreground_classes: Ids; () for all but the background.
        cache: MiB; 0 keeps nothing.
        cache_dir: A folder, which needs `cache`; or "".
        reduced_jpeg: See `Loading`; True needs `fit` "resize".

    Returns:
        How to load.

    Raises:
        UserError: A value does not fit.
    """
    if fit not in FITS:
        raise UserError(f"config.data.fit={fit!r} is not known; allowed are {', '.join(FITS)}.")
    if len(image_size) not in (1, 2, 3) or not all(type(n) is int and n > 0 for n in image_size):
        raise UserError(
            f"config.data.image_size={image_size} must be (height, width) in pixels, or (side,), "
            "or (depth, height, width) for volumes."
        )
    check_range("config.data.workers", workers, 1, MOST_WORKERS)
    check_range("config.data.largest_file", largest_file, 1, MOST_MEBIBYTES)
    for n in image_size:
        check_range("config.data.image_size", n, 1, MOST_PIXELS)
    check_range("config.data.context", context, 0, MOST_CONTEXT)
    if context < 0 or (context and fit != "crop"):
        raise UserError(
            f"config.data.context={context} must be 0, or more with config.data.fit='crop'."
        )
    if crops < 1 or (crops > 1 and fit != "crop"):
        raise UserError(
            f"config.data.crops={crops} must be 1, or more with config.data.fit='crop'."
        )
    check_range("config.data.crops", crops, 1, MOST_CROPS)
    if value_range and not _is_range(value_range):
        raise UserError(
            f"config.data.value_range={value_range} must be (black, white), such as (0, 4095), two "
            "numbers of which white is the larger one; or () for the range of the images' type."
        )
    check_range("config.data.foreground", foreground, 0, 1)
    if foreground and fit != "crop":
        raise UserError(
            f"config.data.foreground={foreground} must be 0, or more with config.data.fit='crop'."
        )
    are_ids = all(type(k) is int and 0 <= k < IGNORE for k in foreground_classes)
    if not are_ids or len(set(foreground_classes)) < len(foreground_classes):
        raise UserError(
            f"config.data.foreground_classes={foreground_classes} must be different class ids, "
            "such as (2, 5); or () for all but the background."
        )
    size = image_size * 2 if len(image_size) == 1 else tuple(image_size)
    ends = tuple(map(float, value_range))  # an int may be more than the devices count to
    how = call(make_normalise, "config.data.normalise", normalise or {})
    check_range("config.data.cache", cache, 0, MOST_MEBIBYTES)
    if cache_dir and not cache:
        raise UserError(
            f"config.data.cache_dir={cache_dir!r} needs config.data.cache, the MiB it may hold."
        )
    if reduced_jpeg and fit != "resize":
        raise UserError(
            f"config.data.reduced_jpeg={reduced_jpeg} must be False, or True with "
            "config.data.fit='resize'."
        )
    chosen = foreground, foreground_classes, cache, cache_dir, reduced_jpeg
    return Loading(size, fit, workers, context, crops, largest_file, ends, how, *chosen)


def _is_range(value_range: tuple[Any, ...]) -> bool:
    """Tells whether these are two numbers by whose difference float32 can divide."""
    if len(value_range) != 2 or not all(type(n) in (int, float) for n in value_range):
        return False
    black, white = value_range
    return float(np.finfo(np.float32).tiny) <= white - black <= MOST_FLOAT


def read_loading(section: Mapping[str, Any]) -> Loading:
    """Reads from a config's data section how images are loaded; no data set is opened.

    Args:
        section: The data section.

    Returns:
        How to load.

    Raises:
        UserError: A value does not fit.
    """
    names = inspect.signature(make_loading).parameters
    given = {name: section[name] for name in names if name in section}
    return call(make_loading, "config.data", given)


def read_patterns(section: Mapping[str, Any]) -> str:
    """Reads from a config's data section where the files of an image lie; see `open_folder`.

    Args:
        section: The data section, with all its keys.

    Returns:
        config.data.folder.images.

    Raises:
        UserError: config.data.folder is no section, or this is no text.
    """
    folder = section["folder"]
    if not isinstance(folder, Mapping | ConfigDict):
        raise UserError(
            f"config.data.folder={folder!r} must be a section of keys, such as "
            "config.data.folder.images."
        )
    if not isinstance(folder["images"], str):
        raise UserError(f"config.data.folder.images={folder['images']!r} must be text.")
    return folder["images"]


def open_data(
    source: str = "synthetic",
    path: str = "",
    image_size: tuple[int, ...] = (128, 128),
    fit: str = "resize",
    val_fraction: float = 0.1,
    split_seed: int = 0,
    fold: int = 0,
    folds: int = 0,
    workers: int = 4,
    context: int = 0,
    crops: int = 1,
    largest_file: int = LARGEST,
    value_range: tuple[float, ...] = (),
    normalise: Mapping[str, Any] | None = None,
    foreground: float = 0.0,
    foreground_classes: tuple[int, ...] = (),
    cache: int = 0,
    cache_dir: str = "",
    reduced_jpeg: bool = False,
    split: Mapping[str, Any] | None = None,
    folder: Mapping[str, Any] | None = None,
    tfds: Mapping[str, Any] | None = None,
    synthetic: Mapping[str, Any] | None = None,
    *,
    kept: Mapping[str, Iterable[str]] | None = None,
) -> tuple[Dataset, Loading]:
    """Opens the data of a config; nothing but lists of names is read yet.

    Args:
        source: "folder", "pets" (the unpacked archives of Oxford-IIIT Pet), "tfds" (the same from
            TensorFlow Datasets) or "synthetic". The section of that name holds what it alone takes.
        path: The data's directory, for "folder" and "pets" also gs://... or s3://...; for "tfds",
            "" is the default one of TFDS.
        image_size: (height, width) of training images, or (side,); (depth, height, width) for
            volumes.
        fit: "resize" or "crop"; see `Loading`.
        val_fraction: Share of the training images kept for validation where no list says which.
        split_seed: Of that split.
        fold: With `folds`, the one that is for validation; all others are for training.
        folds: How many folds the images that are not for the test are dealt to, so that each is in
            one; 0 for a share. The test split is the same for all.
        workers: Threads that decode.
        context: Pixels mirrored around images, with `fit` "crop"; see `Loading`.
        crops: Random parts of every image in an epoch, with `fit` "crop".
        largest_file: MiB of the largest file that is read; what is no regular file never is.
        value_range: (black, white), the images' values that become 0 and 1, such as (0, 4095) for
            12 bits in uint16; () for the smallest and the largest of an integer type, and (0, 1) of
            floating-point numbers. Values outside become less than 0 or more than 1, and such
            images are named before training; `augment.make.colour` cuts them to 0 and 1.
        normalise: Arguments of `normalise.make_normalise`: what becomes of values.
        foreground: Share of the crops whose middle is put on a pixel of a chosen class, such as
            0.33 as in nnU-Net, with `fit` "crop": a class drawn from those that the image holds,
            then one of its pixels. An image that holds none gives a crop from anywhere, as all
            others do; the header says the share that is reached.
        foreground_classes: Ids of the classes, such as (2, 5); () for all but class 0, or for all
            where labels are by class.
        cache: MiB of training images that are kept in memory once they are decoded (and, with
            `fit` "resize", resized); what does not fit is decoded each time. 0 keeps none.
        cache_dir: Folder of a file that keeps them between runs, where all of them fit into
            `cache`; memory holds no more of it than is in use. It may be deleted at any time.
        reduced_jpeg: Whether a JPEG of at least twice `image_size` is decoded at 1/2, 1/4 or 1/8 of
            its scale, the smallest that is not below `image_size`, and then resized; with `fit`
            "resize". It is faster, and pixels differ a little from those of the whole image
            resized. It is so in training, evaluation and prediction alike; masks and their sizes
            never change. Pages, joined channels and arrays in memory are not concerned.
        split: Arguments of `split_rules.make_rules`: groups that stay whole, and strata.
        folder: Arguments of `open_folder`.
        tfds: Arguments of `open_tfds`.
        synthetic: Arguments of `open_synthetic`.
        kept: Ids by split of a run that keeps its own splits; then no list and no share is asked,
            and what is missing is left out. See `splits.open_kept`.

    Returns:
        The splits, and how to load them.

    Raises:
        UserError: The directory, its files or the values do not fit.
    """
    if not 0 < val_fraction < 1:
        raise UserError(
            f"config.data.val_fraction={val_fraction} must be more than 0 and less than 1."
        )
    check_range("config.data.split_seed", split_seed, 0, MOST_SEED)
    shape = image_size, fit, workers, context, crops, largest_file
    chosen = foreground, foreground_classes, cache, cache_dir, reduced_jpeg
    loading = make_loading(*shape, value_range, normalise, *chosen)
    rules = call(make_rules, "config.data.split", split or {}, fold=fold, folds=folds)
    drawn = {"split_seed": split_seed, "rules": rules}
    on_disk = {"path": path, "val_fraction": val_fraction, "kept": kept, **drawn}
    sources = {
        "folder": (open_folder, folder, {**on_disk, "largest_file": largest_file}),
        "pets": (open_pets, None, {**on_disk, "largest_file": largest_file}),
        "tfds": (open_tfds, tfds, on_disk),
        "synthetic": (open_synthetic, synthetic, drawn),
    }
    function, section, common = choose(sources, "config.data.source", source)
    dataset = call(function, f"config.data.{source}", section or {}, **common)
    for name, images in dataset.splits.items():
        if not len(images) and kept is None:
            raise UserError(
                f"the {name} split of config.data.path={path!r} is empty; add images, or change "
                f"config.data.val_fraction={val_fraction}, config.data.folder.test_fraction or the "
                "split's list."
            )
    return dataset, loading
