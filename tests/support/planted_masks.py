"""Folders with a fault of files or masks planted or, as its twin, without."""

import numpy as np
from PIL import Image

from support.encoded import indexed
from support.planting import (
    COUNT,
    HOLDERS,
    NAMES,
    RED,
    SIZE,
    change,
    draw,
    make,
    photo,
    read,
    save,
)


def truncated_image(root, spoilt):
    draw(root)
    file = root / "images" / "03.png"
    if spoilt:
        file.write_bytes(file.read_bytes()[:-700])
    return make(root)


def truncated_mask(root, spoilt):
    draw(root)
    file = root / "masks" / "05.png"
    if spoilt:
        file.write_bytes(file.read_bytes()[:60])
    return make(root)


def no_image_at_all(root, spoilt):
    draw(root)
    if spoilt:
        (root / "images" / "07.png").write_bytes(b"<html>not found</html>")
    return make(root)


def image_without_mask(root, spoilt):
    draw(root)
    if spoilt:
        (root / "masks" / "02.png").unlink()
    return make(root)


def mask_without_image(root, spoilt):
    draw(root)
    if spoilt:
        (root / "images" / "[2].png").write_bytes((root / "images" / "02.png").read_bytes())
        (root / "images" / "02.png").unlink()
    return make(root)


def mask_of_other_size(root, spoilt):
    draw(root)
    if spoilt:
        change(root / "masks", lambda mask: mask[:-8], {4})
    return make(root)


def turned_by_exif(root, spoilt):
    draw(root)
    exif = Image.Exif()
    exif[274] = 6
    for number in (1, 2):
        image = read(root / "images" / f"{number:02}.png")
        stored = image if spoilt else np.rot90(image)
        save(root / "images" / f"{number:02}.png", np.ascontiguousarray(stored), exif=exif)
    return make(root)


def upside_down_by_exif(root, spoilt):
    draw(root)
    exif = Image.Exif()
    exif[274] = 3
    for number in (1, 2, 6):
        image = read(root / "images" / f"{number:02}.png")
        if spoilt:  # drawn on what is stored
            change(root / "masks", lambda mask: mask[::-1, ::-1], {number})
        save(root / "images" / f"{number:02}.png", image[::-1, ::-1].copy(), exif=exif)
    return make(root)


def classes_without_names(root, spoilt):
    draw(root, label=lambda seed, mask: np.uint8(mask) * 255)
    named = {"label_map": ((0, 0), (255, 1))}
    return make(root, folder=({"class_names": ()} if spoilt else named))


def values_0_and_255(root, spoilt):
    draw(root, label=lambda _, mask: np.uint8(mask) * (255 if spoilt else 1))
    return make(root)


def values_from_1(root, spoilt):
    draw(root, label=lambda _, mask: np.uint8(mask) + spoilt)
    return make(root)


def void(root, spoilt):
    draw(root, label=lambda _, mask: np.uint8(mask))
    if spoilt:
        change(root / "masks", lambda mask: np.where(np.arange(64) < 5, 255, mask).astype("u1"))
    return make(root)


def one_more_class(root, spoilt):
    draw(root)
    if spoilt:
        change(root / "masks", lambda mask: np.where(np.arange(64) < 32, 2 * mask, mask))
    return make(root)


def a_stray_value(root, spoilt):
    draw(root)

    def stray(mask):
        mask[5, 7] = 37
        return mask

    if spoilt:
        change(root / "masks", stray, {3})
    return make(root)


def soft_edges(root, spoilt):
    def label(_, mask):
        grey = Image.fromarray(np.uint8(mask) * 255)
        return grey.resize((32, 24)).resize((64, 48)) if spoilt else np.uint8(mask)

    draw(root, label=label)
    return make(root)


def masks_in_colours(root, spoilt):
    def label(_, mask):
        coloured = np.zeros((*SIZE, 3), np.uint8)
        coloured[mask] = RED
        return coloured if spoilt else np.uint8(mask)

    draw(root, label=label)
    return make(root)


def masks_as_jpeg(root, spoilt):
    draw(root)
    for file in sorted((root / "masks").iterdir()) if spoilt else ():
        save(file.with_suffix(".jpg"), read(file) * 255)
        file.unlink()
    return make(root)


def one_palette_differs(root, spoilt):
    def label(seed, mask):
        if spoilt and seed == 3:
            return indexed(~mask, [RED, (0, 0, 0)])
        return indexed(mask, [(0, 0, 0), RED])

    draw(root, label=label)
    return make(root)


def an_empty_mask(root, spoilt):
    draw(root)
    if spoilt:
        change(root / "masks", np.zeros_like, {8})
    return make(root)


def empty_masks_all(root, spoilt):
    draw(root)
    if spoilt:
        change(root / "masks", np.zeros_like)
    return make(root)


def nothing_counts(root, spoilt):
    draw(root, label=lambda _, mask: np.where(np.arange(64) < 5, 255, mask).astype("u1"))
    if spoilt:
        change(root / "masks", lambda mask: np.full_like(mask, 255), {8})
    return make(root, folder={"ignore_values": (255,)})


def rare_class(root, spoilt):
    draw(root, size=(96, 128), radius=12 if spoilt else 20)
    return make(root, image_size=(96, 128))


def class_not_in_val(root, spoilt):
    draw(root, label=lambda seed, mask: np.uint8(mask) * (1 + (seed in HOLDERS)))
    split = {"stratify_classes": not spoilt}
    return make(root, split=split, folder={"class_names": (*NAMES, "ring")})


def class_never_there(root, spoilt):
    draw(root)
    return make(root, folder={"class_names": (*NAMES, "cat") if spoilt else NAMES})


def left_and_right(root, spoilt):
    draw(root)
    names = ("left kidney", "right kidney" if spoilt else "right lung")
    config = make(root, folder={"class_names": names})
    with config.unlocked():
        config.augment.flip = {"left_right": True, "up_down": False}
    return config


def flipped_masks(root, spoilt):
    draw(root, count=30)
    if spoilt:
        change(root / "masks", lambda mask: mask[:, ::-1])
    return make(root)


def turned_masks(root, spoilt):
    draw(root, count=30, size=(64, 64))
    if spoilt:
        change(root / "masks", lambda mask: np.rot90(mask).copy())
    return make(root, image_size=(64, 64))


def moved_masks(root, spoilt):
    draw(root, count=30)
    if spoilt:
        change(root / "masks", lambda mask: np.roll(mask, (4, -3), (0, 1)))
    return make(root)


def tiny_objects(root, spoilt):
    def label(seed, _):
        mask = np.zeros(SIZE, bool)
        side = 3 if spoilt else 6
        for row in range(4, 40, 9):
            for column in range(4 + seed % 5, 56, 9):
                mask[row : row + side, column : column + side] = True
        return mask

    for seed in range(COUNT):
        save(root / "images" / f"{seed:02}.png", photo(seed, label(seed, None)))
        save(root / "masks" / f"{seed:02}.png", np.uint8(label(seed, None)))
    return make(root)


CASES = {
    truncated_image: "unreadable",
    truncated_mask: "unreadable",
    no_image_at_all: "unreadable",
    image_without_mask: "pairs",
    mask_without_image: "pairs",
    mask_of_other_size: "sizes",
    turned_by_exif: "orientation",
    upside_down_by_exif: "orientation",
    classes_without_names: "unnamed",
    values_0_and_255: "values",
    values_from_1: "values",
    void: "values",
    one_more_class: "values",
    a_stray_value: "values",
    soft_edges: "values",
    masks_in_colours: "colours",
    masks_as_jpeg: "colours",
    one_palette_differs: "palettes",
    an_empty_mask: "one_class",
    empty_masks_all: "one_class",
    nothing_counts: "all_ignored",
    rare_class: "imbalance",
    class_not_in_val: "absent",
    class_never_there: "absent",
    left_and_right: "mirrored",
    flipped_masks: "turned",
    turned_masks: "turned",
    moved_masks: "moved",
    tiny_objects: "small_objects",
}
"""The fault that each plants, by function: (folder, whether it is planted) -> the config."""
