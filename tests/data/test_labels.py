import numpy as np
import pytest
import tifffile
from PIL import Image
from support.encoded import indexed

from unet_jax.data.base import IGNORE
from unet_jax.data.check import check as check_split
from unet_jax.data.folder import open_folder
from unet_jax.data.labels import write_values
from unet_jax.errors import UserError

SHAPES = [(1, 1), (5, 7), (13, 4), (32, 31)]
COLOURS = {(0, 0, 0): 0, (128, 0, 0): 1, (64, 128, 5): 2, (255, 255, 255): IGNORE}
NAMES = ("a", "b", "c")
BY_COLOUR = {
    "class_names": NAMES,
    "label_map": tuple((colour, k) for colour, k in COLOURS.items() if k != IGNORE),
    "ignore_values": ((255, 255, 255),),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))


def fill(root, masks, kind="png", **options):
    """Writes images and masks, each an array or an opened image."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number, mask in enumerate(masks):
        opened = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        shape = (opened.height, opened.width, 3)
        Image.fromarray(np.full(shape, number, np.uint8)).save(root / f"images/{number}.png")
        opened.save(root / f"masks/{number}.{kind}", **options)
    return str(root)


def labels(root, **given):
    """Opens the folder; the labels of all splits by name, after the check of every file."""
    splits = open_folder(root, 0.5, 0, **given).splits
    for name, split in splits.items():
        check_split(split, name)
    samples = [split.read(i) for split in splits.values() for i in range(len(split))]
    return {sample.id: sample.label for sample in samples}


def looked_up(image, table):
    """What each pixel [H, W] of an image is in a table, by a loop."""
    rows, columns = image.shape[:2]
    label = np.zeros((rows, columns), np.uint8)
    for y in range(rows):
        for x in range(columns):
            pixel = image[y, x]
            label[y, x] = table[tuple(pixel.tolist()) if pixel.ndim else int(pixel)]
    return label


def of_colours(shape, seed):
    colours = np.array(list(COLOURS), np.uint8)
    return colours[np.random.default_rng(seed).integers(0, len(COLOURS), shape)]


@pytest.mark.parametrize("shape", SHAPES)
def test_colours_are_classes(tmp_path, shape):
    masks = [of_colours(shape, 1), of_colours(shape, 2)]
    masks[0][0, 0] = masks[1][0, 0] = 0  # a pixel that counts
    found = labels(fill(tmp_path / "d", masks), **BY_COLOUR)
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(found[str(number)], looked_up(mask, COLOURS))
        assert found[str(number)].dtype == np.uint8


def test_windows_of_masks_by_colour(tmp_path):
    masks = [of_colours((9, 7), 1), of_colours((9, 7), 2)]
    split = open_folder(fill(tmp_path / "d", masks), 0.5, 0, **BY_COLOUR).splits["train"]
    whole = split.read(0).label
    part = split.read(0, (slice(2, 7), slice(3, 4))).label
    np.testing.assert_array_equal(part, whole[2:7, 3:4])


def test_palettes_that_differ_agree_by_colour_and_are_refused_by_index(tmp_path):
    ids = np.random.default_rng(0).integers(0, 3, (6, 5))
    colours = [(0, 0, 0), (128, 0, 0), (64, 128, 5)]
    turned = [colours[2], colours[0], colours[1]]
    root = fill(tmp_path / "d", [indexed(ids, colours), indexed((ids + 1) % 3, turned)])
    found = labels(root, **BY_COLOUR)
    np.testing.assert_array_equal(found["0"], ids)
    np.testing.assert_array_equal(found["1"], ids)
    with pytest.raises(UserError, match=r"palettes differ.*label_map=\(\(\(64, 128, 5\), 0\)"):
        labels(root, class_names=NAMES)


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "tif"])
def test_grey_indexed_and_transparent_masks_by_colour(tmp_path, kind):
    grey = np.array([[0, 255, 7], [7, 0, 255]], np.uint8)
    given = {
        "class_names": ("a", "b", "c"),
        "label_map": (((0,) * 3, 0), ((255,) * 3, 1), ((7,) * 3, 2)),
    }
    masks = [grey, np.stack([grey] * 3 + [grey // 2], axis=-1) if kind == "png" else grey]
    found = labels(fill(tmp_path / "d", masks, kind), **given)
    for label in found.values():
        np.testing.assert_array_equal(label, looked_up(grey, {0: 0, 255: 1, 7: 2}))


def test_other_colours_are_told_with_their_counts(tmp_path):
    masks = [of_colours((4, 5), 1), of_colours((4, 5), 2)]
    masks[0][:2, :2], masks[0][3, 4] = (1, 2, 3), (127, 0, 0)
    root = fill(tmp_path / "d", masks)
    with pytest.raises(UserError) as error:
        labels(root, **BY_COLOUR)
    assert str(error.value) == (
        f"{root}/masks/0.png is a mask with 2 colours that are no class: (1, 2, 3) at 4 pixels, "
        "(127, 0, 0) at 1 pixels. Allowed are (0, 0, 0), (128, 0, 0), (64, 128, 5), "
        "(255, 255, 255). Add them to config.data.folder.label_map or "
        "config.data.folder.ignore_values, or where compression or soft edges made them, set "
        "config.data.folder.nearest=True."
    )


def nearest_by_loop(image, allowed):
    """The first of the allowed values that is the nearest to each pixel."""
    rows, columns = image.shape[:2]
    label = np.zeros((rows, columns), np.uint8)
    for y in range(rows):
        for x in range(columns):
            pixel = np.atleast_1d(image[y, x]).astype(int).tolist()
            far = [sum((a - b) ** 2 for a, b in zip(pixel, v, strict=True)) for v, _ in allowed]
            label[y, x] = allowed[far.index(min(far))][1]
    return label


@pytest.mark.parametrize("shape", [(16, 24), (33, 17)])
def test_the_nearest_colour_of_jpeg_masks(tmp_path, shape):
    image = of_colours((shape[0] // 5 + 1, shape[1] // 5 + 1), 3).repeat(5, 0).repeat(5, 1)
    image = image[: shape[0], : shape[1]]
    root = fill(tmp_path / "d", [image, image[::-1]], "jpg", quality=60)
    with pytest.raises(UserError, match=r"masks/.\.jpg is a mask with \d+ colours that are no"):
        labels(root, **BY_COLOUR)
    found = labels(root, **BY_COLOUR, nearest=True)
    allowed = [*COLOURS.items()]
    for number in (0, 1):
        decoded = np.asarray(Image.open(f"{root}/masks/{number}.jpg"))
        assert len(np.unique(decoded.reshape(-1, 3), axis=0)) > len(COLOURS)
        np.testing.assert_array_equal(found[str(number)], nearest_by_loop(decoded, allowed))


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_the_nearest_value_of_soft_masks(tmp_path, kind):
    soft = np.arange(256, dtype=np.uint8).reshape(16, 16)
    root = fill(tmp_path / "d", [soft, soft.T], kind)
    given = {
        "class_names": NAMES,
        "label_map": ((0, 0), (255, 1), (101, 2)),
        "ignore_values": (50,),
    }
    with pytest.raises(UserError):
        labels(root, **given)
    found = labels(root, **given, nearest=True)
    allowed = [((0,), 0), ((50,), IGNORE), ((101,), 2), ((255,), 1)]  # ties: the smaller value
    for number in (0, 1):
        decoded = np.asarray(Image.open(f"{root}/masks/{number}.{kind}"))
        np.testing.assert_array_equal(found[str(number)], nearest_by_loop(decoded, allowed))


def test_nearest_of_rgb_jpeg_masks_takes_their_brightness(tmp_path):
    mask = np.zeros((16, 16, 3), np.uint8)
    mask[4:12, 5:] = 255
    root = fill(tmp_path / "d", [mask, mask], "jpg", quality=90)
    given = {"class_names": ("a", "b"), "label_map": ((0, 0), (255, 1)), "nearest": True}
    decoded = np.asarray(Image.open(f"{root}/masks/0.jpg")).astype(int)
    expected = (decoded.sum(axis=-1) > 3 * 127).astype(np.uint8)
    np.testing.assert_array_equal(labels(root, **given)["0"], expected)


def test_ranges_and_merged_values(tmp_path):
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    root = fill(tmp_path / "d", [mask, mask])
    given = {
        "class_names": NAMES,
        "label_map": ((0, 0), ("1-99", 1), (" 100 - 199", 2), (200, 1)),
        "ignore_values": ("201-254", 255),
    }
    table = {}
    for value in range(256):
        table[value] = 0 if value == 0 else 1 if value < 100 else 2 if value < 200 else IGNORE
    table[200] = 1
    found = labels(root, **given)
    np.testing.assert_array_equal(found["0"], looked_up(mask, table))


def test_instance_maps_are_anything_above_0(tmp_path):
    ids = np.random.default_rng(0).integers(0, 40, (11, 6)).astype(np.uint8)
    root = fill(tmp_path / "d", [ids, ids.T])
    given = {"class_names": ("background", "cell"), "label_map": ((0, 0), ("1-65535", 1))}
    np.testing.assert_array_equal(labels(root, **given)["1"], (ids.T > 0).astype(np.uint8))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"label_map": (((0, 0, 0), 0), (7, 1))}, r"label_map has \(7, 1\); where one entry names"),
        ({"label_map": (((0, 0), 0),)}, r"label_map has \(\(0, 0\), 0\); where one"),
        ({"label_map": (((0, 0, 256), 0),)}, r"label_map has \(\(0, 0, 256\), 0\)"),
        ({"label_map": (((0, 0, 0.0), 0),)}, r"label_map has \(\(0, 0, 0\.0\), 0\)"),
        ({"label_map": (((0, 0, 0), 3),)}, r"label_map has .*class id must be 0 to 2, since"),
        (
            {"label_map": (((0, 0, 0), 0), ((0, 0, 0), 1))},
            r"label_map and config\.data\.folder\.ignore_values name the colour \(0, 0, 0\) twice",
        ),
        (
            {"label_map": (((0, 0, 0), 0),), "ignore_values": (255,)},
            r"ignore_values has 255; where one entry names a colour, each must",
        ),
        ({"ignore_values": ((0, 0, 0),)}, r"ignore_values=.* names colours, so .*label_map must"),
        ({"label_map": (("9-1", 0),)}, r"label_map has \('9-1', 0\).* a range, such as '1-255'"),
        ({"label_map": (("65536-65537", 0),)}, r"label_map has \('65536-65537', 0\)"),
        ({"label_map": (("1", 0),)}, r"label_map has \('1', 0\)"),
        (
            {"label_map": (("1-9", 0), (9, 1))},
            r"label_map gives the mask value 9 to class 1 and it is in class 0",
        ),
        ({"ignore_values": ("x-y",)}, r"ignore_values has 'x-y'; each entry must be a mask value"),
    ],
)
def test_maps_that_do_not_fit(tmp_path, given, says):
    root = fill(tmp_path / "d", [np.zeros((2, 3), np.uint8)] * 2)
    with pytest.raises(UserError, match=rf"^config\.data\.folder\.{says}") as error:
        labels(root, class_names=NAMES, **given)
    assert "\n" not in str(error.value)


def test_nearest_by_class(tmp_path):
    (tmp_path / "d/images").mkdir(parents=True)
    (tmp_path / "d/masks").mkdir()
    soft = np.arange(256, dtype=np.uint8).reshape(8, 32)
    for name in "xy":
        Image.fromarray(soft).convert("RGB").save(tmp_path / f"d/images/{name}.png")
        Image.fromarray(soft).save(tmp_path / f"d/masks/{name}_cell.png")
    given = {"class_names": ("cell",), "by_class": True}
    np.testing.assert_array_equal(
        labels(str(tmp_path / "d"), **given)["x"][..., 0], (soft > 0).astype(np.uint8)
    )
    np.testing.assert_array_equal(
        labels(str(tmp_path / "d"), **given, nearest=True)["x"][..., 0],
        (soft > 127).astype(np.uint8),
    )


def test_many_values_are_written_as_ranges():
    assert write_values([3, 1, 2]) == "[1, 2, 3]"
    assert write_values([*range(65), 70, *range(90, 92)]) == "[0-64, 70, 90-91]"


def test_another_map_of_colours_is_checked_anew(tmp_path):
    mask = np.zeros((4, 4, 3), np.uint8)
    root = fill(tmp_path / "d", [mask, mask])
    fine = {"class_names": ("a", "b"), "label_map": (((0, 0, 0), 0), ((9, 9, 9), 1))}
    labels(root, **fine)
    other = fine | {"label_map": (((1, 0, 0), 0), ((9, 9, 9), 1))}
    split = open_folder(root, 0.5, 0, **other).splits["train"]
    with pytest.raises(UserError, match="colours that are no class"):
        check_split(split, "train")


def save_png(file, mask):
    Image.fromarray(mask.astype(np.uint16)).save(file)


def save_tiff(file, mask):
    tifffile.imwrite(file, mask, photometric="minisblack")


OBJECTS = {  # suffix, how it is written, the largest number
    "png of 16 bits": (".png", save_png, 65535),
    "tiff of 16 bits": (".tif", lambda file, mask: save_tiff(file, mask.astype("u2")), 65535),
    "tiff of 32 bits": (".tif", lambda file, mask: save_tiff(file, mask.astype("u4")), 2**32 - 1),
    "npy of 16 bits": (".npy", lambda file, mask: np.save(file, mask.astype("u2")), 65535),
    "npy of 32 bits": (".npy", lambda file, mask: np.save(file, mask.astype("i4")), 2**31 - 1),
    "npz of 64 bits": (".npz", lambda file, mask: np.savez(file, mask), 2**40),
}


@pytest.mark.parametrize("kind", OBJECTS)
@pytest.mark.parametrize("last", ["65535", "5000000000"])
def test_numbers_of_objects_of_any_size_are_one_class(tmp_path, kind, last):
    suffix, save, most = OBJECTS[kind]
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    masks = {}
    for number, name in enumerate("abc"):
        rng = np.random.default_rng(number)
        numbers = [0, 1, 255, 256, 257, 300, 65280, 65535, most]
        masks[name] = rng.choice(numbers, (7 + number, 5))
        masks[name].flat[: len(numbers)] = numbers
        np.save(tmp_path / "images" / f"{name}.npy", np.zeros(masks[name].shape, np.uint8))
        save(tmp_path / "masks" / f"{name}{suffix}", masks[name])
    given = {"class_names": ("a", "b"), "label_map": ((0, 0), (f"1-{last}", 1))}
    for name, split in open_folder(str(tmp_path), 0.34, 0, **given).splits.items():
        check_split(split, name)
        for index, image in enumerate(split.ids):
            label, part = split.read(index).label, split.read(index, (slice(2, 6), slice(1, 4)))
            for place, value in np.ndenumerate(masks[image]):
                assert label[place] == (value > 0)
            np.testing.assert_array_equal(part.label, label[2:6, 1:4])


def test_many_numbers_are_told_to_be_objects(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        np.save(tmp_path / "images" / f"{name}.npy", np.zeros((10, 30), np.uint8))
        np.save(tmp_path / "masks" / f"{name}.npy", np.arange(300).reshape(10, 30))
    split = open_folder(str(tmp_path), 0.5, 0, class_names=("a", "b")).splits["train"]
    with pytest.raises(UserError, match=r"label_map=\(\(0, 0\), \('1-65535', 1\)\)") as error:
        check_split(split, "train")
    assert len(str(error.value)) < 1000
