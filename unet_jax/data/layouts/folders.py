"""Two folders: images, and masks of the same names; or such a pair for each split."""

from collections.abc import Mapping, Sequence

from unet_jax.data import storage
from unet_jax.data.by_class import match_masks
from unet_jax.data.exclude import UnpairedError
from unet_jax.data.files import FilePairs, list_images, say_once
from unet_jax.data.layouts.base import KEY, SPLIT_WORDS, Found, Given, Layout
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError

IMAGES = ("images", "image", "imgs", "img", "photos")
MASKS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot"),
    *("labelcol", "gt", "ground_truth", "groundtruth", "segmentation", "segmentations"),
)
BESIDE = ("annot", "_masks", "_mask", "_labels", "_label", "_annotations", "_gt")
"""What the name of a split's folder of masks has behind that of its images."""


def pair_folders(root: AnyPath, given: Given, above: str = "") -> FilePairs:
    """Pairs the files of two folders by their names.

    Args:
        root: The folder of both.
        given: What the config says; an image and its mask have one path below their folders.
        above: What ids have before the names that are paired.

    Returns:
        The pairs; an id is the path below the folder of the images, without suffix.

    Raises:
        UserError: A folder is missing, or a file has no partner.
    """
    images, masks, mask_suffix = given.images, given.masks, given.mask_suffix

    def is_out(name: str, file: AnyPath) -> bool:
        return given.exclusion.has(f"{above}{name}" if name else "", file)

    image_files = list_images(root / images, f"config.data.path or {KEY}.images", is_out=is_out)
    found = list_images(root / masks, f"config.data.path or {KEY}.masks", is_out=is_out)
    if storage.is_same(root / images, root / masks):
        raise UserError(
            f"{KEY}.images={images!r} and {KEY}.masks={masks!r} are one "
            "folder, so that images would be their own masks; give the masks a folder of their own."
        )
    if given.layers:
        whole = match_masks(
            image_files, found, given.layers, mask_suffix, is_out, must_match=given.must_match
        )
        return FilePairs(tuple(whole), list(whole.values()), given.largest, reader=given.reader)
    mask_of = {n.removesuffix(mask_suffix): f for n, f in found.items() if n.endswith(mask_suffix)}
    others = [file for name, file in found.items() if not name.endswith(mask_suffix)]
    for kind, here, there, other in (
        ("image", image_files, mask_of, f"{masks}/NAME{mask_suffix}.png"),
        ("mask", mask_of, image_files, f"{images}/NAME.jpg or .png"),
    ):
        alone = [f for name, f in here.items() if name not in there and not is_out(name, f)]
        if alone and given.must_match:
            partner = "mask" if kind == "image" else "image"
            raise UnpairedError(
                f"{len(alone)} of {len(here)} {kind}s have no {partner}, the first is {alone[0]}; "
                f"add {other} of the same name, remove them, name them in {KEY}.exclude, or change "
                f"{KEY}.mask_suffix.",
                alone,
            )
    if others:
        say_once(
            f"{root / masks}: {len(others)} without {KEY}.mask_suffix={mask_suffix!r} "
            f"passed over, such as {others[0].name}"
        )
    whole = {name: (file, mask_of[name]) for name, file in image_files.items() if name in mask_of}
    return FilePairs(tuple(whole), list(whole.values()), given.largest, reader=given.reader)


def find_pair(root: AnyPath, given: Given) -> Found:
    """Finds two folders, whose own folders may be the splits: images/train/NAME; see `Layout`."""
    has_own = storage.is_folder(root / given.images) or given.images != Given().images
    if not has_own and (names := _names_of_pair(root)):
        given = given._replace(images=names[0], masks=names[1])
    pairs = pair_folders(root, given)
    return Found(pairs, splits_of(pairs.ids), reads_lists=True)


def splits_of(ids: Sequence[str]) -> dict[str, list[str]]:
    """Sorts ids by the split that their first folder names; {} unless every one names one."""
    splits: dict[str, list[str]] = {}
    for name in ids:
        word, slash, _ = name.partition("/")
        if not slash or word.lower() not in SPLIT_WORDS:
            return {}
        splits.setdefault(SPLIT_WORDS[word.lower()], []).append(name)
    return splits if "train" in splits else {}


def find_by_split(root: AnyPath, given: Given) -> Found:
    """Finds a pair of folders for each split: train/images/NAME or train/NAME; see `Layout`."""
    ids, files = [], []
    for folder, (images, masks) in _folders_by_split(root).items():
        if not masks:
            images_there = list_images(root / images, "config.data.path")
            say_once(
                f"{root / images}: {len(images_there)} images without a folder of masks passed over"
            )
            continue
        pairs = pair_folders(root, given._replace(images=images, masks=masks), f"{folder}/")
        ids += [f"{folder}/{name}" for name in pairs.ids]
        files += pairs.files
    pairs = FilePairs(ids, files, given.largest, reader=given.reader)
    return Found(pairs, splits_of(ids))


def _folders_by_split(root: AnyPath) -> dict[str, tuple[str, str]]:
    """Returns by name of a split's folder its folders of images and of masks, "" for none."""
    found = {}
    for folder, names in _split_folders(root).items():
        below = _first(names, IMAGES)
        if below:
            masks = _first(names, MASKS)
            found[folder] = f"{folder}/{below}", f"{folder}/{masks}" if masks else ""
    if found:
        return found
    beside = {entry.name for entry in storage.entries(root)}
    for folder in _split_folders(root):
        masks = next((folder + end for end in BESIDE if folder + end in beside), "")
        found[folder] = folder, masks
    return found


def _split_folders(root: AnyPath) -> dict[str, dict[str, str]]:
    """Returns the names in every folder that is called as a split, as they are by small letters."""
    return {
        entry.name: {below.name.lower(): below.name for below in storage.entries(entry)}
        for entry in sorted(storage.entries(root), key=str)
        if entry.name.lower() in SPLIT_WORDS and storage.is_folder(entry)
    }


def _first(names: Mapping[str, str], wanted: Sequence[str]) -> str:
    return next((names[name] for name in wanted if name in names), "")


def _names_of_pair(root: AnyPath) -> tuple[str, str] | None:
    names = {e.name.lower(): e.name for e in storage.entries(root) if storage.is_folder(e)}
    images, masks = _first(names, IMAGES), _first(names, MASKS)
    return (images, masks) if images and masks else None


def _fits_splits(root: AnyPath) -> bool:
    found = _folders_by_split(root)
    splits = {SPLIT_WORDS[folder.lower()] for folder, (_, masks) in found.items() if masks}
    return "train" in splits


FOLDERS = Layout(
    lambda root: _names_of_pair(root) is not None,
    find_pair,
    "images/NAME.jpg, masks/NAME.png; or images/train/NAME.jpg, masks/train/NAME.png",
)
SPLIT_FOLDERS = Layout(
    _fits_splits,
    find_by_split,
    "train/images/NAME.jpg, train/masks/NAME.png; or train/NAME.jpg, trainannot/NAME.png",
)
