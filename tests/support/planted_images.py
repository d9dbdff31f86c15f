"""Folders with a fault of images or splits planted or, as its twin, without."""

import numpy as np
from PIL import Image

from support.planting import COUNT, SIZE, blob, change, copy, draw, lists, make, photo, save


def not_a_number(root, spoilt):
    for seed in range(COUNT):
        image = photo(seed, blob(seed))[..., 0].astype(np.float32) / 255
        if spoilt and seed == 6:
            image[3, 5:9] = np.nan
        (root / "images").mkdir(parents=True, exist_ok=True)
        np.save(root / "images" / f"{seed:02}.npy", image)
        save(root / "masks" / f"{seed:02}.png", np.uint8(blob(seed)))
    return make(root)


def deeper_image(root, spoilt):
    draw(root)
    if spoilt:
        change(root / "images", lambda image: image[..., 0].astype(np.uint16) * 257, {9})
    return make(root)


def with_copy(root, spoilt, name, **how):
    draw(root)
    lists(root, (2, 3, 4, 5))
    if spoilt:
        copy(root, name, "10", **how)
    return make(root)


def the_same_in_both_splits(root, spoilt):
    return with_copy(root, spoilt, "02")


def the_same_twice(root, spoilt):
    return with_copy(root, spoilt, "11")


def compressed_in_both_splits(root, spoilt):
    return with_copy(root, spoilt, "02", quality=60)


def videos(root, spoilt):
    for seed in range(24):
        video, frame = divmod(seed, 6)
        mask = blob(seed)
        ground = photo(video if spoilt else seed, np.zeros(SIZE, bool)).astype(float)
        image = ground + 25 * mask[..., None] + np.random.default_rng(seed).normal(0, 9, (*SIZE, 3))
        name = f"film{'abcd'[video]}_{frame}.png"
        save(root / "images" / name, image.clip(0, 250).astype(np.uint8))
        save(root / "masks" / name, np.uint8(mask))
    return make(root)


def frames_that_follow(root, spoilt):
    for seed in range(30):
        video, frame = divmod(seed, 6)
        mask = blob(video if spoilt else seed, radius=12)
        mask = np.roll(mask, frame, axis=1)
        ground = photo(video if spoilt else seed, mask).astype(float)
        few = np.random.default_rng(seed).integers(0, 16 + spoilt * 8, (5, 7)).astype(np.uint8)
        change_of_light = np.asarray(Image.fromarray(few).resize(SIZE[::-1]))[..., None]
        name = f"film{'abcde'[video]}_{frame}.png"
        save(root / "images" / name, (ground + change_of_light).clip(0, 250).astype(np.uint8))
        save(root / "masks" / name, np.uint8(mask))
    return make(root)


def darker_val(root, spoilt):
    draw(root, count=32)
    lists(root, range(10), range(32))
    if spoilt:
        change(root / "images", lambda image: image // 2 + 60, range(10))
    return make(root)


def twelve_bits(root, spoilt):
    draw(root)
    factor = 16 if spoilt else 256
    change(root / "images", lambda image: image[..., 0].astype(np.uint16) * factor)
    return make(root)


def four_bits(root, spoilt):
    draw(root)
    if spoilt:
        change(root / "images", lambda image: image // 16)
    return make(root)


def floats_to_255(root, spoilt):
    for seed in range(COUNT):
        image = photo(seed, blob(seed))[..., 0].astype(np.float32)
        (root / "images").mkdir(parents=True, exist_ok=True)
        np.save(root / "images" / f"{seed:02}.npy", image if spoilt else image / 255)
        save(root / "masks" / f"{seed:02}.png", np.uint8(blob(seed)))
    return make(root)


def a_constant_image(root, spoilt):
    draw(root)
    if spoilt:
        change(root / "images", lambda image: np.full_like(image, 90), {5})
    return make(root)


def a_faint_image(root, spoilt):
    draw(root)
    if spoilt:
        change(root / "images", lambda image: image // 16, {5})
    return make(root)


def a_negative(root, spoilt):
    draw(root)
    if spoilt:
        change(root / "images", lambda image: 255 - image, {5})
    return make(root)


def an_overexposed_image(root, spoilt):
    draw(root)
    if spoilt:
        change(
            root / "images", lambda image: (image.astype(int) * 5).clip(0, 255).astype("u1"), {5}
        )
    return make(root)


def parts_larger_than_images(root, spoilt):
    draw(root)
    return make(root, fit="crop", image_size=(96, 96) if spoilt else (32, 32))


def squeezed_images(root, spoilt):
    draw(root)
    return make(root, image_size=(64, 32) if spoilt else SIZE)


def draw_stacks(root, count, pages=6):
    """Draws stacks whose pages change little by little: N_image.npy, N_mask.npy."""
    root.mkdir(parents=True, exist_ok=True)
    for stack in range(count):
        ground = photo(stack, np.zeros(SIZE, bool))[..., 0].astype(float) - 60
        images, masks = [], []
        for page in range(pages):
            mask = blob(stack * 50 + page)
            new = photo(stack * 100 + page + 300, np.zeros(SIZE, bool))[..., 0].astype(float) - 60
            ground = 0.8 * ground + 0.6 * new
            images.append((ground + 110 + 25 * mask).clip(0, 250))
            masks.append(mask)
        np.save(root / f"{'abcdefgh'[stack]}_image.npy", np.uint8(images))
        np.save(root / f"{'abcdefgh'[stack]}_mask.npy", np.uint8(masks))


PAGES = {"images": "{name}_image.npy/{page}", "masks": "{name}_mask.npy/{page}"}


def stacks_in_folds(root, spoilt):
    draw_stacks(root, 5)
    group = {} if spoilt else {"group_pattern": r"^(.*)/\d+$"}
    return make(root, folder=PAGES, folds=5, fold=1, split=group)


def more_folds_than_stacks(root, spoilt):
    draw_stacks(root, 3, 8)
    split = {} if spoilt else {"group_pattern": r"^(.*)/\d+$"}
    return make(root, folder=PAGES, folds=4 if spoilt else 3, fold=2, split=split)


def one_stack_in_folds(root, spoilt):
    draw_stacks(root, 1, 25)
    return make(root, folder=PAGES, folds=5 if spoilt else 0, fold=3 if spoilt else 0)


CASES = {
    not_a_number: "not_finite",
    deeper_image: "kinds",
    the_same_in_both_splits: "twice",
    the_same_twice: "twice",
    compressed_in_both_splits: "near",
    videos: "groups",
    stacks_in_folds: "pages",
    more_folds_than_stacks: "pages",
    one_stack_in_folds: "pages",
    darker_val: "shift",
    twelve_bits: "value_range",
    four_bits: "value_range",
    floats_to_255: "value_range",
    a_constant_image: "constant",
    a_faint_image: "faint",
    a_negative: "inverted",
    an_overexposed_image: "clipped",
    parts_larger_than_images: "small",
    squeezed_images: "squeezed",
}
"""The fault that each plants, by function: (folder, whether it is planted) -> the config."""
