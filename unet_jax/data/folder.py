"""A user's own pictures and masks in folders."""

from collections.abc import Iterable, Mapping

from unet_jax.data import pets, storage
from unet_jax.data.base import IGNORE, Dataset, PairSource, pick, split_off
from unet_jax.data.files import FilePairs, list_pictures, read_list
from unet_jax.data.storage import AnyPath
from unet_jax.errors import UserError


def open_folder(
    path: str,
    val_fraction: float,
    split_seed: int,
    *,
    images: str = "images",
    masks: str = "masks",
    mask_suffix: str = "",
    class_names: tuple[str, ...] = (),
    label_map: tuple[tuple[int, int], ...] = (),
    ignore_values: tuple[int, ...] = (),
    test_fraction: float = 0.0,
    kept: Mapping[str, Iterable[str]] | None = None,
) -> Dataset:
    """Opens PATH/images/NAME.jpg with PATH/masks/NAME.png, or the official layout of Oxford pets.

    Where PATH/train.txt, val.txt or test.txt are there, they list the names of a split, one a line.
    Without train.txt, the pictures that no list names are for training; with it, they are left out.
    Of the training pictures, shares are split off for test and validation where those have no list.
    Nothing but names is read.

    Args:
        path: The directory; gs://BUCKET/FOLDER and s3://BUCKET/FOLDER are read through etils.epath.
        val_fraction: Share of the training pictures kept for validation.
        split_seed: Of the splits.
        images: Folder of the pictures, below `path`.
        masks: Folder of the masks, below `path`.
        mask_suffix: What a mask's name has after the picture's, such as "_mask".
        class_names: K names; the mask value k is class k.
        label_map: (mask value, class id) pairs where mask values are not class ids; then values
            that are not named are errors.
        ignore_values: Mask values of pixels that count neither in the loss nor in the scores.
        test_fraction: Share of the training pictures kept for the test.
        kept: Ids by split of a run that keeps its own splits; see `sources.open_data`.

    Returns:
        The splits.

    Raises:
        UserError: Something is missing or does not fit.
    """
    if not 0 <= test_fraction < 1:
        raise UserError(f"config.data.folder.test_fraction={test_fraction} must be in [0, 1).")
    root = storage.as_path(path, "config.data.path")
    if not path or not storage.is_folder(root):
        raise UserError(
            f"config.data.path={path!r} is not a directory; give the one that holds "
            f"{images}/ and {masks}/."
        )
    if pets.is_official_layout(root):
        return pets.open_official_layout(root, val_fraction, split_seed, kept)
    pairs = _pairs(root, images, masks, mask_suffix, must_match=kept is None)
    values = _label_map(class_names, label_map, ignore_values)
    splits = (
        _splits(root, pairs.ids, val_fraction, test_fraction, split_seed)
        if kept is None
        else {split: pick(pairs.ids, names) for split, names in kept.items()}
    )
    sources = {name: PairSource(pairs, indices, values) for name, indices in splits.items()}
    return Dataset(sources, tuple(class_names))


def _pairs(
    root: AnyPath, images: str, masks: str, mask_suffix: str, *, must_match: bool
) -> FilePairs:
    pictures = list_pictures(root / images, "config.data.path or config.data.folder.images")
    found = list_pictures(root / masks, "config.data.path or config.data.folder.masks")
    mask_of = {n.removesuffix(mask_suffix): f for n, f in found.items() if n.endswith(mask_suffix)}
    for kind, here, there, other in (
        ("picture", pictures, mask_of, f"{masks}/NAME{mask_suffix}.png"),
        ("mask", mask_of, pictures, f"{images}/NAME.jpg or .png"),
    ):
        alone = [file for name, file in here.items() if name not in there]
        if alone and must_match:
            partner = "mask" if kind == "picture" else "picture"
            raise UserError(
                f"{len(alone)} of {len(here)} {kind}s have no {partner}, the first is {alone[0]}; "
                f"add {other} of the same name, remove them, or change "
                "config.data.folder.mask_suffix."
            )
    whole = {name: (file, mask_of[name]) for name, file in pictures.items() if name in mask_of}
    return FilePairs(tuple(whole), list(whole.values()))


def _label_map(
    class_names: tuple[str, ...],
    label_map: tuple[tuple[int, int], ...],
    ignore_values: tuple[int, ...],
) -> dict[int, int]:
    count = len(class_names)
    are_texts = all(isinstance(name, str) for name in class_names)
    if not are_texts or not 2 <= count < IGNORE or len(set(class_names)) < count:
        raise UserError(
            f"config.data.folder.class_names={class_names} must be 2 to {IGNORE - 1} different "
            "names, one per class."
        )
    pairs = label_map or tuple((k, k) for k in range(count))
    for pair in pairs:
        if not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and pair[0] in range(256)
            and pair[1] in range(count)
        ):
            raise UserError(
                f"config.data.folder.label_map has {pair}; each entry must be (mask value 0 to "
                f"255, class id 0 to {count - 1})."
            )
    for value in ignore_values:
        if value not in range(256):
            raise UserError(
                f"config.data.folder.ignore_values has {value!r}; each entry must be a mask value, "
                "0 to 255."
            )
    return dict(pairs) | dict.fromkeys(ignore_values, IGNORE)


def _splits(
    root: AnyPath, ids: tuple[str, ...], val_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[int]]:
    position = {name: index for index, name in enumerate(ids)}
    listed: dict[str, list[int]] = {}
    owner: dict[str, str] = {}
    for split in ("train", "val", "test"):
        file = root / f"{split}.txt"
        if not storage.is_file(file):
            continue
        names = read_list(file)
        for name in names:
            if name not in position:
                raise UserError(
                    f"{file} names {name!r}, but there is no such picture; write names without "
                    "suffix, as paths below the folder of the pictures."
                )
            if name in owner:
                raise UserError(f"{name!r} is in {owner[name]}.txt and in {file}; leave it in one.")
            owner[name] = split
        listed[split] = [position[name] for name in names]
    rest = [index for index, name in enumerate(ids) if name not in owner]
    splits = dict(listed)
    splits.setdefault("train", rest)
    shares = {"test": test_fraction, "val": val_fraction}
    for offset, (split, fraction) in enumerate(shares.items()):
        if split not in splits and fraction:
            train = splits["train"]
            names = [ids[index] for index in train]
            kept, off = split_off(names, [""] * len(names), fraction, seed + offset)
            splits[split] = [train[i] for i in off]
            splits["train"] = [train[i] for i in kept]
    return splits
