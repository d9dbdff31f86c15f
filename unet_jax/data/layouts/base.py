"""What every layout of files has in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from unet_jax.data.base import MaskReader, read_each
from unet_jax.data.exclude import Exclusion
from unet_jax.data.files import FilePairs
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError
from unet_jax.process.regular import LARGEST

KEY = "config.data.folder"
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""The splits that folders, or parts of their names, stand for."""


NOTHING = Exclusion()


class Given(NamedTuple):
    """What a config says of the files; see `folder.open_folder`.

    Attributes:
        images: Folder of the images, or their pattern.
        masks: Likewise of the masks.
        mask_suffix: What a mask's name has after the image's.
        weight: Pattern of the files that are black where pixels do not count.
        layers: Names of the classes that have a mask each; () where a mask holds all.
        class_names: The classes that the config names; () where it names none.
        reader: How masks are read.
        largest: MiB of the largest file that is read.
        exclusion: What is left out of every split.
        must_match: Whether an image without its mask is an error; else both are left out.
        test_fraction: Share of the pages of a stack that are for the test.
    """

    images: str = "images"
    masks: str = "masks"
    mask_suffix: str = ""
    weight: str = ""
    layers: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    reader: MaskReader = read_each
    largest: int = LARGEST
    exclusion: Exclusion = NOTHING
    must_match: bool = True
    test_fraction: float = 0.0


class OtherSourceError(UserError):
    """A folder holds a data set that has a source of its own.

    Attributes:
        source: The value of config.data.source.
    """

    def __init__(self, message: str, source: str) -> None:
        """Takes the message and the source."""
        super().__init__(message)
        self.source = source


class Found(NamedTuple):
    """What a layout finds in a folder.

    Attributes:
        pairs: Images with their masks.
        splits: Ids by split, where the layout says which; {} where it does not.
        class_names: Its K classes; () where they are the user's to name.
        values: Class id, or `IGNORE`, of every value of a mask; None where value k is class k.
        reads_lists: Whether lists of names in the folder count more than `splits`.
    """

    pairs: FilePairs
    splits: Mapping[str, Sequence[str]] = {}
    class_names: tuple[str, ...] = ()
    values: Mapping[int, int] | None = None
    reads_lists: bool = False


class Layout(NamedTuple):
    """A way in which data sets are laid out.

    Attributes:
        fits: Whether a folder is laid out so, by the names in it alone.
        find: Finds the pairs below it.
        is_like: What lies where, for messages.
    """

    fits: Callable[[AnyPath], bool]
    find: Callable[[AnyPath, Given], Found]
    is_like: str


def refuse_reader(given: Given, what: str) -> None:
    """Refuses to read masks in another way where there is no mask file of all classes.

    Raises:
        UserError: The config asks for it.
    """
    if given.reader is not read_each or given.layers:
        raise UserError(
            f"{KEY}.nearest, {KEY}.by_class and colours in {KEY}.label_map are for masks in files, "
            f"and {what}; leave them out."
        )


def refuse_layers(given: Given, what: str) -> None:
    """Refuses a mask for each class where a layout has one for all.

    Raises:
        UserError: The config asks for it.
    """
    if given.layers:
        raise UserError(f"{KEY}.by_class=True cannot be had here: {what}; set it to False.")
