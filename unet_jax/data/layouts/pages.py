"""Stacks: files of several pages, each an image, with the masks in another; as ISBI 2012 has them.

I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
connectomics", Frontiers in Neuroanatomy, 2015: train-volume.tif and train-labels.tif, 30 pages of
512 x 512, 0 for membranes and 255 for cells; test-volume.tif has no labels.
"""

from collections.abc import Mapping

from unet_jax.data import storage
from unet_jax.data.files import FilePairs, say_once
from unet_jax.data.layouts.base import Found, Given, Layout, refuse_layers
from unet_jax.data.parts import Part, count_pages
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

PAGE = "/{page}"
VAL_SHARE = 5
"""One page of so many is for validation: the last ones of a stack, before those for the test."""

_VOLUME, _LABELS = "train-volume.tif", "train-labels.tif"
CLASS_NAMES = ("membrane", "cell")
VALUES = {0: 0, 255: 1}


def find_pages(stacks: Mapping[str, tuple[AnyPath, ...]], given: Given) -> Found:
    """Finds the pages of files.

    Neighbours in a stack show nearly the same, so that blocks of them are kept for other splits: of
    each stack the last pages, as large a share as `given.test_fraction`, for the test, and of those
    before them the last fifth for validation, rounded down; one page each at least where there
    are as many. So of the 30 pages of ISBI 2012 a fifth for the test is pages 24 to 29, and pages
    20 to 23 are for validation.

    Args:
        stacks: The (image, mask) by name, each a file of as many pages.
        given: What the config says.

    Returns:
        The pairs, whose ids are the name and the number of the page from 000, and the splits, which
        lists of names may say otherwise.

    Raises:
        UserError: A file cannot be read, has no pages, or not as many as its partner.
    """
    ids: dict[str, tuple[Part, ...]] = {}
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name, files in stacks.items():
        count, masks = (count_pages(file, given.largest) for file in files)
        if count != masks:
            raise UserError(
                f"{files[0]} has {count} pages and its masks {files[1]} have {masks}; they must "
                "have as many."
            )
        own = {f"{name}/{n:03}": tuple(Part((file,), n) for file in files) for n in range(count)}
        rest = count - _count_test(count, given.test_fraction)
        first = rest - (max(1, rest // VAL_SHARE) if rest > 1 else 0)
        ends = {"train": (0, first), "val": (first, rest), "test": (rest, count)}
        for split, pages in ends.items():
            splits[split] += list(own)[slice(*pages)]
        ids |= own
    pairs = FilePairs(tuple(ids), list(ids.values()), given.largest, reader=given.reader)
    found = {split: names for split, names in splits.items() if names}
    return Found(pairs, found if len(found) > 1 else {}, reads_lists=True)


def _count_test(count: int, share: float) -> int:
    """Returns how many pages of a stack are for the test: never all, one at least where a share."""
    return min(count - 1, max(1, round(count * share))) if share else 0


def _fits(root: AnyPath) -> bool:
    return all(storage.has_file(root / name) for name in (_VOLUME, _LABELS))


def _find(root: AnyPath, given: Given) -> Found:
    refuse_layers(given, "a stack has one file of masks")
    test = root / "test-volume.tif"
    if storage.has_file(test):
        say_once(f"{test}: without labels, passed over; --input={test}{PAGE} predicts its pages")
    found = find_pages({"train-volume": (root / _VOLUME, root / _LABELS)}, given)
    return found._replace(class_names=CLASS_NAMES, values=VALUES)


STACKS = Layout(_fits, _find, f"{_VOLUME}, {_LABELS} of as many pages")
