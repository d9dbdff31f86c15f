"""From a config's data section to the splits of a data set."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from unet_jax.config import call, check_range, choose
from unet_jax.data.base import Dataset
from unet_jax.data.folder import open_folder
from unet_jax.data.pets import open_tfds
from unet_jax.data.synthetic import open_synthetic
from unet_jax.errors import UserError
from unet_jax.steps import MOST_SEED

MOST_WORKERS, MOST_PIXELS = 256, 2**15  # threads; pixels along an axis
FITS = ("resize", "crop")


class Loading(NamedTuple):
    """How pictures are brought to a size and loaded.

    Attributes:
        image_size: (height, width) of training pictures.
        fit: "resize" squeezes whole pictures to that size, in training and evaluation; "crop" cuts
            a random part in training (a smaller image is filled up by repeating its edge, without
            labels there), and evaluates whole images at their own size, padded; see `fits.Crop`.
        workers: Threads that decode.
        context: Pixels mirrored around every picture before a part is cut out, without labels:
            what valid convolutions see beyond their output.
        crops: Random parts of every image in an epoch.
    """

    image_size: tuple[int, int]
    fit: str
    workers: int
    context: int = 0
    crops: int = 1


def make_loading(
    image_size: tuple[int, ...] = (128, 128),
    fit: str = "resize",
    workers: int = 4,
    context: int = 0,
    crops: int = 1,
) -> Loading:
    """Checks the values of a config's data section that say how pictures are loaded.

    Args:
        image_size: (height, width), or (side,).
        fit: "resize" or "crop".
        workers: Threads.
        context: See `Loading`; needs `fit` "crop".
        crops: Likewise.

    Returns:
        How to load.

    Raises:
        UserError: A value does not fit.
    """
    if fit not in FITS:
        raise UserError(f"config.data.fit={fit!r} is not known; allowed are {', '.join(FITS)}.")
    if len(image_size) not in (1, 2) or not all(type(n) is int and n > 0 for n in image_size):
        raise UserError(
            f"config.data.image_size={image_size} must be (height, width) in pixels, or (side,)."
        )
    check_range("config.data.workers", workers, 1, MOST_WORKERS)
    for n in image_size:
        check_range("config.data.image_size", n, 1, MOST_PIXELS)
    check_range("config.data.context", context, 0, MOST_PIXELS)
    if context < 0 or (context and fit != "crop"):
        raise UserError(
            f"config.data.context={context} must be 0, or more with config.data.fit='crop'."
        )
    if crops < 1 or (crops > 1 and fit != "crop"):
        raise UserError(
            f"config.data.crops={crops} must be 1, or more with config.data.fit='crop'."
        )
    height, width = image_size if len(image_size) == 2 else image_size * 2
    return Loading((height, width), fit, workers, context, crops)


def open_data(
    source: str = "synthetic",
    path: str = "",
    image_size: tuple[int, ...] = (128, 128),
    fit: str = "resize",
    val_fraction: float = 0.1,
    split_seed: int = 0,
    workers: int = 4,
    context: int = 0,
    crops: int = 1,
    folder: Mapping[str, Any] | None = None,
    tfds: Mapping[str, Any] | None = None,
    synthetic: Mapping[str, Any] | None = None,
    *,
    kept: Mapping[str, Iterable[str]] | None = None,
) -> tuple[Dataset, Loading]:
    """Opens the data of a config; nothing but lists of names is read yet.

    Args:
        source: "folder", "tfds" or "synthetic". The section of that name holds what it alone takes.
        path: The data's directory, for "folder" also gs://... or s3://...; for "tfds", "" is the
            default one of TFDS.
        image_size: (height, width) of training pictures, or (side,).
        fit: "resize" or "crop"; see `Loading`.
        val_fraction: Share of the training pictures kept for validation where no list says which.
        split_seed: Of that split.
        workers: Threads that decode.
        context: Pixels mirrored around pictures, with `fit` "crop"; see `Loading`.
        crops: Random parts of every image in an epoch, with `fit` "crop".
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
        raise UserError(f"config.data.val_fraction={val_fraction} must be between 0 and 1.")
    check_range("config.data.split_seed", split_seed, 0, MOST_SEED)
    loading = make_loading(image_size, fit, workers, context, crops)
    on_disk = {"path": path, "val_fraction": val_fraction, "split_seed": split_seed, "kept": kept}
    sources = {
        "folder": (open_folder, folder, on_disk),
        "tfds": (open_tfds, tfds, on_disk),
        "synthetic": (open_synthetic, synthetic, {}),
    }
    function, section, common = choose(sources, "config.data.source", source)
    dataset = call(function, f"config.data.{source}", section or {}, **common)
    for name, split in dataset.splits.items():
        if not len(split) and kept is None:
            raise UserError(
                f"the {name} split of config.data.path={path!r} is empty; add pictures, or change "
                f"config.data.val_fraction={val_fraction} or the split's list."
            )
    return dataset, loading
