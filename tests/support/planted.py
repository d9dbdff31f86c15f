"""Small folders of images and masks, each with a fault planted or, as its twin, without."""

import io

import numpy as np
from PIL import Image

from support.encoded import indexed
from unet_jax.defaults import page

COUNT, SIZE = 16, (48, 64)
NAMES = ("back", "disk")
HOLDERS = (0, 3, 4, 5, 9, 14)  # none of which the seed 0 draws for validation
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def blob(seed, size=SIZE, radius=None):
    """Returns where a disk of some radius lies, bool [H, W]."""
    rng = np.random.default_rng(seed)
    radius = radius or int(rng.integers(9, 14))
    centre = [rng.integers(radius, n - radius) for n in size]
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2


def photo(seed, mask, bright=110):
    """Draws a bright disk before a dark ground that no other image has: uint8 [H, W, 3]."""
    rng = np.random.default_rng(1000 + seed)
    few = Image.fromarray(rng.integers(0, 90, (6, 8, 3), np.uint8))
    ground = np.asarray(few.resize(mask.shape[::-1], Image.Resampling.BICUBIC), np.float64)
    image = ground + bright * mask[..., None] + rng.normal(20, 4, (*mask.shape, 3))
    return image.clip(0, 250).astype(np.uint8)


def save(file, array, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    opened = array if isinstance(array, Image.Image) else Image.fromarray(array)
    opened.save(file, **options)


def draw(root, count=COUNT, size=SIZE, radius=None, label=None):
    """Draws a folder without faults: images/N.png, masks/N.png."""
    for seed in range(count):
        mask = blob(seed, size, radius)
        save(root / "images" / f"{seed:02}.png", photo(seed, mask), compress_level=1)
        save(root / "masks" / f"{seed:02}.png", label(seed, mask) if label else np.uint8(mask))


def stripes(shape, values):
    """Returns a mask [H, W] whose columns hold some values in turn."""
    return np.resize(np.array(values, np.uint8), shape[1])[None].repeat(shape[0], 0)


def read(file):
    return np.array(Image.open(file))


def change(folder, function, which=None):
    """Saves images, or those of some numbers, as a function makes them of what they were."""
    for number, file in enumerate(sorted(folder.iterdir())):
        if which is None or number in which:
            save(file, function(read(file)))


def make(root, **changes):
    """Returns the config of a folder; changes are by key below config.data, with _ for a dot."""
    folder = {"class_names": NAMES, **changes.pop("folder", {})}
    data = {"source": "folder", "path": str(root), "image_size": SIZE, "val_fraction": 0.25}
    data |= {**changes, "folder": folder}
    loss = {"cross_entropy": {"weight": 1.0}}
    train = {"duration": "2 steps", "batch_size": 4, "eval_every": "2 steps"}
    return page(data=data, model={"features": (4, 8, 8)}, loss=loss, train=train)


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


def copy(root, one, other, quality=0):
    for kind in ("images", "masks"):
        save(root / kind / f"{other}.png", read(root / kind / f"{one}.png"))
    if quality:
        data = io.BytesIO()
        Image.open(root / "images" / f"{one}.png").save(data, "JPEG", quality=quality)
        save(root / "images" / f"{other}.png", read(data))


def lists(root, val, train=range(COUNT)):
    (root / "val.txt").write_text("".join(f"{n:02}\n" for n in val))
    (root / "train.txt").write_text("".join(f"{n:02}\n" for n in train if n not in val))


def the_same_in_both_splits(root, spoilt):
    draw(root)
    lists(root, (2, 3, 4, 5))
    if spoilt:
        copy(root, "02", "10")
    return make(root)


def the_same_twice(root, spoilt):
    draw(root)
    lists(root, (2, 3, 4, 5))
    if spoilt:
        copy(root, "11", "10")
    return make(root)


def compressed_in_both_splits(root, spoilt):
    draw(root)
    lists(root, (2, 3, 4, 5))
    if spoilt:
        copy(root, "02", "10", quality=60)
    return make(root)


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
    not_a_number: "not_finite",
    deeper_image: "kinds",
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
    flipped_masks: "turned",
    turned_masks: "turned",
    moved_masks: "moved",
    the_same_in_both_splits: "twice",
    the_same_twice: "twice",
    compressed_in_both_splits: "near",
    videos: "groups",
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
    tiny_objects: "small_objects",
}
"""The fault that each plants, by function: (folder, whether it is planted) -> the config."""
