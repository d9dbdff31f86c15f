"""The commands of docs/data.md open the miniatures of what they name, with the labels they mean."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from support import miniatures
from support.paths import ROOT

from unet_jax.config import call
from unet_jax.data.check import check as check_split
from unet_jax.data.sources import open_data
from unet_jax.studies.pages import make_config, parse_overrides

PAGE = (ROOT / "docs" / "data.md").read_text()
TRIANGLE = [(0.5, 0.5), (12.7, 4.2), (3.1, 8.6)]
FLAT = [n for point in TRIANGLE for n in point]


def membrane(root: Path) -> None:
    """train/image and train/label of 0 and 255; test/image alone."""
    for number in range(4):
        image, mask = miniatures.draw(number, [0, 255])
        miniatures.save(root / f"train/image/{number}.png", image)
        miniatures.save(root / f"train/label/{number}.png", mask)
        miniatures.save(root / f"test/image/{number}.png", image)


MAKERS = {
    "CamVid": miniatures.camvid,
    "VOCdevkit": lambda root: miniatures.voc(root / "VOC2012"),
    "cityscapes": lambda root: miniatures.cityscapes(root, "labelIds"),
    "ADEChallengeData2016": miniatures.ade20k,
    "coco": lambda root: miniatures.coco(root, {"a": [(3, [FLAT])], "b": []}),
    "yolo": lambda root: miniatures.yolo(root, {"a": [(1, TRIANGLE)], "b": []}),
    "stage1_train": miniatures.objects,
    "labelme": lambda root: miniatures.labelme(root, {n: [("cat", TRIANGLE)] for n in "ab"}),
    "membrane": membrane,
    "isbi": miniatures.stacks,
    "CamVidKaggle": miniatures.camvid_by_colour,
    "brains": miniatures.channels,
    "DRIVE": miniatures.drive,
}


def commands():
    blocks = "\n".join(re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL))
    lines = re.sub(r"\s*\\\n\s*", " ", blocks)
    found = re.findall(r"^python .*data\.path=(\S+) .*$", lines, flags=re.MULTILINE)
    texts = re.findall(r"^python .*$", lines, flags=re.MULTILINE)
    return dict(zip(found, map(shlex.split, texts), strict=True))


def test_every_layout_has_a_command():
    assert set(commands()) == set(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_a_documented_command_reads_what_it_names(name, tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_JAX_CACHE", str(tmp_path / "cache"))
    MAKERS[name](tmp_path / name)
    page, *flags = [flag for flag in commands()[name] if flag.startswith("--config")]
    keys = [flag.removeprefix("--config.") for flag in flags]
    page = str(ROOT / page.removeprefix("--config="))
    config = make_config(page, parse_overrides(page, keys))
    config.data.path = str(tmp_path / name)
    config.data.val_fraction = 0.4
    dataset, _ = call(open_data, "config.data", config.data)
    assert {"train", "val"} <= set(dataset.splits)
    for split, source in dataset.splits.items():
        check_split(source, split)
        values = np.unique(
            [value for i in range(len(source)) for value in source.read(i).label.flat]
        )
        assert set(values.tolist()) <= {*range(len(dataset.class_names)), 255}
