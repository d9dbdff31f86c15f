"""Generators of small data sets in the layouts of downloads, with the labels that they mean."""

import json
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

RNG_SHAPES = [(5, 7), (9, 4), (1, 3), (16, 16)]


def save(file: Path, array: np.ndarray, palette: list[int] | None = None) -> None:
    """Writes an array as an image file, an indexed one where there is a palette."""
    file.parent.mkdir(parents=True, exist_ok=True)
    opened = Image.fromarray(np.asarray(array, np.uint8))
    if palette:
        opened.putpalette(palette)
    opened.save(file)


def draw(seed: int, values: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Draws an image [H, W, 3] and a mask [H, W] of some values, of an odd size."""
    rng = np.random.default_rng(seed)
    shape = RNG_SHAPES[seed % len(RNG_SHAPES)]
    return rng.integers(0, 256, (*shape, 3)).astype(np.uint8), rng.choice(values, shape)


def camvid(root: Path) -> dict[str, np.ndarray]:
    """SegNet's CamVid: train/NAME.png, trainannot/NAME.png."""
    masks = {}
    for number, split in enumerate(("train", "train", "val", "test")):
        name = f"0006R0_f0{number:04}"
        image, masks[f"{split}/{name}"] = draw(number, [*range(12)])
        save(root / split / f"{name}.png", image)
        save(root / f"{split}annot" / f"{name}.png", masks[f"{split}/{name}"])
    (root / "train.txt").write_text("/SegNet/CamVid/train/x.png /SegNet/CamVid/trainannot/x.png\n")
    return masks


COLOURS = {"Sky": (128, 128, 128), "Void": (0, 0, 0), "Car, parked": (64, 0, 128)}


def camvid_by_colour(root: Path, listing: str = "class_dict.csv") -> dict[str, np.ndarray]:
    """Kaggle's CamVid: train/NAME.png, train_labels/NAME_L.png in colour, class_dict.csv."""
    masks, colours = {}, np.array(list(COLOURS.values()))
    for number, split in enumerate(("train", "train", "val", "test")):
        image, masks[f"{split}/{number}"] = draw(number, [0, 1, 2])
        save(root / split / f"{number}.png", image)
        save(root / f"{split}_labels" / f"{number}_L.png", colours[masks[f"{split}/{number}"]])
    if listing == "labelmap.txt":
        lines = [f"{name}:{','.join(map(str, rgb))}::" for name, rgb in COLOURS.items()]
        text = "# label:color_rgb:parts:actions\n" + "\n".join(lines)
    else:
        lines = [f'"{name}",{", ".join(map(str, rgb))}' for name, rgb in COLOURS.items()]
        text = "name,r,g,b\n" + "\n".join(lines)
    (root / listing).write_text(text + "\n")
    return masks


def drive(root: Path) -> dict[str, np.ndarray]:
    """DRIVE: training/{images/21_training.tif, 1st_manual/21_manual1.gif, mask/...}."""
    masks = {}
    for number, split in ((21, "training"), (22, "training"), (1, "test"), (2, "test")):
        image, mask = draw(number, [0, 255])
        view = np.random.default_rng(number).choice([0, 255], mask.shape)
        mask[0, 0], view[0, 0] = 0, 255
        name, greys = f"{number:02}_{split}", [*np.repeat(range(256), 3)]
        save(root / split / "images" / f"{name}.tif", image)
        save(root / split / "1st_manual" / f"{number:02}_manual1.gif", mask, greys)
        save(root / split / "mask" / f"{name}_mask.gif", view, greys)
        masks[f"{split}/{number:02}"] = np.where(view == 0, -1, mask)
    return masks


def split_folders(root: Path, inner: bool, images: str, masks: str) -> dict[str, np.ndarray]:
    """train/images/NAME.png with train/masks/NAME.png; or images/train/NAME.png and so on."""
    found = {}
    for number, split in enumerate(("train", "train", "valid", "test")):
        image, found[f"{split}/{number}"] = draw(number, [0, 1])
        for folder, array in ((images, image), (masks, found[f"{split}/{number}"])):
            place = f"{split}/{folder}" if inner else f"{folder}/{split}"
            save(root / place / f"{number}.png", array)
    return found


def voc(root: Path) -> dict[str, np.ndarray]:
    """PASCAL VOC: JPEGImages/, SegmentationClass/ and lists; most images have no mask."""
    masks, lists = {}, {"train": ["2007_1", "2007_3"], "val": ["2007_2"]}
    palette = [*np.random.default_rng(0).integers(0, 256, 768)]
    for number, name in enumerate(("2007_1", "2007_2", "2007_3", "2008_9")):
        image, mask = draw(number, [*range(21), 255])
        save(root / "JPEGImages" / f"{name}.jpg", image)
        if name != "2008_9":
            masks[name] = mask
            save(root / "SegmentationClass" / f"{name}.png", mask, palette)
    for split, names in lists.items():
        file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(names) + "\n")
    return masks


def cityscapes(root: Path, kind: str) -> dict[str, np.ndarray]:
    """Cityscapes: leftImg8bit/train/CITY/..., gtFine/train/CITY/...; masks of the test are void."""
    masks = {}
    places = (("train", "aachen"), ("train", "ulm"), ("val", "munster"), ("test", "bonn"))
    values = [*range(34)] if kind == "labelIds" else [*range(19), 255]
    for number, (split, city) in enumerate(places):
        image, mask = draw(number, values)
        name = f"{city}_000000_00001{number}"
        save(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", image)
        save(root / f"gtFine/{split}/{city}/{name}_gtFine_{kind}.png", mask * (split != "test"))
        save(root / f"gtFine/{split}/{city}/{name}_gtFine_instanceIds.png", mask)
        masks[f"{split}/{city}/{name}"] = mask
    return masks


def ade20k(root: Path) -> dict[str, np.ndarray]:
    """ADE20K: images/training/ADE_train_00000001.jpg, annotations/training/..., names in a text."""
    masks = {}
    for number, split in enumerate(("training", "training", "validation")):
        name = f"ADE_{split[:5]}_{number:08}"
        image, masks[f"{split}/{name}"] = draw(number, [*range(151)])
        save(root / f"images/{split}/{name}.jpg", image)
        save(root / f"annotations/{split}/{name}.png", masks[f"{split}/{name}"])
    lines = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    lines += [f"{k}\t0.1\t5\t6\t1\tname {k}, other {k}" for k in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(lines))
    return masks


def stacks(root: Path, dtype: str = "uint8") -> tuple[np.ndarray, np.ndarray]:
    """ISBI 2012: train-volume.tif, train-labels.tif and test-volume.tif; returns both of train."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 256, (12, 9, 5)).astype(dtype)
    labels = rng.choice([0, 255], volume.shape).astype(np.uint8)
    for name, pages in {
        "train-volume": volume,
        "train-labels": labels,
        "test-volume": volume,
    }.items():
        tifffile.imwrite(root / f"{name}.tif", pages, photometric="minisblack")
    return volume, labels


def channels(root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """t1/NAME.png, t2/NAME.png (grey) and rgb/NAME.png; masks/NAME.png of 0 and 1."""
    found = {}
    for number in range(4):
        image, mask = draw(number, [0, 1])
        found[str(number)] = np.concatenate([image[..., 1:], image], axis=-1), mask
        for folder, array in (("t1", image[..., 1]), ("t2", image[..., 2]), ("rgb", image)):
            save(root / folder / f"{number}.png", array)
        save(root / "masks" / f"{number}.png", mask)
    return found


def objects(root: Path) -> dict[str, np.ndarray]:
    """Data Science Bowl: ID/images/ID.png and a file for each object in ID/masks/."""
    masks = {}
    for number in range(4):
        image, ids = draw(number, [0, 1, 2, 3])
        ids[0, 0] = 1
        masks[f"id{number}"] = ids
        save(root / f"id{number}/images/id{number}.png", image)
        for value in np.unique(ids[ids > 0]):
            save(root / f"id{number}/masks/{value}.png", 255 * (ids == value))
    return masks


def coco(root: Path, kinds: dict[str, list]) -> None:
    """COCO: annotations/instances_train2017.json; kinds are (category, segmentation) by image."""
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    for split in ("train2017", "val2017"):
        images, annotations = [], []
        for number, (name, objects) in enumerate(kinds.items()):
            save(root / split / f"{name}.png", np.zeros((9, 13, 3)))
            images.append({"id": number, "file_name": f"{name}.png", "height": 9, "width": 13})
            for category, segmentation in objects:
                one = {"id": len(annotations), "image_id": number, "category_id": category}
                annotations.append(one | {"segmentation": segmentation, "iscrowd": 0})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))


def yolo(root: Path, kinds: dict[str, list]) -> None:
    """YOLO: data.yaml, images/train/NAME.png, labels/train/NAME.txt; kinds are (class, points)."""
    (root / "labels/train").mkdir(parents=True)
    (root / "data.yaml").write_text("path: ../x\nnames:\n  0: cat\n  1: dog\n")
    for name, polygons in kinds.items():
        save(root / f"images/train/{name}.png", np.zeros((9, 13, 3)))
        lines = [
            f"{k} {' '.join(f'{x / 13:.17g} {y / 9:.17g}' for x, y in points)}"
            for k, points in polygons
        ]
        if lines:
            (root / f"labels/train/{name}.txt").write_text("\n".join(lines))


def labelme(root: Path, kinds: dict[str, list]) -> None:
    """LabelMe: NAME.json beside NAME.png; kinds are (label, points) by image."""
    for name, polygons in kinds.items():
        save(root / f"{name}.png", np.zeros((9, 13, 3)))
        shapes = [
            {"label": label, "points": points, "shape_type": "polygon"}
            for label, points in polygons
        ]
        content = {"shapes": shapes, "imagePath": f"{name}.png", "imageData": None}
        content |= {"imageHeight": 9, "imageWidth": 13}
        (root / f"{name}.json").write_text(json.dumps(content))
