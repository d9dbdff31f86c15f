"""The groups of a split's images, which intervals over images draw whole."""

import numpy as np
import pytest
from PIL import Image
from support import miniatures

from unet_jax.data.sources import open_data

NAMES = [f"p{p}/scan{s}" for p in range(6) for s in range(3)]


def opened(root, split=None, **given):
    for name in NAMES:
        for kind, array in (("images", np.zeros((3, 5, 3))), ("masks", np.zeros((3, 5)))):
            file = root / kind / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(file)
    section = {"class_names": ("sky", "sea")}
    data = {"source": "folder", "path": str(root), "folder": section, "split": split or {}}
    return open_data(**data, val_fraction=0.4, **given)[0]


WAYS = {
    "folders": {"group_folders": 1},
    "pattern": {"group_pattern": r"^(p\d)/"},
    "table": {"group_column": "patient", "table": "table.csv"},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_image_has_its_group_also_where_a_run_keeps_its_splits(tmp_path, way):
    rows = [f"{name},{name[:2]}" for name in NAMES]
    (tmp_path / "table.csv").write_text("\n".join(["name,patient", *rows]))
    dataset = opened(tmp_path, WAYS[way])
    for source in dataset.splits.values():
        assert list(dataset.grouping(source)) == [name[:2] for name in source.ids]
    kept = {"train": NAMES[3:], "val": [NAMES[2], NAMES[0]]}
    dataset = opened(tmp_path, WAYS[way], kept=kept)
    assert list(dataset.grouping(dataset.splits["val"])) == ["p0", "p0"]


def test_images_without_a_rule_stand_for_themselves(tmp_path):
    dataset = opened(tmp_path)
    assert list(dataset.grouping(dataset.splits["train"])) == []
    drawn = open_data(source="synthetic")[0]
    assert list(drawn.grouping(drawn.splits["val"])) == []


def test_pages_of_a_stack_are_one_group(tmp_path):
    miniatures.stacks(tmp_path, "uint8")
    dataset = open_data(source="folder", path=str(tmp_path))[0]
    train = dataset.splits["train"]
    assert list(dataset.grouping(train)) == [str(tmp_path / "train-volume.tif")] * len(train)
